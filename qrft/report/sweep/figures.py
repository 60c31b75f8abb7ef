"""The plots of a sweep's report, each from the rows of its table; a plot without two points is left out."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from markupsafe import Markup

from qrft.evaluation.stats import Line, line_fit
from qrft.report.run.profile import MAX_STEPS
from qrft.report.sweep import plane
from qrft.report.sweep.cells import (
    Point,
    Points,
    Row,
    fraction,
    matters,
    mean_samples,
    most_sampled,
    points,
    seed,
    settings,
)
from qrft.report.sweep.plane import Axis, Mark, Series, Straight
from qrft.report.sweep.upset import upset

Words = Callable[[float], str]


class Figure(NamedTuple):
    name: str  # of its file
    title: str
    caption: str
    notes: list[str]  # what the fits found
    svg: Markup
    curves: Sequence[Curves] = ()  # what is drawn, in the units of the plot


class Curves(NamedTuple):
    """One kind of points in a plot."""

    prefix: str  # of the series' names
    found: Points


def figures(rows: Sequence[Row]) -> list[Figure]:
    """In the order of the report."""
    rows = [{**row, "k": mean_samples(row)} for row in rows]
    shares = next((key for row in rows for key in row if key.endswith("train_fraction")), "")
    found = [
        *(_over_fraction(rows, shares, stage) for stage in ("sft", "rft")),
        _plot(
            "accuracy-k", "RFT accuracy over k", "Samples a problem that RFT's paths were chosen from.",
            [_of(rows, "rft", "k")], "samples a problem, k", ACCURACY, is_log=True,
            words=lambda k: f"{round(k, 1):,.6g}", x_ticks="own",
        ),
        _plot(
            "accuracy-paths", "RFT accuracy over distinct paths", 
            "Different right paths a problem, the gold one counted.",
            [_of(rows, "rft", "distinct_paths")], "distinct paths a problem", ACCURACY, is_fitted=True, unit="a path",
        ),
        _plot(
            "gain-sft", "RFT's gain over SFT's accuracy",
            "Does a strong base gain less than a weak one? The gain is RFT less SFT: a base whose SFT was lucky lies "
            "right and low by that alone, so no line is fitted.",
            [Curves("", points(rows, "sft.accuracy", "gain"))], "accuracy after SFT, %", "gain, points",
            x_scale=100, is_joined=False,
        ),
        _over_base(rows, "loss", "pre-training loss", "base_model.loss", "loss on held-out text, nats a token", False),
        _over_base(rows, "size", "parameters", "base_model.num_parameters", "parameters without embeddings", True),
        _plot(
            "paths-k", "Distinct paths over k", _paths_caption(rows),
            [Curves("", points(_curves(rows), "k", "distinct_paths", ["k"]))], "samples a problem, k",
            "distinct paths a problem", is_log=True, y_scale=1,
        ),
        _overlap(rows),
        _plot(
            "accuracy-cost", "Accuracy over cost",
            "FLOPs of all that a model rests on: its trainings and, for RFT, what was sampled for it.",
            [_of(rows, stage, f"cost.{stage}.flops", stage.upper()) for stage in ("sft", "rft")], "FLOPs", ACCURACY,
            is_log=True, tells_along=True,
        ),
        _plot(
            "pass-k", "pass@k before and after RFT",
            "One of k samples is right. Where RFT is above SFT at small k and below at large, diversity was lost.",
            [Curves(s.upper(), points(_passes(rows, s), "k", "value", ["k"])) for s in ("sft", "rft")],
            "k", "pass@k, %", is_log=True, x_ticks="own",
        ),
        _over_steps(rows),
    ]  # fmt: skip
    return [figure for figure in found if figure]


ACCURACY = "accuracy, %"


def _of(rows: Sequence[Row], stage: str, x: str, prefix: str = "") -> Curves:
    return Curves(prefix, points(rows, x, f"{stage}.accuracy"))


def _over_fraction(rows: Sequence[Row], key: str, stage: str) -> Figure | None:
    return _plot(
        f"{stage}-fraction",
        f"{stage.upper()} accuracy over training fraction",
        "Share of the training problems. Dotted: a line in the logarithm of the share.",
        [_of(rows, stage, key)],
        "share of the training problems",
        ACCURACY,
        is_log=True,
        words=fraction,
        is_fitted=True,
        x_ticks="own",
        is_joined=False,
    )


def _over_base(rows: Sequence[Row], name: str, words: str, x: str, label: str, is_log: bool) -> Figure | None:
    """A point for each base, the mean over whatever else was swept; ICL, SFT and RFT are the series."""
    curves = []
    for stage in ("icl", "sft", "rft"):
        y = f"{stage}.accuracy"
        known = [row for row in rows if row.get(x) is not None and row.get(y) is not None]
        keys = settings(known)
        swept = [key for key in keys if key != "model"]
        bare = [{key: value for key, value in row.items() if key not in swept} for row in known]
        found = [point._replace(series=stage.upper(), name=point.series) for point in points(bare, x, y).listed]
        if len({point.x for point in found}) > 1:
            averaged = [key for key in swept if matters(known, keys, key, y)]
            curves.append(Curves("", Points(sorted(found, key=lambda point: point.x), averaged, [])))
    caption = "A point for each base. ICL: worked examples in the prompt. Dotted: least squares."
    return _plot(
        f"accuracy-{name}", f"Accuracy over {words}", caption, curves, label, ACCURACY, is_log=is_log, is_fitted=True,
        unit="a nat", is_joined=False,
    )  # fmt: skip


def _over_steps(rows: Sequence[Row]) -> Figure | None:
    chosen = most_sampled(rows)
    curves = [Curves(s.upper(), points(_steps(chosen, s), "steps", "value", ["steps"])) for s in ("sft", "rft")]
    caption = "Test problems by the equations of their gold solution"
    if any(point.x == MAX_STEPS for each in curves for point in each.found.listed):
        caption += f"; {MAX_STEPS} stands for all longer ones too"
    caption += "." if len(chosen) == len(rows) else ". Of the runs with the largest k."
    return _plot(
        "accuracy-steps", "Accuracy by number of steps", caption, curves, "steps", ACCURACY, x_ticks="own",
        is_spread=True,
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------- what runs hold in lists


def _curves(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The distinct paths over k, of each setting's runs with the largest k."""
    long = []
    for row in most_sampled(rows):
        ends = {key: row.get(key) for key in ("distinct_paths_low", "distinct_paths_high")}
        for k, value in row.get("distinct_curve", ()):
            long.append(
                {**_labels(row), "k": k, "distinct_paths": value, **(ends if k == row["samples_per_problem"] else {})}
            )
    return long


