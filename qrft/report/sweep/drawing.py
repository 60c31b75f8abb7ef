"""One plot of a sweep's report: from curves to a picture with its caption and what the fitted lines say."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from markupsafe import Markup

from qrft.evaluation.stats import line_fit
from qrft.report.sweep import plane
from qrft.report.sweep.plane import Axis, Mark, Series, Straight
from qrft.report.sweep.points import Point, Points

ACCURACY = "accuracy, %"


class Plot(NamedTuple):
    name: str  # of its file
    title: str
    caption: str
    notes: list[str]  # slopes and R² of the fitted lines, in words
    svg: Markup
    curves: Sequence[Curves] = ()  # what is drawn, in the units of the plot


class Curves(NamedTuple):
    """One kind of points in a plot, such as those of SFT."""

    prefix: str  # of the names of its series
    points: Points


def large_number(value: float) -> str:
    """Return 1,234 for small numbers, 2M for millions and 3.1e13 for larger ones."""
    if value < 1e6:
        return f"{value:,.6g}"
    if value < 1e9:
        return f"{value / 1e6:g}M"
    digits, _, exponent = f"{value:.3g}".partition("e")
    return f"{digits}e{int(exponent)}" if exponent else digits


@dataclass(frozen=True)
class Look:
    """How a plot shows its curves: its axes, in which units, and what joins the marks."""

    x_label: str
    y_label: str = ACCURACY
    x_scale: float = 1
    y_scale: float = 100
    is_log: bool = False
    words: Callable[[float], str] = large_number  # for the values of a logarithmic axis
    has_own_ticks: bool = False  # ticks at the values of x themselves, not at round numbers
    unit: str = "unit"  # of x, in the slope of a fitted line
    is_fitted: bool = False  # a line through each series
    is_joined: bool = True  # the marks of a series
    is_spread: bool = False  # draw the series side by side at each x
    tells_along: bool = False  # the caption says what varies along a series


def draw(name: str, title: str, caption: str, curves: Sequence[Curves], look: Look) -> Plot | None:
    """Return the plot of the curves; None where they have fewer than two values of x."""
    curves = _in_units(curves, look)
    every = [point for each in curves for point in each.points.listed]
    if len({point.x for point in every}) < 2:
        return None
    x = _x_axis(sorted({point.x for point in every}), look)
    y = plane.linear_axis(look.y_label, [value for point in every for value in (point.y, point.low, point.high)])
    along = sorted({setting for each in curves for setting in each.points.along})
    # If two settings vary along a series, a line through its marks would run to and fro.
    series = _series(curves, look.y_label, look.is_joined and (not look.tells_along or len(along) < 2))
    if look.is_spread:
        series = _spread(series, x)
    fits = [fit for entry in series if look.is_fitted and (fit := _fit(entry, look))]
    if look.tells_along and along:
        caption += f" Along a series: {', '.join(along)}."
    caption += means_over(key for each in curves for key in each.points.averaged)
    svg = plane.plane(title, x, y, series, [straight for _, straight in fits])
    return Plot(name, title, caption, [note for note, _ in fits], svg, curves)


def means_over(averaged: Iterable[str]) -> str:
    """Return the sentence of a caption that names the settings averaged over; empty where there are none."""
    names = sorted({key.removeprefix("sweep.") for key in averaged})
    return f" Means over {', '.join(names)}." if names else ""


# ---------------------------------------------------------------------------------------------------------------- axes


def _in_units(curves: Sequence[Curves], look: Look) -> list[Curves]:
    """Return the curves in the units of the plot, without the points that it can't show and without empty ones."""
    shown = [Curves(each.prefix, each.points._replace(listed=_scaled(each.points, look))) for each in curves]
    return [each for each in shown if each.points.listed]


def _scaled(points: Points, look: Look) -> list[Point]:
    x, y = look.x_scale, look.y_scale
    return [
        point._replace(x=x * point.x, y=y * point.y, low=y * point.low, high=y * point.high)
        for point in points.listed
        if point.x > 0 or not look.is_log
    ]


def _x_axis(xs: Sequence[float], look: Look) -> Axis:
    if look.is_log:
        return plane.log_axis(look.x_label, xs, look.words, xs if look.has_own_ticks else ())
    if look.has_own_ticks:
        room = 0.45 if look.is_spread else 0.0
        return Axis(look.x_label, xs[0] - room, xs[-1] + room, [(value, f"{value:g}") for value in xs])
    return plane.linear_axis(look.x_label, xs)


# -------------------------------------------------------------------------------------------------------------- series


def _series(curves: Sequence[Curves], y_label: str, is_joined: bool) -> list[Series]:
    """Return the series. If there are several models or settings, colours distinguish them, and SFT is dashed."""
    names = list(dict.fromkeys(point.series for each in curves for point in each.points.listed))
    made = []
    for number, each in enumerate(curves):
        for name in names:
            marks = [_mark(point, each.prefix, y_label) for point in each.points.listed if point.series == name]
            shown = ", ".join(filter(None, [each.prefix, name]))
            style = number if names == [""] else names.index(name)
            is_dashed = bool(each.prefix) and names != [""] and number < len(curves) - 1
            if marks:
                made.append(Series(shown, marks, style, is_dashed, is_joined))
    return made


def _mark(point: Point, prefix: str, y_label: str) -> Mark:
    unit = "%" if "%" in y_label else " points" if "points" in y_label else ""
    digits = 1 if unit else 2
    name = ", ".join(filter(None, [prefix, point.name])) or "all runs"
    tip = f"{name}: {point.y:.{digits}f}{unit}"
    if point.high > point.low:
        tip += f" ({point.low:.{digits}f} to {point.high:.{digits}f})"
    seeds = f", mean of {point.num_seeds} seeds" if point.num_seeds > 1 else ""
    return Mark(point.x, point.y, point.low, point.high, f"{tip}{seeds}".replace("-", "−"))


def _spread(series: Sequence[Series], x: Axis) -> list[Series]:
    """Move the series side by side, within six tenths of the room between two values of x."""
    step = min(9.0, 0.6 * plane.INNER * x.share(x.low + 1) / len(series))
    middle = (len(series) - 1) / 2
    return [replace(entry, shift=step * (number - middle)) for number, entry in enumerate(series)]


def _fit(series: Series, look: Look) -> tuple[str, Straight] | None:
    """Return the words for a line through a series, and the line; None for fewer than three values of x or two of y."""
    marks = series.marks
    if len({mark.x for mark in marks}) < 3 or len({mark.y for mark in marks}) < 2:
        return None
    place: Callable[[float], float] = math.log2 if look.is_log else float
    line = line_fit([place(mark.x) for mark in marks], [mark.y for mark in marks])
    if not line:
        return None
    low, high = min(mark.x for mark in marks), max(mark.x for mark in marks)
    ends = ((low, line.at(place(low))), (high, line.at(place(high))))
    unit = "doubling" if look.is_log else look.unit
    said = f"{line.slope:+.3g} points per {unit}"
    note = f"{series.name + ': ' if series.name else ''}{said.replace('-', '−')}, R² {line.r2:.2f}"
    return note, Straight(ends, series.style)
