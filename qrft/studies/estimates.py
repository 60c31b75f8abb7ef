"""Measures of a study on the rows of a sweep, and what a comparison of two arms of it does not tell apart."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from qrft.evaluation.stats import Line, line_fit, mean
from qrft.studies.measured import Measure, Measured, Rows, over_seeds

MARGIN = 1.5  # points: less counts as nothing
UNEQUAL = 1.1  # times the tokens or more are a difference that a comparison has to tell


class Endpoint(NamedTuple):
    """What is compared: a share that each row has for its stages."""

    name: str
    words: str

    def of(self, stage: str) -> str:
        """Return the column of a stage, such as rft.accuracy."""
        return f"{stage}.{self.name}"


# The first that all rows have is the primary one: that of all samples has less noise than a single greedy answer.
ENDPOINTS = (Endpoint("pass@1", "pass@1 of the samples"), Endpoint("accuracy", "greedy accuracy"))


def endpoints(rows: Rows, stage: str = "rft") -> list[Endpoint]:
    """Return the endpoints that all rows with this stage have; greedy accuracy where there are none."""
    known = [row for row in rows if row.get(f"{stage}.accuracy") is not None]
    found = [end for end in ENDPOINTS if known and all(row.get(end.of(stage)) is not None for row in known)]
    return found or [ENDPOINTS[-1]]


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


def curvature(x: str, y: str) -> Measure:
    """Return the measure of how many points y, a share, bends per doubling of x squared: 0 for a line in log x.

    It is the coefficient of the square in a parabola over log2 x, by least squares; it takes three values of x.
    """

    def measure(rows: Rows) -> float | None:
        xs, ys = means(rows, x, y)
        return float(np.polyfit(np.log2(xs), 100 * np.array(ys), 2)[0]) if len(xs) > 2 else None

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


def span(rows: Rows, x: str, *, log: bool = False) -> float:
    """Return how far a column reaches, with log in doublings; infinite where it does not vary."""
    values = [math.log2(row[x]) if log else float(row[x]) for row in rows if row.get(x) is not None]
    return max(values, default=0.0) - min(values, default=0.0) or math.inf


class Arms(NamedTuple):
    """Two arms of a sweep compared: by how many points the second lies above the first, and what to know of it."""

    change: Measured | None
    caveats: tuple[str, ...]


ARMS = ("the former", "the latter")


def compared(before: Rows, after: Rows, end: Endpoint, names: tuple[str, str] = ARMS) -> Arms:
    """Compare two arms over their seeds: the mean over the models that have both. names: of the arms."""
    marked = [*({**row, "is_after": False} for row in before), *({**row, "is_after": True} for row in after)]

    def difference(rows: Rows) -> float | None:
        first, second = (with_value(rows, "is_after", side) for side in (False, True))
        return less(level(second, end.of("rft")), level(first, end.of("rft")))

    return Arms(
        over_seeds(marked, of_models(difference)), (*unequal_training(before, after, names), *equal_sets(before, after))
    )


def with_value(rows: Rows, key: str, value: Any) -> Rows:
    """Return the rows that have a setting, with this value."""
    return [row for row in rows if key in row and row[key] == value]


def unequal_training(
    before: Rows, after: Rows, names: tuple[str, str], stages: tuple[str, str] = ("rft", "rft")
) -> Iterator[str]:
    """Say how much longer one arm was trained, where that may be the difference."""
    tokens = [
        mean(row.get(f"trained_tokens.{stage}") or 0 for row in rows)
        for stage, rows in zip(stages, (before, after), strict=True)
    ]
    ratio = tokens[1] / tokens[0] if all(tokens) else 1.0
    if max(ratio, 1 / ratio) >= UNEQUAL:
        fewer, more = names if ratio > 1 else names[::-1]
        yield (
            f"Not told apart from longer training: {more} had {max(ratio, 1 / ratio):.1f} times the trained tokens of "
            f"{fewer}"
        )


def equal_sets(before: Rows, after: Rows) -> Iterator[str]:
    """Say in how many pairs both arms trained on the same rows, so that there was nothing to compare."""
    keys = dict.fromkeys(key for row in (*before, *after) for key in row if key == "model" or key.startswith("sweep."))
    shared = [key for key in keys if _values(before, key) == _values(after, key)]  # the others tell the arms apart
    first, second = (
        {json.dumps([row.get(key) for key in shared]): row.get("hashes.training") for row in rows}
        for rows in (before, after)
    )
    pairs = [(first[cell], second[cell]) for cell in first if cell in second and first[cell] is not None]
    if same := sum(a == b for a, b in pairs):
        yield f"In {same} of {len(pairs)} pairs both arms were trained on the same rows, and could not differ"


def _values(rows: Rows, key: str) -> set[str]:
    return {json.dumps(row.get(key)) for row in rows}


def largest(rows: Rows, key: str) -> Any:
    """Return the largest value of a column; 0 where no row has one."""
    return max((row[key] for row in rows if row.get(key) is not None), default=0)


def fitted(xs: Sequence[float], ys: Sequence[float], *, log: bool = False) -> Line:
    """Return the least-squares line through published figures, with log over the logarithm to base 2 of x."""
    line = line_fit([math.log2(x) for x in xs] if log else xs, ys)
    assert line is not None, "the paper's own tables always determine a line"
    return line
