"""A plot in SVG of series of points, each with its interval. Colours come from charts.css."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from qrft.report.svg import line, number, picture, tag, text, tick_label

NUM_COLOURS = 8  # of charts.css; a shape goes with each
NUM_STYLES = 2 * NUM_COLOURS  # the second half: hollow, dash and dot, each colour with the shape of another
Tick = tuple[float, str]


@dataclass(frozen=True)
class Axis:
    label: str
    low: float
    high: float
    ticks: Sequence[Tick]
    is_log: bool = False

    def share(self, value: float) -> float:
        """Return the position of a value between the ends, from 0 to 1."""
        low, high, value = ((math.log(v) for v in (self.low, self.high, value)) if self.is_log else
                            (self.low, self.high, value))  # fmt: skip
        return (value - low) / ((high - low) or 1.0)


def linear_axis(label: str, values: Sequence[float], most: int = 6) -> Axis:
    """Return an axis that spans all values in round steps of 1, 2 or 5 times a power of 10."""
    low, high = min(values), max(values)
    if high == low:
        low, high = (low - abs(low) / 10, high + abs(high) / 10) if low else (0.0, 1.0)
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(power * m for m in (1, 2, 5, 10, 20) if power * m * most >= (high - low) * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    marks = [step * i for i in range(first, last + 1)]
    return Axis(label, marks[0], marks[-1], [(v, _minus(tick_label(round(v, 12)))) for v in marks])


def log_axis(label: str, values: Sequence[float], words: Callable[[float], str], ticks: Sequence[float] = ()) -> Axis:
    """Return a logarithmic axis that spans all values.

    ticks: where they are, such as the values of a setting; without them at powers of 10, and 2 and 5 times those.
    """
    low, high = min(values), max(values)
    if high == low:
        low, high = low / 2, high * 2
    room = (high / low) ** 0.04
    marks = list(ticks)
    if not marks:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        few = (1, 2, 5) if high / low < 300 else (1,)
        marks = [m * 10.0**p for p in powers for m in few]
    shown = [(v, words(v)) for v in marks if low / room <= v <= high * room]
    return Axis(label, low / room, high * room, _spaced(shown, math.log(high / low)), is_log=True)


def _spaced(ticks: Sequence[Tick], span: float) -> list[Tick]:
    """Return the ticks without those whose labels would overlap the one before."""
    kept: list[Tick] = []
    for value, name in ticks:
        if not kept or math.log(value / kept[-1][0]) > 0.055 * span * (1 + len(name) / 8):
            kept.append((value, name))
    return kept


def _minus(name: str) -> str:
    return name.replace("-", "−")


@dataclass(frozen=True)
class Mark:
    x: float
    y: float
    low: float
    high: float
    tip: str


@dataclass(frozen=True)
class Series:
    name: str
    marks: Sequence[Mark]
    style: int
    is_dashed: bool = False
    is_joined: bool = True  # by a line; else the marks stand alone
    shift: float = 0.0  # of its marks to the right, in pixels, where series share their places


@dataclass(frozen=True)
class Straight:
    """A fitted line between two points in the plane's own units."""

    ends: tuple[tuple[float, float], tuple[float, float]]
    style: int


WIDTH, LEFT, RIGHT, TOP, BOTTOM, PLOT = 560.0, 60.0, 16.0, 12.0, 46.0, 270.0
INNER = WIDTH - LEFT - RIGHT - 12  # between the first and the last value of x
ROW = 19.0  # of the legend


