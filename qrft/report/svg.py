"""Drawing in SVG: elements whose every text and attribute is escaped, scales and axes. Colours come from style.css."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

Value = str | int | float


def tag(name: str, *children: str, **attributes: Value) -> Markup:
    """Return an element. `class_` stands for class, an underscore in a name for a hyphen; plain text is escaped."""
    pairs = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(number(v))}"' for key, v in attributes.items())
    return Markup(f"<{name}{pairs}>{''.join(escape(child) for child in children)}</{name}>")


def number(value: Value) -> str:
    """Return a coordinate to a hundredth of a pixel, which keeps the file small."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def text(x: float, y: float, content: str, anchor: str = "start", class_: str = "tick") -> Markup:
    return tag("text", content, x=x, y=y, text_anchor=anchor, class_=class_)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def picture(width: float, height: float, label: str, *children: str) -> Markup:
    """Return a picture that scales with the page; `label` is what a screen reader says."""
    return tag("svg", *children, viewBox=f"0 0 {number(width)} {number(height)}", role="img", aria_label=label)


def ticks(high: float, most: int = 6, whole: bool = False) -> list[float]:
    """Return round numbers from 0 to `high` or just above, in at most `most` steps of 1, 2 or 5 times a power of 10."""
    if not high > 0 or not math.isfinite(high):
        high = 1.0
    power = 10.0 ** math.floor(math.log10(high / most))
    step = next(power * m for m in (1, 2, 5, 10, 20) if power * m * most >= high * (1 - 1e-9))
    step = max(step, 1.0) if whole else step
    return [step * i for i in range(math.ceil(high / step - 1e-9) + 1)]


def tick_label(value: float) -> str:
    return f"{value:,.6g}" if abs(value) < 1e6 else f"{value:.3g}"


@dataclass(frozen=True)
class Frame:
    """A plot's area in pixels, and the values at its edges. y grows upwards."""

    x_max: float
    y_max: float
    x_min: float = 0.0
    width: float = 520.0
    height: float = 290.0
    left: float = 58.0
    right: float = 14.0
    top: float = 14.0
    bottom: float = 46.0

    def x(self, value: float) -> float:
        share = (value - self.x_min) / ((self.x_max - self.x_min) or 1.0)
        return self.left + share * (self.width - self.left - self.right)

    def y(self, value: float) -> float:
        return self.height - self.bottom - value / (self.y_max or 1.0) * (self.height - self.top - self.bottom)

    def axes(self, x_label: str, y_label: str, xs: Iterable[float], ys: Iterable[float]) -> Markup:
        """Return the grid lines with their values, and the labels of both axes."""
        base, end = self.y(0), self.width - self.right
        rows = [line(self.left, self.y(v), end, self.y(v), "grid" if v else "axis") for v in ys]
        row_names = [text(self.left - 7, self.y(v) + 4, tick_label(v), "end") for v in ys]
        column_names = [text(self.x(v), base + 17, tick_label(v), "middle") for v in xs]
        middle_x, middle_y = (self.left + end) / 2, (self.top + base) / 2
        labels = [
            text(middle_x, self.height - 8, x_label, "middle", "label"),
            tag(
                "text",
                y_label,
                transform=f"translate(13 {number(middle_y)}) rotate(-90)",
                text_anchor="middle",
                class_="label",
            ),
        ]
        return Markup("").join([*rows, *row_names, *column_names, *labels])

    def curve(self, points: Sequence[tuple[float, float]], class_: str, tip: Callable[[float, float], str]) -> Markup:
        """Return a line with a mark at each point, whose tooltip is `tip(x, y)`; many points get no visible marks."""
        places = [(self.x(x), self.y(y)) for x, y in points]
        path = "M" + "L".join(f"{number(x)},{number(y)}" for x, y in places)
        dot = "dot" if len(points) <= 40 else "hover"
        marks = [
            tag("circle", tag("title", tip(*point)), cx=x, cy=y, r=3 if dot == "dot" else 5, class_=f"{dot} {class_}")
            for (x, y), point in zip(places, points, strict=True)
        ]
        return Markup("").join([tag("path", d=path, class_=f"curve {class_}"), *marks])


def legend(x: float, y: float, entries: Sequence[tuple[str, str]]) -> Markup:
    """Return a line sample and a name per entry, one below the other; entries are (class, name)."""
    rows = []
    for index, (class_, name) in enumerate(entries):
        at = y + index * 18
        rows += [
            tag("path", d=f"M{number(x)},{number(at)}h26", class_=f"curve {class_}"),
            text(x + 33, at + 4, name, "start", "name"),
        ]
    return Markup("").join(rows)
