"""What the paper and others claim, study by study, and the findings that compare a sweep's rows with it.

The first finding of each study is its primary one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from qrft.evaluation.stats import mean
from qrft.report.sweep.points import fraction, seed
from qrft.studies import published
from qrft.studies.estimates import (
    MARGIN,
    Endpoint,
    compared,
    curvature,
    endpoints,
    fitted,
    largest,
    less,
    level,
    of_models,
    r2,
    setting,
    slope,
    span,
    unequal_training,
    with_value,
)
from qrft.studies.finding import Finding, signed
from qrft.studies.measured import Measure, Row, Rows, by_seed, over_bases, over_seeds

# ------------------------------------------------------------------------------------------------------- data-fraction

STRAIGHT = (
    1.0  # points per doubling squared: the paper's models bend by -0.37 to +0.55 from 1/8 on, with an error of 0.7
)


def data_fraction(rows: Rows) -> Iterator[Finding]:
    """Compare SFT over shares of the training data: from 1/8 on, where the paper has a line, and over all shares."""
    key = setting(rows, "train_fraction")
    known = [row for row in rows if row.get(key) is not None]
    line = published.NUM_LOG_LINEAR
    yield from _over_shares(
        [row for row in known if row[key] >= published.FRACTIONS[line - 1]],
        key,
        "The paper found that SFT accuracy rises with the data, from 1/8 to all of it: by {rise} points per doubling, "
        "depending on the model",
        "The paper calls the relation log-linear: in its tables the accuracy bends by {bend} points per doubling "
        f"squared, depending on the model; this project calls less than {STRAIGHT:g} straight",
        line,
    )
    if any(row[key] < published.FRACTIONS[line - 1] for row in known):
        yield from _over_shares(
            known,
            key,
            "The paper's accuracies also rise from 1/32 on: by {rise} points per doubling, depending on the model",
            "The paper does not claim that the line continues down to 1/32: over all six shares its tables bend by "
            f"{{bend}} points per doubling squared; this project calls less than {STRAIGHT:g} straight",
            len(published.FRACTIONS),
        )


def _over_shares(rows: Rows, key: str, rise: str, line: str, num_shares: int) -> Iterator[Finding]:
    """Compare the rise per doubling and its bend, here and in the paper's tables over its num_shares largest shares."""
    shares = published.FRACTIONS[:num_shares]
    tables = [accuracies[:num_shares] for accuracies in published.SFT.values()]
    rises = [fitted(shares, accuracies, log=True).slope for accuracies in tables]
    bends = [float(np.polyfit(np.log2(shares), accuracies, 2)[0]) for accuracies in tables]
    least = fraction(min((row[key] for row in rows), default=0.0))
    for end in endpoints(rows, "sft"):
        yield Finding(
            rise.format(rise=_span(rises)),
            f"the rise of {end.words} from {least} on",
            "points per doubling",
            over_seeds(rows, of_models(slope(key, end.of("sft"), log=True))),
            margin=MARGIN / span(rows, key, log=True),
            paper=(min(rises), max(rises)),
        )
        yield Finding(
            line.format(bend=_span(bends)),
            f"the bend of {end.words} from {least} on",
            "points per doubling squared",
            over_seeds(rows, of_models(curvature(key, end.of("sft")))),
            sign=0,
            margin=STRAIGHT,
        )


# --------------------------------------------------------------------------------------------------------- num-samples

FEW = 2.0  # points: what leaving out duplicates may change, if they matter little


