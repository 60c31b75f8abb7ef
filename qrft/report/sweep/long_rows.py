"""The lists of a sweep's runs as one row per entry, from which a plot draws its points."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from qrft.report.sweep.points import Row, most_sampled


def distinct_curves(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the distinct paths over k, of each setting's runs with the largest k."""
    long = []
    for row in most_sampled(rows):
        ends = {key: row.get(key) for key in ("distinct_paths_low", "distinct_paths_high")}
        for k, value in row.get("distinct_curve", ()):
            interval = ends if k == row["samples_per_problem"] else {}
            long.append({**_labels(row), "k": k, "distinct_paths": value, **interval})
    return long


def passes(rows: Iterable[Row], stage: str) -> list[dict[str, Any]]:
    """Return pass@k of a model without examples, on the first test set."""
    long = []
    for row in rows:
        measures = [entry for entry in row.get("measures", ()) if entry["model"] == stage and not entry["few_shot"]]
        for entry in measures:
            if entry["measure"].startswith("pass@") and entry["problems"] == measures[0]["problems"]:
                k = int(entry["measure"].removeprefix("pass@"))
                long.append({**_labels(row), "k": k, **_with_interval(entry, "value")})
    return long


def by_steps(rows: Iterable[Row], stage: str) -> list[dict[str, Any]]:
    """Return a model's accuracy by the number of steps in the gold solution."""
    return [
        {**_labels(row), "steps": entry["steps"], **_with_interval(entry[stage], "accuracy")}
        for row in rows
        for entry in row.get("by_steps", ())
        if stage in entry
    ]


def _with_interval(entry: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {"value": entry[key], "low": entry["low"], "high": entry["high"]}


def _labels(row: Row) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key == "model" or key.startswith("sweep.")}
