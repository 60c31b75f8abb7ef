"""The plots of a sweep's report, each from the rows of its table; a plot without two points is left out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from qrft.report.run.profile import MAX_STEPS
from qrft.report.sweep import long_rows
from qrft.report.sweep.drawing import Curves, Look, Plot, draw, means_over
from qrft.report.sweep.points import Points, Row, fraction, matters, mean_samples, most_sampled, points, seed, settings
from qrft.report.sweep.upset import upset

STAGES = ("sft", "rft")


def plots(rows: Sequence[Row]) -> list[Plot]:
    """Return the plots in the order of the report."""
    rows = [{**row, "k": mean_samples(row)} for row in rows]
    drawn = [
        *(over_fraction(rows, stage) for stage in STAGES),
        over_k(rows),
        over_paths(rows),
        gain_over_sft(rows),
        over_base(rows, "loss", "pre-training loss", "base_model.loss", "loss on held-out text, nats per token"),
        over_base(rows, "size", "parameters", "base_model.num_parameters", "parameters without embeddings", True),
        paths_over_k(rows),
        overlap(rows),
        over_cost(rows),
        pass_over_k(rows),
        over_steps(rows),
    ]
    return [plot for plot in drawn if plot]


def _accuracy(rows: Sequence[Row], stage: str, x: str, prefix: str = "") -> Curves:
    return Curves(prefix, points(rows, x, f"{stage}.accuracy"))


# ------------------------------------------------------------------------------------------------- accuracy over what?


def over_fraction(rows: Sequence[Row], stage: str) -> Plot | None:
    key = next((key for row in rows for key in row if key.endswith("train_fraction")), "")
    look = Look(
        "share of the training problems",
        is_log=True, words=fraction, has_own_ticks=True, is_fitted=True, is_joined=False,
    )  # fmt: skip
    return draw(
        f"{stage}-fraction",
        f"{stage.upper()} accuracy over training fraction",
        "Share of the training problems. Dotted: a line in the logarithm of the share.",
        [_accuracy(rows, stage, key)],
        look,
    )


def over_k(rows: Sequence[Row]) -> Plot | None:
    caption = "Samples per problem that RFT's paths were chosen from."
    look = Look("samples per problem, k", is_log=True, words=lambda k: f"{round(k, 1):,.6g}", has_own_ticks=True)
    return draw("accuracy-k", "RFT accuracy over k", caption, [_accuracy(rows, "rft", "k")], look)


def over_paths(rows: Sequence[Row]) -> Plot | None:
    caption = "Different right paths per problem, the gold one counted."
    look = Look("distinct paths per problem", is_fitted=True, unit="path")
    curves = [_accuracy(rows, "rft", "distinct_paths")]
    return draw("accuracy-paths", "RFT accuracy over distinct paths", caption, curves, look)


def gain_over_sft(rows: Sequence[Row]) -> Plot | None:
    return draw(
        "gain-sft",
        "RFT's gain over SFT's accuracy",
        "Does a strong base gain less than a weak one? The gain is RFT minus SFT, so a base whose SFT was lucky lies "
        "low and to the right by that alone. Therefore no line is fitted.",
        [Curves("", points(rows, "sft.accuracy", "gain"))],
        Look("accuracy after SFT, %", "gain, points", x_scale=100, is_joined=False),
    )


def over_base(rows: Sequence[Row], name: str, words: str, x: str, label: str, is_log: bool = False) -> Plot | None:
    """Draw a point for each base, the mean over whatever else was swept; ICL, SFT and RFT are the series."""
    caption = "A point for each base. ICL: worked examples in the prompt. Dotted: least squares."
    look = Look(label, is_log=is_log, is_fitted=True, unit="nat", is_joined=False)
    curves = [curve for stage in ("icl", *STAGES) if (curve := _of_bases(rows, x, stage))]
    return draw(f"accuracy-{name}", f"Accuracy over {words}", caption, curves, look)


def _of_bases(rows: Sequence[Row], x: str, stage: str) -> Curves | None:
    y = f"{stage}.accuracy"
    known = [row for row in rows if row.get(x) is not None and row.get(y) is not None]
    keys = settings(known)
    swept = [key for key in keys if key != "model"]
    bare = [{key: value for key, value in row.items() if key not in swept} for row in known]
    bases = [point._replace(series=stage.upper(), name=point.series) for point in points(bare, x, y).listed]
    if len({point.x for point in bases}) < 2:
        return None
    averaged = [key for key in swept if matters(known, keys, key, y)]
    return Curves("", Points(sorted(bases, key=lambda point: point.x), averaged, []))


def over_cost(rows: Sequence[Row]) -> Plot | None:
    caption = "FLOPs of everything that a model rests on: its trainings and, for RFT, what was sampled for it."
    curves = [_accuracy(rows, stage, f"cost.{stage}.flops", stage.upper()) for stage in STAGES]
    return draw("accuracy-cost", "Accuracy over cost", caption, curves, Look("FLOPs", is_log=True, tells_along=True))


def over_steps(rows: Sequence[Row]) -> Plot | None:
    chosen = most_sampled(rows)
    long = {stage: long_rows.by_steps(chosen, stage) for stage in STAGES}
    curves = [Curves(stage.upper(), points(long[stage], "steps", "value", ["steps"])) for stage in STAGES]
    caption = "Test problems by the number of equations in their gold solution"
    if any(point.x == MAX_STEPS for each in curves for point in each.points.listed):
        caption += f"; {MAX_STEPS} also stands for all longer ones"
    caption += "." if len(chosen) == len(rows) else ". Only the runs with the largest k."
    look = Look("steps", has_own_ticks=True, is_spread=True)
    return draw("accuracy-steps", "Accuracy by number of steps", caption, curves, look)


# --------------------------------------------------------------------------------------------------- paths and samples


def paths_over_k(rows: Sequence[Row]) -> Plot | None:
    caption = "Expected number in k samples of a problem, the gold one counted."
    sampled = [row for row in most_sampled(rows) if row.get("distinct_paths") is not None]
    if without := sum(not row.get("distinct_curve") for row in sampled):
        caption += f" {without} of {len(sampled)} runs have no such curve."
    curves = [Curves("", points(long_rows.distinct_curves(rows), "k", "distinct_paths", ["k"]))]
    look = Look("samples per problem, k", "distinct paths per problem", is_log=True, y_scale=1)
    return draw("paths-k", "Distinct paths over k", caption, curves, look)


def pass_over_k(rows: Sequence[Row]) -> Plot | None:
    caption = (
        "One of k samples is right. Where RFT is above SFT at small k and below it at large k, diversity was lost."
    )
    long = {stage: long_rows.passes(rows, stage) for stage in STAGES}
    curves = [Curves(stage.upper(), points(long[stage], "k", "value", ["k"])) for stage in STAGES]
    look = Look("k", "pass@k, %", is_log=True, has_own_ticks=True)
    return draw("pass-k", "pass@k before and after RFT", caption, curves, look)


def overlap(rows: Sequence[Row]) -> Plot | None:
    """Draw which sources found the same paths, in the runs with the most sources, at their largest k."""
    known = [row for row in rows if row.get("overlap")]
    sources = [tuple(sorted({name for entry in row["overlap"] for name in entry["sources"]})) for row in known]
    most = max(sources, key=len, default=())
    chosen = most_sampled([row for row, names in zip(known, sources, strict=True) if names == most])
    if len(most) < 2:
        return None
    svg, notes = upset(_overlap_by_seed(chosen))
    caption = "Different right paths by who found them. A column counts those of exactly the sources marked below it."
    if len(chosen) < len(known):
        caption += f" Only the runs with the sources {', '.join(most)} and the largest k."
    keys = settings(chosen)
    caption += means_over([key for key in keys if matters(chosen, keys, key, "overlap")])
    return Plot("paths-overlap", "Overlap of the paths", caption, notes, svg)


def _overlap_by_seed(rows: Sequence[Row]) -> list[list[dict[str, Any]]]:
    """Return the mean overlap of each seed, in shares; runs that share a pool count once."""
    by_seed: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in rows:
        by_seed.setdefault(seed(row), {})[json.dumps(row["overlap"])] = row["overlap"]
    return [_merged(list(overlaps.values())) for overlaps in by_seed.values()]


def _merged(overlaps: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    shares: dict[tuple[str, ...], float] = {}
    for overlap in overlaps:
        whole = sum(entry["count"] for entry in overlap) * len(overlaps)
        for entry in overlap:
            key = tuple(entry["sources"])
            shares[key] = shares.get(key, 0.0) + entry["count"] / whole
    return [{"sources": list(key), "count": share} for key, share in shares.items()]
