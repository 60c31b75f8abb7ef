"""Runs of a sweep as points of a plot: runs that differ only in their seeds are one point, with mean and interval."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from qrft.evaluation.stats import mean, mean_interval

Row = Mapping[str, Any]

SEEDS = ("sweep.seed", "sweep.problems.seed")
# The columns that hold the 95% interval, over problems, of a single run's value in another column.
BOUNDS = {
    **{f"{model}.accuracy": (f"{model}.low", f"{model}.high") for model in ("base", "sft", "rft", "icl")},
    **{key: (f"{key}.low", f"{key}.high") for key in (f"{model}.flexible" for model in ("base", "sft", "rft", "icl"))},
    "gain": ("gain_low", "gain_high"),
    "value": ("low", "high"),
    "distinct_paths": ("distinct_paths_low", "distinct_paths_high"),
}


class Point(NamedTuple):
    """A mean over seeds; low and high are equal to y where no interval is known."""

    x: float
    y: float
    low: float
    high: float
    num_seeds: int
    series: str
    name: str  # the settings that set it apart from the others


def word(value: Any) -> str:
    """Return a setting's value in a few letters."""
    if isinstance(value, float):
        return fraction(value)
    if isinstance(value, Mapping):
        return "+".join(f"{key} {word(inner)}" for key, inner in value.items() if inner is not None) or "none"
    if isinstance(value, list | tuple):
        return "+".join(map(word, value)) or "none"
    return value if isinstance(value, str) else json.dumps(value)


def fraction(value: float) -> str:
    """Return 1/8 for 0.125, and other numbers as they are."""
    inverse = 1 / value if value else 0.0
    return f"1/{round(inverse)}" if inverse > 1.5 and abs(inverse - round(inverse)) < 1e-9 else f"{value:g}"


def settings(rows: Sequence[Row]) -> list[str]:
    """Return the columns that distinguish settings: the model and the keys of the sweep, if they vary; no seeds."""
    keys = dict.fromkeys(key for row in rows for key in row if key == "model" or key.startswith("sweep."))
    return [key for key in keys if key not in SEEDS and len({_plain(row.get(key)) for row in rows}) > 1]


def matters(rows: Sequence[Row], keys: Sequence[str], key: str, column: str) -> bool:
    """Return whether a setting changes a column. Runs share what it does not change, such as SFT for every k."""
    found: dict[tuple[str, ...], set[str]] = {}
    for row in rows:
        others = _values(row, [other for other in (*keys, *SEEDS) if other != key])
        found.setdefault(others, set()).add(_plain(row[column]))
    return any(len(values) > 1 for values in found.values())


MAX_SERIES = 8  # as many colours and shapes as a plot has


class Points(NamedTuple):
    listed: list[Point]
    averaged: list[str]  # settings that would make too many series, and are averaged over
    along: list[str]  # settings that change x within a series, with their ends: `num_samples 1 to 100`


def points(rows: Iterable[Row], x: str, y: str, within: Sequence[str] = ()) -> Points:
    """Return a point for each combination of settings that has both columns, by series and x.

    A series has one model and one value of each setting that changes y, except for numbers that change x: those lead
    along it. Where that makes more than MAX_SERIES, the settings with the most values are averaged over; models never
    are. within: columns that tell points of one run apart.
    """
    known = [row for row in rows if row.get(x) is not None and row.get(y) is not None]
    keys = settings(known)
    both = [*keys, *within]
    of_x = [key for key in keys if key != "model" and _are_numbers(known, key) and matters(known, both, key, x)]
    of_y = [key for key in keys if key == "model" or (key not in of_x and matters(known, both, key, y))]
    averaged: list[str] = []
    while len({_values(row, of_y) for row in known}) > MAX_SERIES and (left := [key for key in of_y if key != "model"]):
        widest = max(reversed(left), key=lambda key: len({_values(row, [key]) for row in known}))
        of_y.remove(widest)
        averaged.append(widest)
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in known:
        groups.setdefault(_values(row, [*of_y, *of_x, *within]), []).append(row)
    made = [_point(group, x, y, label(group[0], of_y), label(group[0], [*of_y, *of_x])) for group in groups.values()]
    order = list(dict.fromkeys(point.series for point in made))
    return Points(
        sorted(made, key=lambda point: (order.index(point.series), point.x)),
        averaged,
        [_span(known, key) for key in of_x],
    )


def _are_numbers(rows: Iterable[Row], key: str) -> bool:
    return all(isinstance(row.get(key), int | float) and not isinstance(row.get(key), bool) for row in rows)


def _span(rows: Iterable[Row], key: str) -> str:
    values = [row[key] for row in rows]
    return f"{key.removeprefix('sweep.')} {word(min(values))} to {word(max(values))}"


def most_sampled(rows: Sequence[Row]) -> list[Row]:
    """Return, of runs that differ only in k, those with the largest, which contain the samples of the others."""
    keys = dict.fromkeys(key for row in rows for key in row if key == "model" or key.startswith("sweep."))
    apart = [key for key in keys if key.rpartition(".")[2] not in ("num_samples", "first_samples")]
    most: dict[tuple[str, ...], int] = {}
    for row in rows:
        cell = _values(row, apart)
        most[cell] = max(most.get(cell, 0), row.get("samples_per_problem", 0))
    return [row for row in rows if row.get("samples_per_problem", 0) == most[_values(row, apart)]]


def mean_samples(row: Row) -> float | None:
    """Return the k of a row: with sample.until the mean over its problems, because some get more than others."""
    most, total, num_problems = (row.get(key) for key in ("samples_per_problem", "num_samples", "num_train"))
    if total is None or not num_problems or total == most * num_problems:
        return most
    return float(total / num_problems)


def _values(row: Row, keys: Iterable[str]) -> tuple[str, ...]:
    return tuple(_plain(row.get(key)) for key in keys)


def label(row: Row, keys: Sequence[str]) -> str:
    """Return the settings of a row in words, such as `small, dedup false`."""
    parts = [
        word(row.get(key))
        if key == "model"
        else f"{key.removeprefix('sweep.').rpartition('.')[2]} {word(row.get(key))}"
        for key in keys
    ]
    return ", ".join(parts)


def _point(group: Sequence[Row], x: str, y: str, series: str, name: str) -> Point:
    by_seed = list(per_seed(group, y).values())
    low: float | None
    high: float | None
    low, high = mean_interval(by_seed)
    if len(by_seed) == 1 and len({_plain(row[y]) for row in group}) == 1:
        low, high = (group[0].get(bound) for bound in BOUNDS.get(y, ("", "")))
    at = by_seed[0] if low == high else mean(by_seed)
    ends = [at if bound is None or math.isinf(bound) else bound for bound in (low, high)]  # unknown
    if y == "value" or y.endswith((".accuracy", ".flexible")):  # a share
        ends = [min(max(bound, 0.0), 1.0) for bound in ends]
    if y == "distinct_paths":  # the gold one is always there
        ends = [max(bound, 1.0) for bound in ends]
    return Point(mean(per_seed(group, x).values()), at, ends[0], ends[1], len(by_seed), series, name)


def per_seed(rows: Iterable[Row], column: str) -> dict[tuple[str, ...], float]:
    """Return the mean of a column over the runs of each seed, which may share what it measures."""
    found: dict[tuple[str, ...], list[float]] = {}
    for row in rows:
        if row.get(column) is not None:
            found.setdefault(seed(row), []).append(float(row[column]))
    return {key: mean(values) for key, values in found.items()}


def seed(row: Row) -> tuple[str, ...]:
    return _values(row, SEEDS)


def _plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
