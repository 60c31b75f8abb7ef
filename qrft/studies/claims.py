"""The studies: of each the claims of the paper, and the figures that a sweep holds against them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from qrft.evaluation.stats import Line, height_at_zero, line_fit
from qrft.report.sweep.cells import fraction, seed
from qrft.studies import published
from qrft.studies.estimates import Row, Rows, difference, level, of_models, per_seed, r2, setting, slope
from qrft.studies.finding import Finding, signed

RFT = "rft.accuracy"
EQUAL_TOKENS = 0.02  # shares of the tokens by which two runs may differ and still be compared as they are


def data_fraction(rows: Rows) -> Iterator[Finding]:
    """SFT over the share of the training data: over 1 to 1/8, where the paper has a line, and over all shares."""
    key = setting(rows, "train_fraction")
    known = [row for row in rows if row.get(key) is not None]
    line = published.NUM_LOG_LINEAR
    yield from _over_shares(
        [row for row in known if row[key] >= published.FRACTIONS[line - 1]],
        key,
        "The paper found that SFT accuracy rises with the data, from 1/8 to all of it: by {rise} points a doubling, "
        "from model to model",
        "The paper calls the relation log-linear: in its tables a line in the logarithm has an R² of {r2}, and 0.9 is "
        "asked for here",
        line,
    )
    if any(row[key] < published.FRACTIONS[line - 1] for row in known):
        yield from _over_shares(
            known,
            key,
            "From 1/32 on, too, the paper's accuracies rise: by {rise} points a doubling, from model to model",
            "That the line goes on down to 1/32 the paper does not claim: its tables have an R² of {r2} over all six "
            "shares; 0.9 is asked for here",
            len(published.FRACTIONS),
        )


def _over_shares(rows: Rows, key: str, rise: str, line: str, num_shares: int) -> Iterator[Finding]:
    """The rise a doubling and R², here and in the paper's tables over its num_shares largest shares."""
    paper = [_log_fit(published.FRACTIONS[:num_shares], found[:num_shares]) for found in published.SFT.values()]
    least = fraction(min((row[key] for row in rows), default=0.0))
    yield Finding(
        rise.format(rise=_span(fit.slope for fit in paper)),
        f"the rise from {least} on",
        "points a doubling",
        per_seed(rows, _of_models(slope, key, "sft.accuracy", log=True)),
        above=0,
    )
    yield Finding(
        line.format(r2=f"{min(fit.r2 for fit in paper):.2f} to {max(fit.r2 for fit in paper):.2f}"),
        f"R² from {least} on",
        "",
        per_seed(rows, _of_models(r2, key, "sft.accuracy", log=True)),
        above=0.9,
        is_change=False,
        bounds=(0, 1),
    )


def num_samples(rows: Rows) -> Iterator[Finding]:
    """RFT over k and over distinct paths, with and without dedup."""
    k, dedup = setting(rows, "num_samples"), setting(rows, "dedup")
    distinct = [row for row in rows if row.get(dedup, True)]
    over_k = [_log_fit(published.K, accuracies) for accuracies in published.RFT.values()]
    yield Finding(
        f"The paper found that RFT accuracy rises with k: by {_span(fit.slope for fit in over_k)} points a doubling",
        "the rise",
        "points a doubling of k",
        per_seed(distinct, _of_models(slope, k, RFT, log=True)),
        above=0,
    )
    over_paths = [_log_fit(published.PATHS[name], accuracies) for name, accuracies in published.RFT.items()]
    yield Finding(
        "The paper found that RFT accuracy rises with distinct paths: by "
        f"{_span(fit.slope for fit in over_paths)} points for twice as many",
        "the rise",
        "points for twice the distinct paths a problem",
        per_seed(distinct, _of_models(slope, "distinct_paths", RFT, log=True)),
        above=0,
    )
    most = max((row[k] for row in rows if row.get(k) is not None), default=0)
    changes = _span(published.RFT[name][-1] - without for name, without in published.NO_DEDUP.items())
    yield Finding(
        f"The paper found that leaving out duplicates at k = 100 changes accuracy by {changes} points: distinct paths "
        "count, not rows; here it should cost less than 2",
        f"the change at k = {most}",
        "points",
        _differences([row for row in rows if row.get(k) == most], dedup, False, True),
        above=-2,
    )


