"""The studies' conclusions on made-up sweeps that agree with the paper, that do not, and that are inconclusive."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

import pytest
from helpers.paths import RECIPES
from helpers.sweeps import SFT, SIZES, Row, rows

from qrft.config import load as recipes
from qrft.config.variants import expand_sweep
from qrft.errors import RecipeError
from qrft.studies import results
from qrft.studies.finding import AGREES, DISAGREES, INCONCLUSIVE, Finding
from qrft.studies.registry import STUDIES, StudyName

SHIPPED = sorted((RECIPES / "studies").glob("*.yaml"))
SEEDS = [0, 1, 2]
FRACTIONS = [1, 1 / 2, 1 / 4, 1 / 8]
KS = [1, 10, 100]
UNTIL = [{}, {"correct": 4, "max_samples": 60}]


def verdicts(study: str, made: list[Row]) -> list[str]:
    return [finding.verdict for finding in results.findings(study, made)]


def sentences(study: str, made: list[Row]) -> str:
    return "\n".join(finding.sentence for finding in results.findings(study, made))


@pytest.mark.parametrize(
    ("accuracy", "rise", "line"),
    [
        (lambda share: 0.5 + 0.05 * math.log2(share), AGREES, AGREES),
        (lambda share: 0.5 - 0.05 * math.log2(share), DISAGREES, AGREES),
        (lambda share: 0.5, INCONCLUSIVE, INCONCLUSIVE),
        (lambda share: 0.3 + 0.4 * (share == 1), AGREES, DISAGREES),  # a jump, and no line
    ],
)
def test_data_fraction(accuracy: Callable[[float], float], rise: str, line: str) -> None:
    sweep = {"train_fraction": FRACTIONS, "seed": list(range(5))}
    assert verdicts("data-fraction", rows(sweep, sft=lambda _, s: accuracy(s["train_fraction"]))) == [rise, line]


def test_data_fraction_tells_the_papers_line_and_all_shares_apart() -> None:
    def accuracy(_: str, settings: Row) -> float:
        share = settings["problems.train_fraction"]
        return 0.9 if share < 1 / 8 else 0.5 + 0.1 * math.log2(share)

    made = rows({"problems.train_fraction": [*FRACTIONS, 1 / 16, 1 / 32], "seed": SEEDS}, sft=accuracy)
    assert verdicts("data-fraction", made) == [AGREES, AGREES, DISAGREES, DISAGREES]
    said = sentences("data-fraction", made)
    assert "Here the rise from 1/8 on is +" in said and "Here R² from 1/32 on is 0.3" in said


def test_the_interval_of_r2_ends_at_1() -> None:
    def accuracy(_: str, settings: Row) -> float:  # R² is 1 with seed 0, and 0.9 with seed 1
        return (
            0.5
            + 0.1 * math.log2(settings["train_fraction"])
            + 0.1 * settings["seed"] * (settings["train_fraction"] == 1)
        )

    said = sentences("data-fraction", rows({"train_fraction": FRACTIONS, "seed": [0, 1]}, sft=accuracy))
    assert re.search(r"R² from 1/8 on is 0\.9\d \(95% interval 0\.\d\d to 1\.00, 2 seeds\)", said)


def by_k(slope: float, without_dedup: float = 0.0) -> list[Row]:
    sweep = {"num_samples": KS, "dedup": [True, False], "seed": SEEDS}
    return rows(sweep, gain=lambda _, s: slope * math.log2(s["num_samples"]) + without_dedup * (not s["dedup"]))


def test_num_samples() -> None:
    assert verdicts("num-samples", by_k(0.01)) == [AGREES, AGREES, AGREES]
    assert verdicts("num-samples", by_k(-0.01)) == [DISAGREES, DISAGREES, AGREES]
    assert verdicts("num-samples", by_k(0.01, without_dedup=0.1))[2] == DISAGREES
    assert verdicts("num-samples", by_k(0.0))[0] == INCONCLUSIVE


def test_gain() -> None:
    models = list(SIZES)
    weak_gain_more = rows({"seed": SEEDS}, models, gain=lambda model, _: 0.3 - 0.5 * SFT[model])
    strong_gain_more = rows({"seed": SEEDS}, models, gain=lambda model, _: 0.5 * SFT[model])
    assert verdicts("gain", weak_gain_more) == [AGREES, AGREES]
    assert verdicts("gain", strong_gain_more) == [DISAGREES, AGREES]
    assert verdicts("gain", rows({"seed": SEEDS}, models, gain=lambda *_: -0.05))[1] == DISAGREES


def test_the_papers_own_figures_are_told_as_they_are() -> None:
    made = rows({"seed": SEEDS}, list(SIZES))
    assert "up to 33B: by +1.90 to +13.4 points with U13B; not for 65B and 70B-2, −0.30 and −0.90 points." in sentences(
        "gain", made
    )
    said = sentences("pretraining-loss", made)
    assert (
        "seven LLaMA models SFT accuracy has an R² of 0.98 by loss and, from its tables, 0.92 by the logarithm" in said
    )
    assert (
        "seven LLaMA models ICL accuracy has an R² of 0.98 by loss and, from its tables, 0.95 by the logarithm" in said
    )


def test_gain_is_not_fooled_by_a_lucky_sft() -> None:
    """Where all bases are equal, a run's own SFT accuracy and its gain fall together by chance."""
    found = [
        verdicts("gain", rows({"seed": list(range(5))}, list(SIZES), sft=lambda *_: 0.4, seed=n))[0] for n in range(40)
    ]
    assert found.count(AGREES) <= 4


