"""Figures of a study from a sweep's rows, one a seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from qrft.evaluation.stats import line_fit, mean
from qrft.report.sweep.cells import seed

Row = Mapping[str, Any]
Rows = Sequence[Row]
Figure = Callable[[Rows], float | None]  # of the rows of one seed; None where they can't give it


def per_seed(rows: Rows, figure: Figure) -> list[float]:
    """The figure of each seed's rows, without the seeds that can't give it."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(seed(row), []).append(row)
    return [value for group in groups.values() if (value := figure(group)) is not None]


def of_models(rows: Rows, figure: Figure) -> float | None:
    """The mean of a figure over the models."""
    names = dict.fromkeys(row["model"] for row in rows)
    found = [figure([row for row in rows if row["model"] == name]) for name in names]
    known = [value for value in found if value is not None]
    return mean(known) if known else None


def setting(rows: Rows, name: str) -> str:
    """The column of a sweep's key, which may be written in full or by its last part; "" where it was not swept."""
    return next((key for row in rows for key in row if key == f"sweep.{name}" or (key.endswith(f".{name}")
                 and key.startswith("sweep."))), "")  # fmt: skip


def means(rows: Rows, x: str, y: str, by: str = "") -> tuple[list[float], list[float]]:
    """y against x, a point for each value of the column `by`, or else of x."""
    found: dict[Any, list[tuple[float, float]]] = {}
    for row in rows:
        if row.get(x) is not None and row.get(y) is not None:
            found.setdefault(row[by or x], []).append((float(row[x]), float(row[y])))
    xs, ys = ([mean(pair[side] for pair in pairs) for pairs in found.values()] for side in (0, 1))
    return xs, ys


def slope(rows: Rows, x: str, y: str, log: bool = False, by: str = "") -> float | None:
    """Points of y, a share, a doubling (log) or a unit of x."""
    xs, ys = means(rows, x, y, by)
    fit = line_fit([math.log2(v) for v in xs] if log else xs, [100 * v for v in ys])
    return fit.slope if fit else None


def r2(rows: Rows, x: str, y: str, log: bool = False, by: str = "") -> float | None:
    """Of a line through three or more points."""
    xs, ys = means(rows, x, y, by)
    fit = line_fit([math.log2(v) for v in xs] if log else xs, ys) if len(xs) > 2 else None
    return fit.r2 if fit and len(set(ys)) > 1 else None


def level(rows: Rows, column: str) -> float | None:
    """The mean of a share, in points."""
    values = [100 * row[column] for row in rows if row.get(column) is not None]
    return mean(values) if values else None


def difference(rows: Rows, column: str, is_second: str) -> float | None:
    """The rows that are second less those that are not, times 100: the mean over the models that have both."""

    def figure(own: Rows) -> float | None:
        before, after = (level([row for row in own if row[is_second] == side], column) for side in (False, True))
        return None if before is None or after is None else after - before

    return of_models(rows, figure)