def gain(rows: Rows) -> Iterator[Finding]:
    """RFT's gain for weak and strong bases.

    A run's place among the bases is the mean SFT accuracy of the other seeds. With its own, chance alone would make the
    gain small where SFT was lucky.
    """
    paper = _fit([accuracies[0] for accuracies in published.SFT.values()], list(published.RFT_GAIN.values()))
    placed = [{**row, "others": _of_other_seeds(rows, row)} for row in rows]
    yield Finding(
        f"The paper found that RFT helps weak models more: with U13B {signed(paper.slope)} points of gain a point of "
        "SFT accuracy",
        "the change",
        "points of gain a point of SFT accuracy",
        per_seed(placed, _of_all(slope, "others", "gain", by="model")),
        below=0,
    )
    yield Finding(
        "The paper found that RFT beats SFT for models up to 33B: by "
        f"{_span(published.RFT_GAIN[name] for name in published.UP_TO_33B)} points with U13B; not for 65B and 70B-2, "
        f"{signed(published.RFT_GAIN['65B'])} and {signed(published.RFT_GAIN['70B-2'])} points",
        "the mean gain over the models",
        "points",
        per_seed(rows, _of_models(level, "gain")),
        above=0,
    )


def _of_other_seeds(rows: Rows, row: Row) -> float | None:
    return level([r for r in rows if r["model"] == row["model"] and seed(r) != seed(row)], "sft.accuracy")


