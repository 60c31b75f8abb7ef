"""The pictures of a run's report: each function turns numbers into inline SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from qrft.report.run.measures import Ints
from qrft.report.svg import Frame, legend, line, picture, tag, text, tick_label, ticks
from qrft.report.words import MODELS, VERDICTS, duration, percent, plural

MAX_BARS = 60
LEGEND_TOP = 50.0  # pixels above a plot, so that a curve never runs through its legend
MAX_LOSS_POINTS = 300


def intervals(summary: Mapping[str, Any]) -> Markup:
    """Draw the accuracy of each model as a point on its 95% interval."""
    models = [(model, name) for model, name in MODELS.items() if model in summary]
    marks = ticks(100 * max(summary[model]["high"] for model, _ in models), most=10)
    width, row, top = 1040.0, 34.0, 8.0
    base = top + row * len(models)
    frame = Frame(x_max=marks[-1], y_max=1, width=width, height=base + 42, left=60, right=90, bottom=42)
    parts = [line(frame.x(v), top, frame.x(v), base, "grid") for v in marks]
    parts += [text(frame.x(v), base + 17, f"{tick_label(v)}%", "middle") for v in marks]
    for index, (model, name) in enumerate(models):
        parts.append(_interval(frame, top + row * (index + 0.5), model, name, summary[model]))
    label = f"accuracy on {plural(summary['num_test'], 'test problem')}, with the 95% interval"
    parts.append(text((frame.x(0) + frame.x(marks[-1])) / 2, frame.height - 6, label, "middle", "label"))
    return picture(width, frame.height, label, *parts)


def _interval(frame: Frame, y: float, model: str, name: str, row: Mapping[str, float]) -> Markup:
    low, at, high = (frame.x(100 * row[key]) for key in ("low", "accuracy", "high"))
    tip = f"{name}: {percent(row['accuracy'])}, 95% interval {percent(row['low'])} to {percent(row['high'])}"
    return tag(
        "g",
        tag("title", tip),
        text(frame.left - 14, y + 5, name, "end", "name"),
        tag("rect", x=low, y=y - 9, width=max(high - low, 1.0), height=18, rx=3, class_=f"band {model}"),
        line(low, y - 9, low, y + 9, f"curve {model}"),
        line(high, y - 9, high, y + 9, f"curve {model}"),
        tag("circle", cx=at, cy=y, r=6.5, class_=f"dot {model}"),
        text(high + 11, y + 5, percent(row["accuracy"]), "start", "name"),
    )


def distinct_paths(beside: Sequence[tuple[int, float]], found: Sequence[tuple[int, float]]) -> Markup:
    """Draw distinct correct paths per problem over k: the new ones, and all with the gold path."""
    if not found or not found[-1][1]:
        return empty("No correct sample with right equations, so no path.")
    k = found[-1][0]
    ys, xs = ticks(found[-1][1]), _counting_ticks(k)
    frame = Frame(x_min=1 if k > 1 else 0, x_max=k if k > 1 else 2, y_max=ys[-1], top=LEGEND_TOP)
    return picture(
        frame.width,
        frame.height,
        "Distinct correct paths per problem over the number of samples",
        frame.axes("samples per problem, k", "distinct correct paths per problem", xs, ys),
        frame.curve(
            found, "found", lambda x, y: f"k = {x:g}: {y:.2f} distinct correct paths per problem, gold's counted"
        ),
        frame.curve(beside, "beside", lambda x, y: f"k = {x:g}: {y:.2f} paths per problem beside the gold solution's"),
        legend(
            frame.left,
            10,
            [("found", "all found, gold's own path counted"), ("beside", "new ones, gold's not counted")],
        ),
    )


def _counting_ticks(k: int) -> list[float]:
    """Return 1 and the round numbers up to k."""
    return sorted({1.0, *(v for v in ticks(k, whole=True) if 1 < v <= k)})


def histogram(correct: Ints, num_samples: int) -> Markup:
    """Draw how many problems had 0, 1, .. num_samples correct samples."""
    size = -(-(num_samples + 1) // MAX_BARS)  # values per bar
    counts = np.bincount(correct // size, minlength=num_samples // size + 1).tolist()
    ys = ticks(max(counts), whole=True)
    frame = Frame(x_min=-0.5, x_max=len(counts) - 0.5, y_max=ys[-1])
    width = frame.x(1) - frame.x(0)
    bars = []
    for index, count in enumerate(counts):
        first, last = index * size, min(index * size + size - 1, num_samples)
        span = f"{first}" if first == last else f"{first} to {last}"
        tip = f"{plural(count, 'problem')} with {span} of {num_samples} samples correct"
        class_ = "bar none" if last == 0 else "bar all" if first == num_samples else "bar some"
        height = frame.y(0) - frame.y(count)
        bars.append(
            tag(
                "rect",
                tag("title", tip),
                x=frame.x(index) - width * 0.42,
                y=frame.y(count),
                width=width * 0.84,
                height=height,
                class_=class_,
            )
        )
    names = [
        text(frame.x(v / size), frame.y(0) + 17, tick_label(v), "middle")
        for v in ticks(num_samples, whole=True)
        if v <= num_samples
    ]
    label = f"correct samples of {num_samples} per problem"
    return picture(frame.width, frame.height, label, frame.axes(label, "problems", [], ys), *bars, *names)


def losses(rows: Mapping[str, Sequence[Mapping[str, float]]]) -> Markup:
    """Draw the training loss over optimizer steps; keys are model names, rows the lines of loss.jsonl."""
    curves = {model: thinned([(entry["step"], entry["loss"]) for entry in entries]) for model, entries in rows.items()}
    points = [point for curve in curves.values() for point in curve]
    if not points:
        return empty("No loss was logged: the trainings were shorter than the logging interval.")
    xs, ys = ticks(max(x for x, _ in points), whole=True), ticks(max(y for _, y in points))
    frame = Frame(x_max=max(x for x, _ in points), y_max=ys[-1], top=LEGEND_TOP)
    names = MODELS
    drawn = [
        frame.curve(curve, model, lambda x, y, name=names[model]: f"{name}, step {x:,.0f}: loss {y:.3f} nats per token")  # type: ignore[misc]
        for model, curve in curves.items()
        if curve
    ]
    axes = frame.axes("optimizer steps", "loss, nats per completion token", [x for x in xs if x <= frame.x_max], ys)
    key = legend(frame.left, 10, [(model, MODELS[model]) for model, curve in curves.items() if curve])
    return picture(frame.width, frame.height, "Training loss over steps", axes, *drawn, key)


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Average neighbours so that at most MAX_LOSS_POINTS are left, which keeps the picture of a long training small."""
    if len(points) <= MAX_LOSS_POINTS:
        return list(points)
    groups = np.array_split(np.array(points, float), MAX_LOSS_POINTS)
    return [(float(x), float(y)) for x, y in (group.mean(0) for group in groups)]