def test_pooling() -> None:
    def gain(_: str, settings: Row) -> float:
        return 0.02 + 0.02 * len(settings["curate.pool"]) + 0.001 * settings["num_samples"]

    pools = [[], ["small", "medium"], ["small", "medium", "large", "huge"]]
    made = rows({"curate.pool": pools, "num_samples": [8, 16, 32], "seed": SEEDS}, ["small", "medium"], gain=gain)
    assert verdicts("pooling", made) == [AGREES] * 4
    said = sentences("pooling", made)
    assert "pooling 2 models at k = 16 for each, against k = 32, is +2." in said
    assert "pooling 4 models at k = 8 for each, against k = 32, is +5." in said


def test_pretraining_loss() -> None:
    by_loss = rows({"seed": SEEDS}, list(SIZES))  # a line in the loss
    for row in by_loss:
        row["icl.accuracy"] += 0.001 * row["sweep.seed"] * (row["model"] == "small")
        row["base_model.num_parameters"] = {"small": 4e5, "medium": 1e5, "large": 8e5, "huge": 2e5}[row["model"]]
    assert verdicts("pretraining-loss", by_loss) == [AGREES, AGREES, AGREES, AGREES]
    by_size = rows({"seed": SEEDS}, list(SIZES), sft=lambda model, _: 0.05 * math.log2(SIZES[model] / 1e5))
    for row in by_size:
        row["base_model.loss"] = {"small": 1.4, "medium": 1.0, "large": 1.2, "huge": 1.1}[row["model"]]
    assert verdicts("pretraining-loss", by_size)[1] == DISAGREES


def test_pretraining_loss_has_a_point_for_each_base_where_sizes_repeat() -> None:
    """Nine bases of three sizes: means of a size would hide how far apart its bases are."""
    made = rows({"seed": SEEDS}, list(SIZES)[:3])
    nine = []
    for row in made:
        for step in range(3):
            loss = row["base_model.loss"] + 0.4 * step
            accuracy = 2 - loss + 0.001 * row["sweep.seed"] * (step == 0)
            told = {"model": f"{row['model']}-{step}", "base_model.loss": loss, "sft.accuracy": accuracy}
            nine.append({**row, **told, "icl.accuracy": accuracy})
    difference = results.findings("pretraining-loss", nine)[1]
    assert difference.verdict == AGREES
    # By hand: of the nine accuracies' squares 0.96 lie within a size and 0.06 between; size explains only the latter.
    assert difference.estimate.value == pytest.approx(0.94, abs=0.01)


def test_selection() -> None:
    def gain(_: str, settings: Row) -> float:
        return 0.05 + 0.03 * (settings["keep"] == "farthest") - 0.03 * (settings["grade.order"] == "exact")

    sweep = {"keep": ["farthest", "first", "shortest"], "grade.order": ["exact", "commutative"], "seed": SEEDS}
    assert verdicts("selection", rows(sweep, gain=gain)) == [AGREES, AGREES, DISAGREES]


def by_tokens(change: float, ratios: Sequence[float]) -> list[Row]:
    """A seed for each of the ratios of tokens; RFT rises by 40 points for e times the tokens, and by `change`."""

    def gain(_: str, settings: Row) -> float:
        return change + 0.4 * math.log(ratios[settings["seed"]]) if settings["sample.until"] else 0.0

    made = rows({"sample.until": UNTIL, "seed": list(range(len(ratios)))}, gain=gain)
    for row in made:
        row["sampled_tokens"] = 30_000 * (ratios[row["sweep.seed"]] if row["sweep.sample.until"] else 1)
    return made