def _paths_caption(rows: Sequence[Row]) -> str:
    caption = "Expected number in k samples of a problem, the gold one counted."
    sampled = [row for row in most_sampled(rows) if row.get("distinct_paths") is not None]
    without = sum(not row.get("distinct_curve") for row in sampled)
    return caption + (f" {without} of {len(sampled)} runs have no such curve." if without else "")


def _passes(rows: Iterable[Row], stage: str) -> list[dict[str, Any]]:
    """pass@k on the first test set."""
    long = []
    for row in rows:
        measures = [entry for entry in row.get("measures", ()) if entry["model"] == stage and not entry["few_shot"]]
        for entry in measures:
            if entry["measure"].startswith("pass@") and entry["problems"] == measures[0]["problems"]:
                long.append(
                    {**_labels(row), "k": int(entry["measure"].removeprefix("pass@")), **_values(entry, "value")}
                )
    return long


def _steps(rows: Iterable[Row], stage: str) -> list[dict[str, Any]]:
    return [
        {**_labels(row), "steps": entry["steps"], **_values(entry[stage], "accuracy")}
        for row in rows
        for entry in row.get("by_steps", ())
        if stage in entry
    ]


def _values(entry: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {"value": entry[key], "low": entry["low"], "high": entry["high"]}


def _labels(row: Row) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key == "model" or key.startswith("sweep.")}


def _overlap(rows: Sequence[Row]) -> Figure | None:
    """Of the runs with the most sources, at their largest k."""
    known = [row for row in rows if row.get("overlap")]
    sources = [tuple(sorted({name for entry in row["overlap"] for name in entry["sources"]})) for row in known]
    most = max(sources, key=len, default=())
    chosen = most_sampled([row for row, names in zip(known, sources, strict=True) if names == most])
    if len(most) < 2:
        return None
    svg, notes = upset(_of_seeds(chosen))
    caption = "Different right paths by who found them. A column counts those of just the sources marked below it."
    if len(chosen) < len(known):
        caption += f" Of the runs with the sources {', '.join(most)} and the largest k."
    keys = settings(chosen)
    caption += _over([key for key in keys if matters(chosen, keys, key, "overlap")])
    return Figure("paths-overlap", "Overlap of the paths", caption, notes, svg)


def _of_seeds(rows: Sequence[Row]) -> list[list[dict[str, Any]]]:
    """The mean overlap of each seed, in shares; runs that share a pool count once."""
    by_seed: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in rows:
        by_seed.setdefault(seed(row), {})[json.dumps(row["overlap"])] = row["overlap"]
    return [_merged(list(found.values())) for found in by_seed.values()]


