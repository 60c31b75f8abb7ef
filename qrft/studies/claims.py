"""The studies: of each the claims of the paper, and the figures that a sweep holds against them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from qrft.report.cells import seed
from qrft.stats import Line, line_fit, mean
from qrft.studies import published
from qrft.studies.figures import Row, Rows, difference, level, of_models, per_seed, r2, setting, slope
from qrft.studies.finding import Finding, signed

RFT = "rft.accuracy"


def data_fraction(rows: Rows) -> Iterator[Finding]:
    """SFT over the share of the training data, over 1 to 1/8 as in the paper."""
    key = setting(rows, "train_fraction")
    rows = [row for row in rows if row.get(key, 0) >= min(published.FRACTIONS)]
    paper = [_log_fit(published.FRACTIONS, accuracies) for accuracies in published.SFT.values()]
    yield Finding(
        "The paper found that SFT accuracy rises with every doubling of the data, from 1/8 to all of it: by "
        f"{_span(fit.slope for fit in paper)} points, from model to model",
        "the rise",
        "points a doubling",
        per_seed(rows, _of_models(slope, key, "sft.accuracy", log=True)),
        above=0,
    )
    yield Finding(
        "The paper calls the relation log-linear: on its figures a line in the logarithm has an R² of "
        f"{min(fit.r2 for fit in paper):.2f} to {max(fit.r2 for fit in paper):.2f}, and 0.9 is asked for here",
        "R²",
        "",
        per_seed(rows, _of_models(r2, key, "sft.accuracy", log=True)),
        above=0.9,
        is_change=False,
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
    most = max((row[k] for row in rows), default=0)
    changes = _span(published.RFT[name][-1] - without for name, without in published.NO_DEDUP.items())
    yield Finding(
        f"The paper found that leaving out duplicates at k = 100 changes accuracy by {changes} points: distinct paths "
        "count, not rows; here it should cost less than 2",
        f"the change at k = {most}",
        "points",
        _differences([row for row in rows if row[k] == most], dedup, False, True),
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
        per_seed(placed, lambda own: slope(own, "others", "gain")),
        below=0,
    )
    yield Finding(
        f"The paper found that RFT beats SFT: by {_span(published.RFT_GAIN.values())} points with U13B",
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
    most = max((row[k] for row in rows), default=0)
    paper = _span(published.U13B[name] - accuracies[-1] for name, accuracies in published.RFT.items())
    alone = [row for row in rows if not row[pool] and row[k] == most]
    for size in sorted({len(row[pool]) for row in rows} - {0, 1}):
        pooled = [row for row in rows if len(row[pool]) == size]
        yield Finding(
            f"The paper found that pooling 4 models beats one model's own paths at the same k, 100: by {paper} points",
            f"pooling {size} models at k = {most} for each",
            "points over a model's own paths",
            _pairs(alone, [row for row in pooled if row[k] == most]),
            above=0,
        )
        yield Finding(
            "The paper's pools have more samples than one model has; that they help at the same number too is implied, "
            "not measured",
            f"pooling {size} models at k = {most // size} for each, against k = {most},",
            "points over a model's own paths",
            _pairs(alone, [row for row in pooled if row[k] == most // size]),
            above=0,
        )


def pretraining_loss(rows: Rows) -> Iterator[Finding]:
    """Pre-training loss against parameters as predictors of SFT and ICL accuracy."""
    for stage, paper in (("sft", "−88.2 points of SFT"), ("icl", "−166.4 points of ICL")):
        yield Finding(
            f"The paper's figure has {paper} accuracy a nat of pre-training loss",
            f"{stage.upper()}'s change",
            "points a nat",
            per_seed(rows, _of_all(slope, "base_model.loss", f"{stage}.accuracy")),
            below=0,
        )
        yield Finding(
            "The paper found that pre-training loss tells accuracy better than size: for SFT an R² of 0.98 against "
            "0.92 for the logarithm of the parameters",
            f"R² of {stage.upper()} by loss less R² by size",
            "",
            per_seed(rows, _of_all(_better, f"{stage}.accuracy")),
            above=0,
        )


def _better(rows: Rows, column: str) -> float | None:
    by_loss, by_size = r2(rows, "base_model.loss", column), r2(rows, "base_model.num_parameters", column, log=True)
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
    """More samples for hard problems, at about equal tokens."""
    key = setting(rows, "until")
    uniform, goal = ([row for row in rows if has_goal(row.get(key)) == wanted] for wanted in (False, True))
    tokens = [mean(row["sampled_tokens"] for row in part) for part in (uniform, goal)]
    ratio = tokens[1] / tokens[0] if tokens[0] else 0.0
    far = f"it took {ratio:.2f} times the tokens, so the two don't compare"
    yield Finding(
        "Tong et al. 2024 (DART-Math) found +3.5 to +4.5 points by sampling hard problems more, at an equal set size",
        f"the change by sampling hard problems more, with {ratio:.2f} times the tokens,",
        "points",
        _pairs(uniform, goal),
        above=0,
        note=far if goal and abs(ratio - 1) > 0.2 else "",
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
        f"the change of pass@{most} from SFT to round {last}",
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


def _of_all(measure: Measure, *columns: str, **options: bool) -> Callable[[Rows], float | None]:
    return lambda own: measure(own, *columns, **options)


def _of_models(measure: Measure, *columns: str, **options: bool) -> Callable[[Rows], float | None]:
    """The mean over the models."""
    return lambda own: of_models(own, _of_all(measure, *columns, **options))


def _differences(rows: Rows, key: str, first: Any, second: Any) -> list[float]:
    """RFT accuracy with one value of a setting less that with another, a seed each."""
    chosen = ([row for row in rows if key in row and row[key] == value] for value in (first, second))
    return _pairs(*chosen)


def _pairs(first: Rows, second: Rows) -> list[float]:
    marked = [*({**row, "is_second": False} for row in first), *({**row, "is_second": True} for row in second)]
    return per_seed(marked, lambda own: difference(own, RFT, "is_second"))


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