def test_budget_compares_at_equal_tokens() -> None:
    unequal = [0.7, 0.9, 1.1, 1.2, 1.4, 1.5]
    assert verdicts("budget", by_tokens(0.1, unequal)) == [AGREES]
    assert verdicts("budget", by_tokens(-0.1, unequal)) == [DISAGREES]
    more = by_tokens(0.0, [0.97, 1.3, 1.4, 1.5, 1.6, 1.7])  # the whole change comes of more tokens
    assert verdicts("budget", more) == [INCONCLUSIVE]
    assert "at equal tokens by a line through seeds with 0.97 to 1.70 times as many, is " in sentences("budget", more)
    assert abs(results.findings("budget", more)[0].estimate.value) < 1


def test_budget_takes_plain_differences_where_the_tokens_are_equal() -> None:
    made = by_tokens(0.1, [0.99, 1.01, 1.0])
    assert verdicts("budget", made) == [AGREES]
    assert "hard problems more, with 0.99 to 1.01 times the tokens, is +" in sentences("budget", made)


@pytest.mark.parametrize("ratios", [[0.7, 1.2, 1.4], [1.2, 1.3, 1.4, 1.5], [0.5, 0.6, 0.7, 0.8], [1.2] * 4])
def test_budget_is_not_told_of_few_seeds_or_from_one_side(ratios: list[float]) -> None:
    made = by_tokens(0.5, ratios)
    assert verdicts("budget", made) == [INCONCLUSIVE]
    assert (
        "a comparison at equal tokens takes at least four seeds, some with more tokens and some with fewer"
        in sentences("budget", made)
    )


def test_rounds() -> None:
    made = rows({"rounds": [1, 2, 3], "seed": SEEDS}, gain=lambda _, s: 0.03 * s["rounds"])
    for row in made:
        row["rft.pass@16"] = row["sft.pass@16"] - 0.02 * row["sweep.rounds"] - 0.001 * row["sweep.seed"]
    assert verdicts("rounds", made) == [AGREES, AGREES]
    assert "the change of pass@16 from SFT to round 3 is −6.10 points" in sentences("rounds", made)


@pytest.mark.parametrize("study", STUDIES)
def test_one_seed_tells_nothing_and_few_runs_do_no_harm(study: str) -> None:
    settings = {"train_fraction": FRACTIONS, "num_samples": KS, "dedup": [True, False], "rounds": [1, 2]}
    made = rows({**settings, "keep": ["farthest", "first"], "order": ["exact"], "curate.pool": [[]]}, list(SIZES))
    assert set(verdicts(study, made)) <= {INCONCLUSIVE}
    assert set(verdicts(study, made[:1])) <= {INCONCLUSIVE}


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_whose_keys_are_not_swept_tells_nothing(study: str) -> None:
    one_model_gains = {AGREES, INCONCLUSIVE} if study == "gain" else {INCONCLUSIVE}
    assert set(verdicts(study, rows({"seed": SEEDS}))) <= one_model_gains


@pytest.mark.parametrize("study", STUDIES)
def test_models_without_rft_change_nothing_told_of_rft(study: str) -> None:
    """`rft.models: [small]`: the others' rows have SFT alone."""
    pools = [[], ["small", "medium"]]
    made = rows(
        {"num_samples": [16, 32], "curate.pool": pools, "until": UNTIL, "rounds": [1, 2], "seed": SEEDS}, [*SIZES]
    )
    for row in made:
        row["sampled_tokens"] = 30_000 + 100 * row["sweep.seed"]
    tuned = [row for row in made if row["model"] == "small"]
    others = [
        {key: value for key, value in row.items() if not key.startswith(("rft.", "gain", "sampled_tokens", "distinct"))}
        for row in made
        if row["model"] != "small"
    ]
    if study in ("data-fraction", "pretraining-loss"):
        assert sentences(study, others) == sentences(study, [row for row in made if row["model"] != "small"])
    else:
        assert set(verdicts(study, others)) == {INCONCLUSIVE}
        assert sentences(study, [*others, *tuned]) == sentences(study, tuned)