def _merged(overlaps: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    shares: dict[tuple[str, ...], float] = {}
    for overlap in overlaps:
        whole = sum(entry["count"] for entry in overlap) * len(overlaps)
        for entry in overlap:
            key = tuple(entry["sources"])
            shares[key] = shares.get(key, 0.0) + entry["count"] / whole
    return [{"sources": list(key), "count": share} for key, share in shares.items()]


def _over(averaged: Iterable[str]) -> str:
    names = sorted({key.removeprefix("sweep.") for key in averaged})
    return f" Means over {', '.join(names)}." if names else ""


# ---------------------------------------------------------------------------------------------------------- one plot


def _plot(
    name: str,
    title: str,
    caption: str,
    curves: Sequence[Curves],
    x_label: str,
    y_label: str,
    *,
    x_scale: float = 1,
    y_scale: float = 100,
    is_log: bool = False,
    words: Words = lambda value: f"{value:,.6g}" if value < 1e6 else _power(value),
    x_ticks: str = "round",
    unit: str = "a unit",  # of x, after a slope
    is_fitted: bool = False,  # a line through each series
    is_joined: bool = True,
    is_spread: bool = False,  # the series beside each other at each x
    tells_along: bool = False,  # the caption says what leads along a series
) -> Figure | None:
    curves = [Curves(each.prefix, _scaled(each.found, x_scale, y_scale)) for each in curves]
    if is_log:
        curves = [Curves(each.prefix, _above_zero(each.found)) for each in curves]
    curves = [each for each in curves if each.found.listed]
    every = [point for each in curves for point in each.found.listed]
    if len({point.x for point in every}) < 2:
        return None
    xs = sorted({point.x for point in every})
    own = xs if x_ticks == "own" else ()
    if is_log:
        x = plane.log_axis(x_label, xs, words, own)
    elif own:
        room = 0.45 if is_spread else 0.0
        x = Axis(x_label, xs[0] - room, xs[-1] + room, [(value, f"{value:g}") for value in xs])
    else:
        x = plane.linear_axis(x_label, xs)
    y = plane.linear_axis(y_label, [value for point in every for value in (point.y, point.low, point.high)])
    along = sorted({setting for each in curves for setting in each.found.along})
    # Two settings that both lead along a series make no line: it would go to and fro.
    series = _series(curves, y_label, is_joined and (not tells_along or len(along) < 2))
    if is_spread:
        series = _spread(series, x)
    fits = [made for entry in series if is_fitted and (made := _fit(entry, is_log, unit))]
    if tells_along and along:
        caption += f" Along a series: {', '.join(along)}."
    caption += _over(key for each in curves for key in each.found.averaged)
    svg = plane.plane(title, x, y, series, [straight for _, straight in fits])
    return Figure(name, title, caption, [note for note, _ in fits], svg, curves)


def _power(value: float) -> str:
    """3.1e13, or 2 million."""
    if 1e6 <= value < 1e9:
        return f"{value / 1e6:g}M"
    digits, _, exponent = f"{value:.3g}".partition("e")
    return f"{digits}e{int(exponent)}" if exponent else digits


def _scaled(found: Points, x_scale: float, y_scale: float) -> Points:
    return found._replace(
        listed=[
            point._replace(x=x_scale * point.x, y=y_scale * point.y, low=y_scale * point.low, high=y_scale * point.high)
            for point in found.listed
        ]
    )


def _above_zero(found: Points) -> Points:
    return found._replace(listed=[point for point in found.listed if point.x > 0])


def _series(curves: Sequence[Curves], y_label: str, is_joined: bool) -> list[Series]:
    """Colours tell models and settings apart where there are some; SFT is dashed beside RFT then."""
    names = list(dict.fromkeys(point.series for each in curves for point in each.found.listed))
    made = []
    for number, each in enumerate(curves):
        for name in names:
            marks = [_mark(point, each.prefix, y_label) for point in each.found.listed if point.series == name]
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
    """Side by side within six tenths of the room between two values of x."""
    step = min(9.0, 0.6 * plane.INNER * x.share(x.low + 1) / len(series))
    middle = (len(series) - 1) / 2
    return [replace(entry, shift=step * (number - middle)) for number, entry in enumerate(series)]


def _fit(series: Series, is_log: bool, unit: str) -> tuple[str, Straight] | None:
    """What a line through three or more places of x says, and the line."""
    marks = series.marks
    if len({mark.x for mark in marks}) < 3 or len({mark.y for mark in marks}) < 2:
        return None
    xs = [math.log2(mark.x) if is_log else mark.x for mark in marks]
    found: Line | None = line_fit(xs, [mark.y for mark in marks])
    if not found:
        return None
    low, high = min(marks, key=lambda mark: mark.x).x, max(marks, key=lambda mark: mark.x).x
    ends = tuple((x, found.intercept + found.slope * (math.log2(x) if is_log else x)) for x in (low, high))
    said = f"{found.slope:+.3g} points {'a doubling' if is_log else unit} (95% {found.low:.3g} to {found.high:.3g})"
    note = f"{series.name + ': ' if series.name else ''}{said.replace('-', '−')}, R² {found.r2:.2f}"
    return note, Straight((ends[0], ends[1]), series.style)