def seconds(spent: Mapping[str, float]) -> Markup:
    """Draw a bar per step, in the order of the run."""
    row, top = 19.0, 4.0
    base = top + row * len(spent)
    marks = ticks(max(spent.values(), default=0.0))
    frame = Frame(x_max=marks[-1], y_max=1, width=1040, height=base + 42, left=150, right=96, bottom=42)
    total = sum(spent.values()) or 1.0
    parts = [line(frame.x(v), top, frame.x(v), base, "grid") for v in marks]
    parts += [text(frame.x(v), base + 16, tick_label(v), "middle") for v in marks]
    for index, (name, value) in enumerate(spent.items()):
        y, end = top + row * index, frame.x(value)
        tip = tag("title", f"{name}: {duration(value)}, {percent(value / total)} of the whole")
        bar = tag(
            "rect", x=frame.left, y=y + 3, width=max(end - frame.left, 1.0), height=row - 6, rx=2, class_="bar some"
        )
        names = (
            text(frame.left - 9, y + 14, name, "end", "tick"),
            text(end + 7, y + 14, duration(value), "start", "tick"),
        )
        parts.append(tag("g", tip, bar, *names))
    parts.append(text((frame.left + frame.width - frame.right) / 2, frame.height - 6, "seconds", "middle", "label"))
    return picture(frame.width, frame.height, "Seconds per step", *parts)


def verdict_bar(counts: Mapping[str, int]) -> Markup:
    """Draw one bar, divided by what became of the samples."""
    width, height, at = 1040.0, 34.0, 0.0
    total = sum(counts.values()) or 1
    parts = []
    for verdict, words in VERDICTS.items():
        share = counts.get(verdict, 0) / total
        tip = tag("title", f"{words}: {plural(counts.get(verdict, 0), 'sample')}, {percent(share)}")
        # A thin gap in the page's colour separates neighbours even without their hues.
        parts.append(
            tag("rect", tip, x=at, y=0, width=max(share * width - 2, 0.0), height=height, class_=f"verdict {verdict}")
        )
        if share > 0.06:
            parts.append(text(at + share * width / 2 - 1, height / 2 + 5, percent(share), "middle", f"on {verdict}"))
        at += share * width
    return picture(width, height, "What became of the samples", *parts)


def empty(message: str) -> Markup:
    return tag("p", message, class_="empty")
