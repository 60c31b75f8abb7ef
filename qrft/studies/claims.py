"""What the paper and others claim, study by study, and the findings that compare a sweep's rows with it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from qrft.evaluation.stats import height_at_zero
from qrft.report.sweep.points import fraction, seed
from qrft.studies import published
from qrft.studies.estimates import (
    RFT,
    Row,
    Rows,
    changes,
    changes_of,
    fitted,
    largest,
    less,
    level,
    of_models,
    per_seed,
    r2,
    setting,
    slope,
)
from qrft.studies.finding import Finding, signed

# ------------------------------------------------------------------------------------------------------- data-fraction


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
        "The paper calls the relation log-linear: in its tables a line in the logarithm has an R² of {r2}; this "
        "project asks for 0.9",
        line,
    )
    if any(row[key] < published.FRACTIONS[line - 1] for row in known):
        yield from _over_shares(
            known,
            key,
            "The paper's accuracies also rise from 1/32 on: by {rise} points per doubling, depending on the model",
            "The paper does not claim that the line continues down to 1/32: its tables have an R² of {r2} over all six "
            "shares; this project asks for 0.9",
            len(published.FRACTIONS),
        )


def _over_shares(rows: Rows, key: str, rise: str, line: str, num_shares: int) -> Iterator[Finding]:
    """Compare the rise per doubling and R², here and in the paper's tables over its num_shares largest shares."""
    shares = published.FRACTIONS[:num_shares]
    paper = [fitted(shares, accuracies[:num_shares], log=True) for accuracies in published.SFT.values()]
    least = fraction(min((row[key] for row in rows), default=0.0))
    yield Finding(
        rise.format(rise=_span(fit.slope for fit in paper)),
        f"the rise from {least} on",
        "points per doubling",
        per_seed(rows, of_models(slope(key, "sft.accuracy", log=True))),
        above=0,
    )
    yield Finding(
        line.format(r2=f"{min(fit.r2 for fit in paper):.2f} to {max(fit.r2 for fit in paper):.2f}"),
        f"R² from {least} on",
        "",
        per_seed(rows, of_models(r2(key, "sft.accuracy", log=True))),
        above=0.9,
        is_change=False,
        bounds=(0, 1),
    )


# --------------------------------------------------------------------------------------------------------- num-samples


def num_samples(rows: Rows) -> Iterator[Finding]:
    """Compare RFT over k and over distinct paths, with and without dedup."""
    k, dedup = setting(rows, "num_samples"), setting(rows, "dedup")
    distinct = [row for row in rows if row.get(dedup, True)]
    over_k = [fitted(published.K, accuracies, log=True) for accuracies in published.RFT.values()]
    yield Finding(
        f"The paper found that RFT accuracy rises with k: by {_span(fit.slope for fit in over_k)} points per doubling",
        "the rise",
        "points per doubling of k",
        per_seed(distinct, of_models(slope(k, RFT, log=True))),
        above=0,
    )
    over_paths = [fitted(published.PATHS[name], values, log=True) for name, values in published.RFT.items()]
    yield Finding(
        "The paper found that RFT accuracy rises with distinct paths: by "
        f"{_span(fit.slope for fit in over_paths)} points per doubling",
        "the rise",
        "points per doubling of the distinct paths per problem",
        per_seed(distinct, of_models(slope("distinct_paths", RFT, log=True))),
        above=0,
    )
    most = largest(rows, k)
    paper = _span(published.RFT[name][-1] - without for name, without in published.NO_DEDUP.items())
    yield Finding(
        f"The paper found that leaving out duplicates at k = 100 changes accuracy by {paper} points: distinct paths "
        "count, not rows; here it should cost less than 2",
        f"the change at k = {most}",
        "points",
        changes_of([row for row in rows if row.get(k) == most], dedup, False, True),
        above=-2,
    )


# ---------------------------------------------------------------------------------------------------------------- gain