def pooling(rows: Rows) -> Iterator[Finding]:
    """Paths of several models against a model's own, at the same k and at the same number of samples."""
    pool, k = setting(rows, "pool"), setting(rows, "num_samples")
    most = max((row[k] for row in rows if row.get(k) is not None), default=0)
    paper = _span(published.U13B[name] - accuracies[-1] for name, accuracies in published.RFT.items())
    alone = [row for row in rows if not row.get(pool) and row.get(k) == most]
    for size in sorted({len(row.get(pool) or ()) for row in rows} - {0, 1}):
        pooled = [row for row in rows if len(row.get(pool) or ()) == size]
        yield Finding(
            f"The paper found that pooling 4 models beats one model's own paths at the same k, 100: by {paper} points",
            f"pooling {size} models at k = {most} for each",
            "points over a model's own paths",
            _pairs(alone, [row for row in pooled if row.get(k) == most]),
            above=0,
        )
        yield Finding(
            "The paper's pools have more samples than one model has; that they help at the same number too is implied, "
            "not measured",
            f"pooling {size} models at k = {most // size} for each, against k = {most},",
            "points over a model's own paths",
            _pairs(alone, [row for row in pooled if row.get(k) == most // size]),
            above=0,
        )


def pretraining_loss(rows: Rows) -> Iterator[Finding]:
    """Pre-training loss against parameters as predictors of SFT and ICL accuracy, a point a model."""
    sft = [accuracies[0] for accuracies in published.SFT.values()]
    for stage, slope_there, points, accuracies in (
        ("SFT", "−88.2", "12 points, GPT-3 and GPT-4 among them", sft),
        ("ICL", "−166.4", "7 points", [*published.ICL.values()]),
    ):
        column = f"{stage.lower()}.accuracy"
        yield Finding(
            f"The line in the paper's figure has {slope_there} points of {stage} accuracy a nat of pre-training loss "
            f"({points})",
            f"{stage}'s change",
            "points a nat",
            per_seed(rows, _of_all(slope, "base_model.loss", column, by="model")),
            below=0,
        )
        by_size = _log_fit([*published.BILLIONS.values()], accuracies).r2
        yield Finding(
            "The paper holds that pre-training loss tells accuracy better than size: over its seven LLaMA models "
            f"{stage} accuracy has an R² of 0.98 by loss and, from its tables, {by_size:.2f} by the logarithm of the "
            "parameters",
            f"R² of {stage} by loss less R² by size",
            "",
            per_seed(rows, _of_all(_better, column)),
            above=0,
            bounds=(-1, 1),
        )


def _better(rows: Rows, column: str) -> float | None:
    by_loss = r2(rows, "base_model.loss", column, by="model")
    by_size = r2(rows, "base_model.num_parameters", column, log=True, by="model")
    return None if by_loss is None or by_size is None else by_loss - by_size


def selection(rows: Rows) -> Iterator[Finding]:
    """Which of the paths with one key is kept, and what makes a key."""
    keep, order = setting(rows, "keep"), setting(rows, "order")
    implied = "and does not compare; that it helps is implied"
    for other in dict.fromkeys(row.get(keep) for row in rows):
        if other not in (None, "farthest"):
            yield Finding(
                f"The paper keeps of equal paths the one farthest from the others, {implied}",
                f"keeping the farthest rather than the {other}",
                "points",
                _differences(rows, keep, other, "farthest"),
                above=0,
            )
    yield Finding(
        f"The paper counts operands in another order as another path, {implied}",
        "an exact rather than a commutative key",
        "points",
        _differences(rows, order, "commutative", "exact"),
        above=0,
    )


def budget(rows: Rows) -> Iterator[Finding]:
    """More samples for hard problems, at equal tokens.

    How many tokens a goal takes differs from seed to seed. So the change is held against the logarithm of the tokens'
    ratio, and the line through the seeds read off at a ratio of 1 (analysis of covariance).
    """
    key = setting(rows, "until")
    known = [
        {**row, "log_tokens": math.log(row["sampled_tokens"])}
        for row in rows
        if row.get(RFT) is not None and row.get("sampled_tokens")
    ]
    uniform, goal = ([row for row in known if has_goal(row.get(key)) == wanted] for wanted in (False, True))
    changes, logs = _pairs(uniform, goal), [change / 100 for change in _pairs(uniform, goal, "log_tokens")]
    low, high = math.exp(min(logs, default=0)), math.exp(max(logs, default=0))
    span = f"{low:.2f} to {high:.2f} times"
    at_equal = None
    name, note = f"with {span} the tokens", ""
    if max(high - 1, 1 - low) > EQUAL_TOKENS:
        note = "to tell of equal tokens takes four seeds, some with more tokens and some with fewer"
        at_equal = height_at_zero(logs, changes) if low <= 1 <= high else None
    if at_equal:
        name, note = f"at equal tokens by a line through seeds with {span} as many", ""
    yield Finding(
        "Tong et al. 2024 (DART-Math) found +3.5 to +4.5 points by sampling hard problems more, at an equal set size",
        f"the change by sampling hard problems more{f', {name},' if changes else ''}",
        "points",
        changes,
        above=0,
        note=note,
        estimate=at_equal,
    )


def has_goal(until: Mapping[str, Any] | None) -> bool:
    return any((until or {}).get(key) for key in ("correct", "distinct"))


def rounds(rows: Rows) -> Iterator[Finding]:
    """Several rounds of RFT, pass@k watched."""
    key = setting(rows, "rounds")
    later = [row for row in rows if row.get(key, 0) >= 1]
    yield Finding(
        "Singh et al. 2023 (ReST-EM) found that rounds help on MATH, by 6 points in all; the paper has one round",
        "the rise",
        "points a round",
        per_seed(later, _of_models(slope, key, RFT)),
        above=0,
    )
    names = {name.removeprefix("rft.pass@") for row in later for name in row if name.startswith("rft.pass@")}
    most, last = max((int(k) for k in names if k.isdigit()), default=0), max((row[key] for row in later), default=0)

    def change(own: Rows) -> float | None:
        before, after = level(own, f"sft.pass@{most}"), level(own, f"rft.pass@{most}")
        return None if before is None or after is None else after - before

    yield Finding(
        "Later work found that pass@k at large k falls while accuracy rises: the samples lose diversity",
        f"the change of pass@{most or 'k'} from SFT to round {last}",
        "points",
        per_seed([row for row in later if row[key] == last], _of_models(change)),
        below=0,
    )


STUDIES: dict[str, Callable[[Rows], Iterator[Finding]]] = {
    "data-fraction": data_fraction,
    "num-samples": num_samples,
    "gain": gain,
    "pooling": pooling,
    "pretraining-loss": pretraining_loss,
    "selection": selection,
    "budget": budget,
    "rounds": rounds,
}


# ---------------------------------------------------------------------------------------------------------- shorthands

Measure = Callable[..., float | None]  # rows first


def _of_all(measure: Measure, *columns: str, **options: Any) -> Callable[[Rows], float | None]:
    return lambda own: measure(own, *columns, **options)


def _of_models(measure: Measure, *columns: str, **options: Any) -> Callable[[Rows], float | None]:
    """The mean over the models."""
    return lambda own: of_models(own, _of_all(measure, *columns, **options))


def _differences(rows: Rows, key: str, first: Any, second: Any) -> list[float]:
    """RFT accuracy with one value of a setting less that with another, a seed each."""
    before, after = ([row for row in rows if key in row and row[key] == value] for value in (first, second))
    return _pairs(before, after)


def _pairs(first: Rows, second: Rows, column: str = RFT) -> list[float]:
    marked = [*({**row, "is_second": False} for row in first), *({**row, "is_second": True} for row in second)]
    return per_seed(marked, lambda own: difference(own, column, "is_second"))


def _span(values: Iterable[float]) -> str:
    """`+1.9 to +8.2`."""
    listed = list(values)
    return f"{signed(min(listed))} to {signed(max(listed))}"


def _fit(xs: Sequence[float], ys: Sequence[float]) -> Line:
    fit = line_fit(xs, ys)
    assert fit is not None  # the paper's own tables
    return fit


def _log_fit(xs: Sequence[float], ys: Sequence[float]) -> Line:
    return _fit([math.log2(x) for x in xs], ys)
