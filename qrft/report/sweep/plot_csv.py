"""The marks of a plot of a sweep's report, as rows for a CSV file beside its picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from qrft.report.sweep.drawing import Plot
from qrft.report.sweep.points import Row


def plot_rows(plot: Plot, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return a row for each mark, in the units of the plot; low and high are empty where no interval is known.

    The overlap has no marks, so it has a row for each run and set of sources.
    """
    return list(_marks(plot)) or list(_overlaps(rows))


def _marks(plot: Plot) -> Iterator[dict[str, Any]]:
    for curves in plot.curves:
        for point in curves.points.listed:
            low, high = (point.low, point.high) if point.low < point.high else ("", "")
            yield {"kind": curves.prefix, "series": point.series, "settings": point.name, "x": point.x, "y": point.y,
                   "low": low, "high": high, "num_seeds": point.num_seeds}  # fmt: skip


def _overlaps(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    for row in rows:
        for entry in row.get("overlap") or ():
            label = {"variant": row["variant"], "model": row["model"]}
            yield {**label, "sources": " ".join(entry["sources"]), "num_paths": entry["count"]}