def num_samples(rows: Rows) -> Iterator[Finding]:
    """Compare RFT over k and over distinct paths, with and without dedup."""
    k, dedup = setting(rows, "num_samples"), setting(rows, "dedup")
    distinct, most = [row for row in rows if row.get(dedup, True)], largest(rows, k)
    least = min((row[k] for row in distinct if row.get(k) is not None), default=0)
    ends = [with_value(distinct, k, value) for value in (least, most)]
    longer = tuple(unequal_training(ends[0], ends[1], (f"k = {least}", f"k = {most}"))) if least != most else ()
    for end in endpoints(rows):
        for x, unit, over, paper in (
            (k, "k", "k", [fitted(published.K, found, log=True) for found in published.RFT.values()]),
            (
                "distinct_paths",
                "the distinct paths per problem",
                "distinct paths",
                [fitted(published.PATHS[name], found, log=True) for name, found in published.RFT.items()],
            ),
        ):
            slopes = [fit.slope for fit in paper]
            yield Finding(
                f"The paper found that RFT accuracy rises with {over}: by {_span(slopes)} points per doubling",
                f"the rise of {end.words}",
                f"points per doubling of {unit}",
                over_seeds(distinct, of_models(slope(x, end.of("rft"), log=True))),
                margin=MARGIN / span(distinct, x, log=True),
                paper=(min(slopes), max(slopes)),
                caveats=longer,
            )
        of_most = with_value(rows, k, most)
        arms = compared(
            with_value(of_most, dedup, False), with_value(of_most, dedup, True), end, ("all rows", "distinct rows")
        )
        changes = _span(published.RFT[name][-1] - without for name, without in published.NO_DEDUP.items())
        yield Finding(
            f"The paper found that leaving out duplicates at k = 100 changes accuracy by {changes} points: distinct "
            f"paths count, not rows; this project calls less than {FEW:g} points little",
            f"the change of {end.words} at k = {most}, from all rows to distinct ones,",
            "points",
            arms.change,
            sign=0,
            margin=FEW,
            caveats=arms.caveats,
        )


# ---------------------------------------------------------------------------------------------------------------- gain


def gain(rows: Rows) -> Iterator[Finding]:
    """Compare RFT's gain over all bases, and for weak and strong ones.

    The gain is over SFT for as many steps where the rows have that control. A run's place among the bases is the mean
    SFT accuracy of the other seeds: with its own, the gain would look small wherever SFT was lucky.
    """
    up_to_33b = [published.RFT_GAIN[name] for name in published.UP_TO_33B]
    paper = fitted([accuracies[0] for accuracies in published.SFT.values()], list(published.RFT_GAIN.values()))
    for end in endpoints(rows):
        known = [row for row in rows if row.get(end.of("rft")) is not None]
        has_control = bool(known) and all(row.get(end.of("control")) is not None for row in known)
        before = "control" if has_control else "sft"
        over = "SFT for as many steps" if has_control else "SFT"
        caveats = () if has_control else tuple(unequal_training(known, known, ("SFT", "RFT"), ("sft", "rft")))

        def gained(own: Rows, end: Endpoint = end, before: str = before) -> float | None:
            return less(level(own, end.of("rft")), level(own, end.of(before)))

        yield Finding(
            f"The paper found that RFT beats SFT for models up to 33B: by {_span(up_to_33b)} points with U13B; not for "
            f"65B and 70B-2, {signed(published.RFT_GAIN['65B'])} and {signed(published.RFT_GAIN['70B-2'])} points",
            f"the mean gain of {end.words} over {over}",
            "points",
            over_seeds(rows, gained, over_each_base=True),
            margin=MARGIN,
            paper=(min(up_to_33b), max(up_to_33b)),
            caveats=caveats,
        )
        placed = [
            {**row, "place": _others(rows, row, end), "gained": change / 100}
            for row in known
            if (change := gained([row])) is not None
        ]
        yield Finding(
            "The paper found that RFT helps weak models more: with U13B "
            f"{signed(paper.slope)} points of gain per point of SFT accuracy",
            f"the change of the gain in {end.words} over {over}",
            "points per point of SFT accuracy",
            over_bases(placed, _mean_of_seeds(slope("place", "gained", by="model")), num_fitted=2),
            sign=-1,
            margin=MARGIN / span(placed, "place"),
            paper=(paper.slope, paper.slope),
            caveats=caveats,
        )


def _others(rows: Rows, row: Row, end: Endpoint) -> float | None:
    """Return the SFT accuracy of a row's base with the other seeds, in points."""
    others = [other for other in rows if other["model"] == row["model"] and seed(other) != seed(row)]
    return level(others, end.of("sft"))