def gain(rows: Rows) -> Iterator[Finding]:
    """Compare RFT's gain for weak and strong bases.

    A run's place among the bases is the mean SFT accuracy of the other seeds. With its own, the gain would look small
    wherever SFT was lucky.
    """
    paper = fitted([accuracies[0] for accuracies in published.SFT.values()], list(published.RFT_GAIN.values()))
    placed = [{**row, "others": _sft_of_other_seeds(rows, row)} for row in rows]
    yield Finding(
        f"The paper found that RFT helps weak models more: with U13B {signed(paper.slope)} points of gain per point of "
        "SFT accuracy",
        "the change",
        "points of gain per point of SFT accuracy",
        per_seed(placed, slope("others", "gain", by="model")),
        below=0,
    )
    yield Finding(
        "The paper found that RFT beats SFT for models up to 33B: by "
        f"{_span(published.RFT_GAIN[name] for name in published.UP_TO_33B)} points with U13B; not for 65B and 70B-2, "
        f"{signed(published.RFT_GAIN['65B'])} and {signed(published.RFT_GAIN['70B-2'])} points",
        "the mean gain over the models",
        "points",
        per_seed(rows, of_models(lambda own: level(own, "gain"))),
        above=0,
    )


def _sft_of_other_seeds(rows: Rows, row: Row) -> float | None:
    others = [other for other in rows if other["model"] == row["model"] and seed(other) != seed(row)]
    return level(others, "sft.accuracy")


# ------------------------------------------------------------------------------------------------------------- pooling


