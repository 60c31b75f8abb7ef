"""An UpSet plot (Lex et al. 2014): how many elements are in exactly these sets, for every combination of sets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from qrft.evaluation.stats import mean, mean_interval
from qrft.report.svg import line, picture, tag, text
from qrft.report.words import percent

MAX_COLUMNS = 20
WIDTH, HEIGHT, ROW, TOP = 560.0, 180.0, 24.0, 26.0

Overlap = Sequence[Mapping[str, Any]]  # {"sources": [...], "count": n} each


def upset(overlaps: Sequence[Overlap]) -> tuple[Markup, list[str]]:
    """Return the picture, and the share that each set has alone: of several overlaps, one per seed, the means."""
    sets = list(dict.fromkeys(name for overlap in overlaps for entry in overlap for name in entry["sources"]))
    sets.sort(key=lambda name: -_total(overlaps, name))
    by_columns: dict[tuple[str, ...], list[float]] = {}
    for number, overlap in enumerate(overlaps):
        whole = sum(entry["count"] for entry in overlap)
        for entry in overlap:
            key = tuple(name for name in sets if name in entry["sources"])
            by_columns.setdefault(key, [0.0] * len(overlaps))[number] = entry["count"] / whole
    columns = sorted(by_columns.items(), key=lambda item: -mean(item[1]))
    notes = [f"{key[0]} alone: {_said(shares)}" for key, shares in columns if len(key) == 1]
    if len(columns) > MAX_COLUMNS:
        notes.append(f"The {MAX_COLUMNS} largest of {len(columns)} combinations are drawn.")
    return _drawn(sets, columns[:MAX_COLUMNS], [_total(overlaps, name) for name in sets]), notes


def _total(overlaps: Sequence[Overlap], name: str) -> float:
    """Return the mean share of all elements that a set has."""
    return mean(
        sum(entry["count"] for entry in overlap if name in entry["sources"]) / sum(entry["count"] for entry in overlap)
        for overlap in overlaps
    )


def _bounds(shares: Sequence[float]) -> tuple[float, float] | None:
    """Return the interval over seeds; None where no interval with a width is known."""
    low, high = mean_interval(shares)
    return (max(low, 0.0), min(high, 1.0)) if low < high and math.isfinite(high - low) else None


def _said(shares: Sequence[float]) -> str:
    bounds = _bounds(shares)
    return percent(mean(shares)) + (f" ({percent(bounds[0])} to {percent(bounds[1])})" if bounds else "")


def _drawn(
    sets: Sequence[str], columns: Sequence[tuple[tuple[str, ...], list[float]]], totals: Sequence[float]
) -> Markup:
    left = 24 + 7.6 * max(len(name) for name in sets) + 46
    step = min(44.0, (WIDTH - left - 10) / len(columns))
    base = TOP + HEIGHT
    highest = max((_bounds(shares) or (0.0, mean(shares)))[1] for _, shares in columns)
    parts = []
    for row, (name, total) in enumerate(zip(sets, totals, strict=True)):
        y = base + 26 + row * ROW
        parts += [text(left - 54, y + 4.5, name, "end", "name"), text(left - 10, y + 4.5, percent(total), "end")]
    for number, (members, shares) in enumerate(columns):
        x = left + (number + 0.5) * step
        parts.append(_column(x, step, base, highest, members, shares))
        rows = [row for row, name in enumerate(sets) if name in members]
        ys = [base + 26 + row * ROW for row in range(len(sets))]
        parts.append(line(x, ys[rows[0]], x, ys[rows[-1]], "link"))
        for row, y in enumerate(ys):
            parts.append(tag("circle", cx=x, cy=y, r=5.5, class_="member" if row in rows else "absent"))
    label = text(left - 10, TOP + 6, "share of all", "end", "label")
    return picture(WIDTH, base + 26 + ROW * len(sets), "Overlap of the paths", *parts, label)


def _column(
    x: float, step: float, base: float, highest: float, members: Sequence[str], shares: Sequence[float]
) -> Markup:
    value, width = mean(shares), step * 0.62
    height = value / highest * HEIGHT
    tip = f"{' and '.join(members)} alone: {_said(shares)}"
    parts = [tag("rect", x=x - width / 2, y=base - height, width=width, height=height, class_="bar set")]
    top = base - height
    if len(shares) > 1:
        tip += f", mean of {len(shares)} seeds"
    if bounds := _bounds(shares):
        low, top = (base - bound / highest * HEIGHT for bound in bounds)
        parts.append(line(x, low, x, top, "whisker"))
    parts.append(text(x, top - 5, f"{100 * value:.0f}" if step < 34 else percent(value), "middle"))
    return tag("g", tag("title", tip), *parts)