def _mean_of_seeds(measure: Measure) -> Measure:
    """Return the mean over seeds of a measure in which a seed's rows are compared only with each other."""

    def averaged(rows: Rows) -> float | None:
        values = [measure(group) for group in by_seed(rows)]
        known = [value for value in values if value is not None]
        return mean(known) if known else None

    return averaged


# ------------------------------------------------------------------------------------------------------------- pooling


def pooling(rows: Rows) -> Iterator[Finding]:
    """Compare the paths of several models with a model's own, at the same k and at the same number of samples."""
    pool, k = setting(rows, "pool"), setting(rows, "num_samples")
    most = largest(rows, k)
    paper = [published.U13B[name] - accuracies[-1] for name, accuracies in published.RFT.items()]
    alone = [row for row in rows if not row.get(pool) and row.get(k) == most]
    sizes = sorted({len(row.get(pool) or ()) for row in rows} - {0, 1}, reverse=True)
    for end in endpoints(rows):
        for size in sizes:
            pooled = [row for row in rows if len(row.get(pool) or ()) == size]
            same_k = compared(alone, with_value(pooled, k, most), end, ("its own paths", "the pool"))
            yield Finding(
                "The paper found that pooling 4 models beats one model's own paths at the same k, 100: by "
                f"{_span(paper)} points",
                f"the change of {end.words} by pooling {size} models at k = {most} for each",
                "points",
                same_k.change,
                margin=MARGIN,
                paper=(min(paper), max(paper)),
                caveats=same_k.caveats,
            )
            same_number = compared(alone, with_value(pooled, k, most // size), end, ("its own paths", "the pool"))
            yield Finding(
                "The paper's pools have more samples than one model has; that they also help at the same number is "
                "implied, not measured",
                f"the change of {end.words} by pooling {size} models at k = {most // size}, against k = {most},",
                "points",
                same_number.change,
                margin=MARGIN,
                caveats=same_number.caveats,
            )


# ---------------------------------------------------------------------------------------------------- pretraining-loss


def pretraining_loss(rows: Rows) -> Iterator[Finding]:
    """Compare pre-training loss with parameters as predictors of SFT and ICL accuracy, with one point per base."""
    sft = [accuracies[0] for accuracies in published.SFT.values()]
    for stage, per_nat, points, accuracies in (
        ("SFT", 88.2, "12 points, GPT-3 and GPT-4 among them", sft),
        ("ICL", 166.4, "7 points", [*published.ICL.values()]),
    ):
        column = f"{stage.lower()}.accuracy"
        known = [row for row in rows if row.get("base_model.loss") is not None and row.get(column) is not None]
        by_size = fitted([*published.BILLIONS.values()], accuracies, log=True).r2
        yield Finding(
            "The paper claims that pre-training loss predicts accuracy better than size: over its seven LLaMA models "
            f"{stage} accuracy has an R² of 0.98 by loss and, from its tables, {by_size:.2f} by the logarithm of the "
            "parameters",
            f"R² of {stage} by loss minus R² by size",
            "",
            over_bases(known, _better_by_loss(column), num_fitted=3),
            bounds=(-1, 1),
        )
        yield Finding(
            f"The line in the paper's figure has −{per_nat} points of {stage} accuracy per nat of pre-training loss "
            f"({points})",
            f"{stage}'s change",
            "points per nat",
            over_bases(known, slope("base_model.loss", column, by="model"), num_fitted=2),
            sign=-1,
            margin=MARGIN / span(known, "base_model.loss"),
        )


def _better_by_loss(column: str) -> Measure:
    """Return R² by pre-training loss minus R² by the logarithm of the parameters."""

    def measure(rows: Rows) -> float | None:
        by_loss = r2("base_model.loss", column, by="model")(rows)
        return less(by_loss, r2("base_model.num_parameters", column, log=True, by="model")(rows))

    return measure


# ----------------------------------------------------------------------------------------------------------- selection


def selection(rows: Rows) -> Iterator[Finding]:
    """Compare rules for which of the paths with one key is kept, and for what makes a key."""
    keep, order = setting(rows, "keep"), setting(rows, "order")
    implied = "and does not compare this with anything; that it helps is implied"
    for end in endpoints(rows):
        for other in dict.fromkeys(row.get(keep) for row in rows):
            if other not in (None, "farthest"):
                chosen = "a random" if other == "random" else f"the {other}"
                arms = compared(with_value(rows, keep, other), with_value(rows, keep, "farthest"), end)
                yield Finding(
                    f"Of equal paths the paper keeps the one farthest from the others, {implied}",
                    f"the change of {end.words} by keeping the farthest instead of {chosen} one",
                    "points",
                    arms.change,
                    margin=MARGIN,
                    caveats=arms.caveats,
                )
        arms = compared(with_value(rows, order, "commutative"), with_value(rows, order, "exact"), end)
        yield Finding(
            f"The paper counts operands in another order as another path, {implied}",
            f"the change of {end.words} by an exact instead of a commutative key",
            "points",
            arms.change,
            margin=MARGIN,
            caveats=arms.caveats,
        )


# -------------------------------------------------------------------------------------------------------------- budget

EQUAL_TOKENS = 0.02  # the share of the tokens by which two runs may differ and still be compared


def budget(rows: Rows) -> Iterator[Finding]:
    """Compare more samples for hard problems with as many for each, where both took the same number of tokens."""
    key = setting(rows, "until")
    uniform, goal = ([row for row in rows if has_goal(row.get(key)) == wanted] for wanted in (False, True))
    tokens = {(row["model"], seed(row)): row.get("sampled_tokens") for row in uniform}
    ratios = [
        row["sampled_tokens"] / before
        for row in goal
        if row.get("sampled_tokens") and (before := tokens.get((row["model"], seed(row))))
    ]
    is_equal = all(abs(ratio - 1) <= EQUAL_TOKENS for ratio in ratios)
    extent = f", with {min(ratios):.2f} to {max(ratios):.2f} times the tokens," if ratios and not is_equal else ""
    for end in endpoints(rows):
        arms = compared(uniform, goal, end)
        yield Finding(
            "Tong et al. 2024 (DART-Math) found +3.5 to +4.5 points by sampling hard problems more, at an equal set "
            "size",
            f"the change of {end.words} by sampling hard problems more{extent}",
            "points",
            arms.change,
            margin=MARGIN,
            paper=(3.5, 4.5),
            note="" if is_equal or not arms.change else "more tokens may help by themselves, so they have to be equal",
            caveats=arms.caveats,
        )


def has_goal(until: Mapping[str, Any] | None) -> bool:
    return any((until or {}).get(key) for key in ("correct", "distinct"))


# -------------------------------------------------------------------------------------------------------------- rounds


def rounds(rows: Rows) -> Iterator[Finding]:
    """Compare accuracy over several rounds of RFT, and pass@k before and after them."""
    key = setting(rows, "rounds")
    later = [row for row in rows if row.get(key, 0) >= 1]
    last = largest(later, key)
    caveats = tuple(
        unequal_training(
            with_value(later, key, 1), with_value(later, key, last), ("the model of round 1", f"that of round {last}")
        )
    )
    for end in endpoints(later):
        yield Finding(
            "Singh et al. 2023 (ReST-EM) found that rounds help on MATH, by 6 points in all; the paper has one round",
            f"the rise of {end.words}",
            "points per round",
            over_seeds(later, of_models(slope(key, end.of("rft")))),
            margin=MARGIN / span(later, key),
            caveats=caveats,
        )
    names = {name.removeprefix("rft.pass@") for row in later for name in row if name.startswith("rft.pass@")}
    most = max((int(k) for k in names if k.isdigit()), default=0)

    def change(own: Rows) -> float | None:
        return less(level(own, f"rft.pass@{most}"), level(own, f"sft.pass@{most}"))

    yield Finding(
        "Later work found that pass@k at large k falls while accuracy rises: the samples lose diversity",
        f"the change of pass@{most or 'k'} from SFT to round {last}",
        "points",
        over_seeds([row for row in later if row[key] == last], of_models(change)),
        sign=-1,
        margin=MARGIN,
    )


def _span(values: Iterable[float]) -> str:
    """Return the least and the largest value, such as `+1.9 to +8.2`."""
    listed = list(values)
    return f"{signed(min(listed))} to {signed(max(listed))}"
