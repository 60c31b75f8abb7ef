"""What the plots of a sweep's report are drawn from, as rows for a CSV file beside each picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from qrft.report.sweep.cells import Row
from qrft.report.sweep.figures import Figure


def data(figure: Figure, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A row for each mark, in the units of the plot; low and high are empty where no interval is known.

    The overlap has no marks: a row for each run and set of finders.
    """
    marks = list(_marks(figure))
    return marks or [{**label, **entry} for label, entry in _overlaps(rows)]


def _marks(figure: Figure) -> Iterator[dict[str, Any]]:
    for curves in figure.curves:
        for point in curves.found.listed:
            low, high = (point.low, point.high) if point.low < point.high else ("", "")
            yield {"kind": curves.prefix, "series": point.series, "settings": point.name, "x": point.x, "y": point.y,
                   "low": low, "high": high, "num_seeds": point.num_seeds}  # fmt: skip


def _overlaps(rows: Sequence[Row]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for row in rows:
        for entry in row.get("overlap") or ():
            label = {"variant": row["variant"], "model": row["model"]}
            yield label, {"sources": " ".join(entry["sources"]), "num_paths": entry["count"]}