def plane(label: str, x: Axis, y: Axis, series: Sequence[Series], fits: Sequence[Straight] = ()) -> Markup:
    """Return the plot, with a legend above it where there are two series or more."""
    named = [entry for entry in series if entry.name] if len(series) > 1 else []
    columns = 1 if any(len(entry.name) > 24 for entry in named) else 2
    top = TOP + ROW * -(-len(named) // columns)
    place = _Place(x, y, top)
    parts = [*_axes(place), *(_series(place, entry) for entry in series), *(_fit(place, fit) for fit in fits)]
    for index, entry in enumerate(named):
        at_x = LEFT + (index % columns) * (WIDTH - LEFT) / columns
        parts.append(_key(at_x, 10 + ROW * (index // columns), entry))
    return picture(WIDTH, top + PLOT + BOTTOM, label, *parts)


@dataclass(frozen=True)
class _Place:
    x_axis: Axis
    y_axis: Axis
    top: float

    @property
    def base(self) -> float:
        return self.top + PLOT

    def x(self, value: float) -> float:
        return LEFT + 6 + self.x_axis.share(value) * INNER

    def y(self, value: float) -> float:
        return self.base - min(max(self.y_axis.share(value), 0.0), 1.0) * PLOT


def _axes(place: _Place) -> list[Markup]:
    parts, end = [], WIDTH - RIGHT
    for value, name in place.y_axis.ticks:
        y = place.y(value)
        is_axis = value == 0 or value == place.y_axis.low
        parts += [line(LEFT, y, end, y, "axis" if is_axis else "grid"), text(LEFT - 7, y + 4, name, "end")]
    for value, name in place.x_axis.ticks:
        x = place.x(value)
        parts += [line(x, place.base, x, place.base + 5, "axis"), text(x, place.base + 18, name, "middle")]
    parts.append(text((LEFT + end) / 2, place.base + BOTTOM - 7, place.x_axis.label, "middle", "label"))
    turned = f"translate(13 {number((place.top + place.base) / 2)}) rotate(-90)"
    parts.append(tag("text", place.y_axis.label, transform=turned, text_anchor="middle", class_="label"))
    return parts


def _series(place: _Place, entry: Series) -> Markup:
    points = [(place.x(mark.x) + entry.shift, place.y(mark.y)) for mark in entry.marks]
    parts: list[Markup] = []
    if entry.is_joined and len(points) > 1:
        parts.append(tag("path", d=_path(points), class_=_curve(entry)))
    for (x, y), mark in zip(points, entry.marks, strict=True):
        bar = _bar(x, place.y(mark.low), place.y(mark.high), colour(entry.style))
        parts.append(tag("g", tag("title", mark.tip), *bar, shape(entry.style, x, y, entry.is_dashed)))
    return Markup("").join(parts)


def _bar(x: float, low: float, high: float, style: str) -> list[Markup]:
    """Return the bar of an interval; none where it has no width."""
    if abs(low - high) < 0.5:
        return []
    return [
        line(x, low, x, high, f"whisker {style}"),
        *(line(x - 4, end, x + 4, end, f"whisker {style}") for end in (low, high)),
    ]


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{number(x)},{number(y)}" for x, y in points)


def _fit(place: _Place, fit: Straight) -> Markup:
    """Return a fitted line, cut where it leaves the plot."""
    (x1, y1), (x2, y2) = ((place.x_axis.share(x), y) for x, y in fit.ends)
    inside = []
    for i in range(101):
        share, y = x1 + (x2 - x1) * i / 100, y1 + (y2 - y1) * i / 100
        if 0 <= place.y_axis.share(y) <= 1:
            inside.append((LEFT + 6 + share * INNER, place.y(y)))
    return tag("path", d=_path([inside[0], inside[-1]]), class_=f"fit {colour(fit.style)}") if inside else Markup("")


def _key(x: float, y: float, entry: Series) -> Markup:
    sample = tag("path", d=f"M{number(x)},{number(y)}h34", class_=_curve(entry)) if entry.is_joined else Markup("")
    mark = shape(entry.style, x + 17, y, entry.is_dashed)
    return Markup("").join([sample, mark, text(x + 41, y + 4.5, entry.name, "start", "name")])


def _curve(entry: Series) -> str:
    second = " second" if is_second(entry.style) else ""
    return f"curve {colour(entry.style)}{second}{' dashed' if entry.is_dashed else ''}"


def colour(style: int) -> str:
    return f"s{style % NUM_COLOURS}"


def is_second(style: int) -> bool:
    return style % NUM_STYLES >= NUM_COLOURS


SHAPES = (
    "M-4.5,0a4.5,4.5 0 1,0 9,0a4.5,4.5 0 1,0 -9,0Z",
    "M-4,-4h8v8h-8Z",
    "M0,-5.2L5,3.6H-5Z",
    "M0,-5.6L5.6,0L0,5.6L-5.6,0Z",
    "M-5,-3.6H5L0,5.2Z",
    "M-1.7,-5h3.4v3.3h3.3v3.4h-3.3v3.3h-3.4v-3.3h-3.3v-3.4h3.3Z",
    "M-5,0L-2.5,-4.4H2.5L5,0L2.5,4.4H-2.5Z",
    "M-5,-1.6L0,-5.2L5,-1.6L3.1,4.3H-3.1Z",
)


def shape(style: int, x: float, y: float, is_hollow: bool = False) -> Markup:
    kind = "ring" if is_second(style) else "dot"
    class_ = f"{kind} {colour(style)}{' hollow' if is_hollow else ''}"
    outline = SHAPES[(style + (NUM_COLOURS // 2 if kind == "ring" else 0)) % NUM_COLOURS]
    return tag("path", d=outline, transform=f"translate({number(x)} {number(y)})", class_=class_)
