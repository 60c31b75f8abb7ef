"""Estimates of a study from the rows of a sweep, one per seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from qrft.evaluation.stats import Line, line_fit, mean
from qrft.report.sweep.points import seed

Row = Mapping[str, Any]
Rows = Sequence[Row]
Measure = Callable[[Rows], float | None]  # of the rows of one seed; None where they do not determine it

RFT = "rft.accuracy"


def per_seed(rows: Rows, measure: Measure) -> list[float]:
    """Return the measure of each seed's rows, without the seeds that do not determine it."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(seed(row), []).append(row)
    return [value for group in groups.values() if (value := measure(group)) is not None]


def of_models(measure: Measure) -> Measure:
    """Return the measure that takes the mean of another one over the models that determine it."""

    def averaged(rows: Rows) -> float | None:
        names = dict.fromkeys(row["model"] for row in rows)
        values = [measure([row for row in rows if row["model"] == name]) for name in names]
        known = [value for value in values if value is not None]
        return mean(known) if known else None

    return averaged


def setting(rows: Rows, name: str) -> str:
    """Return the column of a sweep's key, written in full or by its last part; "" where it was not swept."""
    keys = (key for row in rows for key in row if key.startswith("sweep."))
    return next((key for key in keys if key == f"sweep.{name}" or key.endswith(f".{name}")), "")


def means(rows: Rows, x: str, y: str, by: str = "") -> tuple[list[float], list[float]]:
    """Return the places and heights of y over x, with one point for each value of the column `by`, or else of x."""
    points: dict[Any, list[tuple[float, float]]] = {}
    for row in rows:
        if row.get(x) is not None and row.get(y) is not None:
            points.setdefault(row[by or x], []).append((float(row[x]), float(row[y])))
    xs, ys = ([mean(pair[side] for pair in pairs) for pairs in points.values()] for side in (0, 1))
    return xs, ys


def slope(x: str, y: str, *, log: bool = False, by: str = "") -> Measure:
    """Return the measure of how many points y, a share, rises per unit of x, or with log per doubling of x."""

    def measure(rows: Rows) -> float | None:
        xs, ys = means(rows, x, y, by)
        fit = line_fit([math.log2(v) for v in xs] if log else xs, [100 * v for v in ys])
        return fit.slope if fit else None

    return measure


def r2(x: str, y: str, *, log: bool = False, by: str = "") -> Measure:
    """Return the measure of a line's R² through three or more points."""

    def measure(rows: Rows) -> float | None:
        xs, ys = means(rows, x, y, by)
        fit = line_fit([math.log2(v) for v in xs] if log else xs, ys) if len(xs) > 2 else None
        return fit.r2 if fit and len(set(ys)) > 1 else None

    return measure


def level(rows: Rows, column: str) -> float | None:
    """Return the mean of a share, in points."""
    values = [100 * row[column] for row in rows if row.get(column) is not None]
    return mean(values) if values else None


def less(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before


def changes(before: Rows, after: Rows, column: str = RFT) -> list[float]:
    """Return, per seed, the column of the rows after minus that of the rows before, in points.

    It is the mean over the models that have both.
    """
    marked = [*({**row, "is_after": False} for row in before), *({**row, "is_after": True} for row in after)]

    def difference(rows: Rows) -> float | None:
        first, second = (level([row for row in rows if row["is_after"] == side], column) for side in (False, True))
        return less(second, first)

    return per_seed(marked, of_models(difference))


def changes_of(rows: Rows, key: str, before: Any, after: Any) -> list[float]:
    """Return, per seed, RFT's accuracy with one value of a setting minus that with another, in points."""
    first, second = ([row for row in rows if key in row and row[key] == value] for value in (before, after))
    return changes(first, second)


def largest(rows: Rows, key: str) -> Any:
    """Return the largest value of a column; 0 where no row has one."""
    return max((row[key] for row in rows if row.get(key) is not None), default=0)


def fitted(xs: Sequence[float], ys: Sequence[float], *, log: bool = False) -> Line:
    """Return the least-squares line through published figures, with log over the logarithm to base 2 of x."""
    line = line_fit([math.log2(x) for x in xs] if log else xs, ys)
    assert line is not None, "the paper's own tables always determine a line"
    return line