def test_seeds_that_do_not_differ_tell_nothing() -> None:
    same = Finding("A claim", "the change", "points", [1.0, 1.0 + 1e-14], above=0)
    assert same.verdict == INCONCLUSIVE
    assert same.sentence == (
        "A claim. Here the change is +1.00 points with each of 2 seeds, so without an interval: this is inconclusive "
        "(the seeds do not differ at all, so they say nothing about other seeds)."
    )
    assert Finding("A claim", "the change", "points", [1.0, 1.1], above=0).verdict == AGREES


def test_the_sentence_holds_paper_figure_interval_and_verdict() -> None:
    finding = results.findings("num-samples", by_k(0.01))[0]
    assert re.fullmatch(
        r"The paper found that RFT accuracy rises with k: by \+0\.44 to \+0\.90 points per doubling\. Here the rise is "
        r"\+1\.\d\d points per doubling of k \(95% interval \+[01]\.\d\d to \+1\.\d\d, 3 seeds\): this agrees\.",
        finding.sentence,
    )


def test_study_text_tells_what_it_rests_on() -> None:
    made = by_k(0.01)
    text = results.text("num-samples", results.findings("num-samples", made), made)
    assert "`sweep.csv`" in text and "jsonl" not in text, "the table that is committed beside it"
    assert "18 rows; models small; seeds 0, 1, 2; 1,000 test problems." in text and text.count("- **agrees**: ") == 3


def test_every_study_has_a_key_and_a_recipe() -> None:
    assert set(get_args(StudyName)) == set(STUDIES)
    found = [recipes.load(path) for path in SHIPPED]
    assert {recipe.study for recipe in found} == set(STUDIES)
    for recipe in found:
        assert len(recipe.sweep["seed"]) >= 3 and recipe.name == f"study-{recipe.study}"


def of_study(name: str) -> Path:
    return next(path for path in SHIPPED if path.stem.endswith(f"-{name}"))


def recipe_fault(name: str, *overrides: str) -> str:
    """The fault of a study's recipe, without its place, which must be that of its line `study`."""
    path = of_study(name)
    assert recipes.load(path, [*overrides, "study=null"]).study is None
    line = path.read_text().splitlines().index(f"study: {name}") + 1
    with pytest.raises(RecipeError) as error:
        recipes.load(path, overrides)
    return str(error.value).removeprefix(f"{path}:{line}: study: ")


@pytest.mark.parametrize(
    ("name", "sweep", "lacking", "needed"),
    [
        ("data-fraction", "{seed: [0]}", "problems.train_fraction", "problems.train_fraction"),
        (
            "num-samples", "{seed: [0]}", "sample.num_samples and of curate.dedup",
            "sample.num_samples and curate.dedup",
        ),
        ("num-samples", "{num_samples: [1, 2]}", "curate.dedup", "curate.dedup"),
        ("pooling", "{pool: [[], [small, large]]}", "sample.num_samples", "sample.num_samples"),
        ("selection", "{curate.keep: [first, farthest]}", "grade.order", "grade.order"),
        ("budget", "{num_samples: [1, 2]}", "sample.until", "sample.until"),
        ("rounds", "{}", "rounds", "rounds"),
    ],
)  # fmt: skip
def test_a_study_without_what_its_claims_compare_is_a_fault(name: str, sweep: str, lacking: str, needed: str) -> None:
    allowed = f"Allowed: a sweep with {needed}, or study null"
    assert recipe_fault(name, f"sweep={sweep}") == f"found {name} without a sweep of {lacking}. {allowed}"


def test_a_study_of_several_models_with_too_few_is_a_fault() -> None:
    two = "models={a: {base_model: tiny-base}, b: {base_model: tiny-base}}"
    text = "found pretraining-loss with 2 models. Allowed: 3 models or more, or study null"
    assert recipe_fault("pretraining-loss", two) == text
    one = "found gain with 1 model that gets RFT. Allowed: 2 models or more, or study null"
    assert recipe_fault("gain", two, "rft.models=[b]") == one
    assert recipe_fault("gain", "models={}", "base_model=tiny-base").endswith(one)
    assert recipes.load(of_study("gain"), [two]).study == "gain"


def test_a_study_of_rft_without_rft_is_a_fault() -> None:
    text = "found budget with rounds 0, which leaves RFT out. Allowed: rounds 1 or more, or study null"
    assert recipe_fault("budget", "rounds=0") == text


def test_a_study_is_of_all_runs_so_each_runs_recipe_has_none() -> None:
    recipe = recipes.load(of_study("budget"))
    assert [variant.recipe.study for variant in expand_sweep(recipe)] == [None] * 10