def pooling(rows: Rows) -> Iterator[Finding]:
    """Compare the paths of several models with a model's own, at the same k and at the same number of samples."""
    pool, k = setting(rows, "pool"), setting(rows, "num_samples")
    most = largest(rows, k)
    paper = _span(published.U13B[name] - accuracies[-1] for name, accuracies in published.RFT.items())
    alone = [row for row in rows if not row.get(pool) and row.get(k) == most]
    for size in sorted({len(row.get(pool) or ()) for row in rows} - {0, 1}):
        pooled = [row for row in rows if len(row.get(pool) or ()) == size]
        yield Finding(
            f"The paper found that pooling 4 models beats one model's own paths at the same k, 100: by {paper} points",
            f"pooling {size} models at k = {most} for each",
            "points over a model's own paths",
            changes(alone, [row for row in pooled if row.get(k) == most]),
            above=0,
        )
        yield Finding(
            "The paper's pools have more samples than one model has; that they also help at the same number is "
            "implied, not measured",
            f"pooling {size} models at k = {most // size} for each, against k = {most},",
            "points over a model's own paths",
            changes(alone, [row for row in pooled if row.get(k) == most // size]),
            above=0,
        )


# ---------------------------------------------------------------------------------------------------- pretraining-loss


def pretraining_loss(rows: Rows) -> Iterator[Finding]:
    """Compare pre-training loss with parameters as predictors of SFT and ICL accuracy, with one point per model."""
    sft = [accuracies[0] for accuracies in published.SFT.values()]
    for stage, paper_slope, points, accuracies in (
        ("SFT", "−88.2", "12 points, GPT-3 and GPT-4 among them", sft),
        ("ICL", "−166.4", "7 points", [*published.ICL.values()]),
    ):
        column = f"{stage.lower()}.accuracy"
        yield Finding(
            f"The line in the paper's figure has {paper_slope} points of {stage} accuracy per nat of pre-training loss "
            f"({points})",
            f"{stage}'s change",
            "points per nat",
            per_seed(rows, slope("base_model.loss", column, by="model")),
            below=0,
        )
        by_size = fitted([*published.BILLIONS.values()], accuracies, log=True).r2
        yield Finding(
            "The paper claims that pre-training loss predicts accuracy better than size: over its seven LLaMA models "
            f"{stage} accuracy has an R² of 0.98 by loss and, from its tables, {by_size:.2f} by the logarithm of the "
            "parameters",
            f"R² of {stage} by loss minus R² by size",
            "",
            per_seed(rows, lambda own, column=column: _better_by_loss(own, column)),  # type: ignore[misc]
            above=0,
            bounds=(-1, 1),
        )


def _better_by_loss(rows: Rows, column: str) -> float | None:
    """Return R² by pre-training loss minus R² by the logarithm of the parameters."""
    by_loss = r2("base_model.loss", column, by="model")(rows)
    return less(by_loss, r2("base_model.num_parameters", column, log=True, by="model")(rows))


# ----------------------------------------------------------------------------------------------------------- selection


def selection(rows: Rows) -> Iterator[Finding]:
    """Compare rules for which of the paths with one key is kept, and for what makes a key."""
    keep, order = setting(rows, "keep"), setting(rows, "order")
    implied = "and does not compare this with anything; that it helps is implied"
    for other in dict.fromkeys(row.get(keep) for row in rows):
        if other not in (None, "farthest"):
            chosen = "a random" if other == "random" else f"the {other}"
            yield Finding(
                f"Of equal paths the paper keeps the one farthest from the others, {implied}",
                f"the change by keeping the farthest instead of {chosen} one",
                "points",
                changes_of(rows, keep, other, "farthest"),
                above=0,
            )
    yield Finding(
        f"The paper counts operands in another order as another path, {implied}",
        "the change by an exact instead of a commutative key",
        "points",
        changes_of(rows, order, "commutative", "exact"),
        above=0,
    )


# -------------------------------------------------------------------------------------------------------------- budget

EQUAL_TOKENS = 0.02  # the share of the tokens by which two runs may differ and still be compared as they are


def budget(rows: Rows) -> Iterator[Finding]:
    """Compare more samples for hard problems with as many for each, at equal tokens.

    How many tokens a goal takes differs from seed to seed. So the change is regressed on the logarithm of the tokens'
    ratio, and the line through the seeds is read off at a ratio of 1 (analysis of covariance).
    """
    key = setting(rows, "until")
    known = [
        {**row, "log_tokens": math.log(row["sampled_tokens"])}
        for row in rows
        if row.get(RFT) is not None and row.get("sampled_tokens")
    ]
    uniform, goal = ([row for row in known if has_goal(row.get(key)) == wanted] for wanted in (False, True))
    change, logs = changes(uniform, goal), [points / 100 for points in changes(uniform, goal, "log_tokens")]
    low, high = math.exp(min(logs, default=0)), math.exp(max(logs, default=0))
    span = f"{low:.2f} to {high:.2f} times"
    is_equal = max(high - 1, 1 - low) <= EQUAL_TOKENS
    at_equal = height_at_zero(logs, change) if not is_equal and low <= 1 <= high else None
    how = f"at equal tokens by a line through seeds with {span} as many" if at_equal else f"with {span} the tokens"
    yield Finding(
        "Tong et al. 2024 (DART-Math) found +3.5 to +4.5 points by sampling hard problems more, at an equal set size",
        f"the change by sampling hard problems more{f', {how},' if change else ''}",
        "points",
        change,
        above=0,
        note=""
        if is_equal or at_equal
        else "a comparison at equal tokens takes at least four seeds, some with more tokens and some with fewer",
        fitted=at_equal,
    )


def has_goal(until: Mapping[str, Any] | None) -> bool:
    return any((until or {}).get(key) for key in ("correct", "distinct"))


# -------------------------------------------------------------------------------------------------------------- rounds


def rounds(rows: Rows) -> Iterator[Finding]:
    """Compare accuracy over several rounds of RFT, and pass@k before and after them."""
    key = setting(rows, "rounds")
    later = [row for row in rows if row.get(key, 0) >= 1]
    yield Finding(
        "Singh et al. 2023 (ReST-EM) found that rounds help on MATH, by 6 points in all; the paper has one round",
        "the rise",
        "points per round",
        per_seed(later, of_models(slope(key, RFT))),
        above=0,
    )
    names = {name.removeprefix("rft.pass@") for row in later for name in row if name.startswith("rft.pass@")}
    most, last = max((int(k) for k in names if k.isdigit()), default=0), largest(later, key)

    def change(own: Rows) -> float | None:
        return less(level(own, f"rft.pass@{most}"), level(own, f"sft.pass@{most}"))

    yield Finding(
        "Later work found that pass@k at large k falls while accuracy rises: the samples lose diversity",
        f"the change of pass@{most or 'k'} from SFT to round {last}",
        "points",
        per_seed([row for row in later if row[key] == last], of_models(change)),
        below=0,
    )


def _span(values: Iterable[float]) -> str:
    """Return the least and the largest value, such as `+1.9 to +8.2`."""
    listed = list(values)
    return f"{signed(min(listed))} to {signed(max(listed))}"
