"""The studies' conclusions on made-up sweeps that agree with the paper, that do not, and that can't tell."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
from sweeps import SFT, SIZES, Row, rows

from qrft import recipe as recipes
from qrft import studies
from qrft.recipe import Study
from qrft.studies.claims import STUDIES
from qrft.studies.finding import AGREES, DISAGREES, OPEN

RECIPES = sorted((Path(__file__).parents[1] / "recipes" / "studies").glob("*.yaml"))
SEEDS = [0, 1, 2]
FRACTIONS = [1, 1 / 2, 1 / 4, 1 / 8, 1 / 16]
KS = [1, 10, 100]
UNTIL = [{}, {"correct": 4, "max_samples": 60}]


def verdicts(study: str, made: list[Row]) -> list[str]:
    return [finding.verdict for finding in studies.findings(study, made)]


def sentences(study: str, made: list[Row]) -> str:
    return "\n".join(finding.sentence for finding in studies.findings(study, made))


@pytest.mark.parametrize(
    ("accuracy", "rise", "line"),
    [
        (lambda share: 0.5 + 0.05 * math.log2(share), AGREES, AGREES),
        (lambda share: 0.5 - 0.05 * math.log2(share), DISAGREES, AGREES),
        (lambda share: 0.5, OPEN, OPEN),
        (lambda share: 0.3 + 0.4 * (share == 1), AGREES, DISAGREES),  # a jump, and no line
    ],
)
def test_data_fraction(accuracy: Callable[[float], float], rise: str, line: str) -> None:
    sweep = {"train_fraction": FRACTIONS, "seed": list(range(5))}
    assert verdicts("data-fraction", rows(sweep, sft=lambda _, s: accuracy(s["train_fraction"]))) == [rise, line]


def test_data_fraction_looks_at_the_papers_fractions_alone() -> None:
    def accuracy(_: str, settings: Row) -> float:
        share = settings["problems.train_fraction"]
        return 0.9 if share < 1 / 8 else 0.5 + 0.1 * math.log2(share)

    sweep = {"problems.train_fraction": [*FRACTIONS, 1 / 32], "seed": SEEDS}
    assert verdicts("data-fraction", rows(sweep, sft=accuracy)) == [AGREES, AGREES]


def by_k(slope: float, without_dedup: float = 0.0) -> list[Row]:
    sweep = {"num_samples": KS, "dedup": [True, False], "seed": SEEDS}
    return rows(sweep, gain=lambda _, s: slope * math.log2(s["num_samples"]) + without_dedup * (not s["dedup"]))


def test_num_samples() -> None:
    assert verdicts("num-samples", by_k(0.01)) == [AGREES, AGREES, AGREES]
    assert verdicts("num-samples", by_k(-0.01)) == [DISAGREES, DISAGREES, AGREES]
    assert verdicts("num-samples", by_k(0.01, without_dedup=0.1))[2] == DISAGREES
    assert verdicts("num-samples", by_k(0.0))[0] == OPEN


def test_gain() -> None:
    models = list(SIZES)
    weak_gain_more = rows({"seed": SEEDS}, models, gain=lambda model, _: 0.3 - 0.5 * SFT[model])
    strong_gain_more = rows({"seed": SEEDS}, models, gain=lambda model, _: 0.5 * SFT[model])
    assert verdicts("gain", weak_gain_more) == [AGREES, AGREES]
    assert verdicts("gain", strong_gain_more) == [DISAGREES, AGREES]
    assert verdicts("gain", rows({"seed": SEEDS}, models, gain=lambda *_: -0.05))[1] == DISAGREES


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
        row["base_model.num_parameters"] = {"small": 4e5, "medium": 1e5, "large": 8e5, "huge": 2e5}[row["model"]]
    assert verdicts("pretraining-loss", by_loss) == [AGREES, AGREES, AGREES, AGREES]
    by_size = rows({"seed": SEEDS}, list(SIZES), sft=lambda model, _: 0.05 * math.log2(SIZES[model] / 1e5))
    for row in by_size:
        row["base_model.loss"] = {"small": 1.4, "medium": 1.0, "large": 1.2, "huge": 1.1}[row["model"]]
    assert verdicts("pretraining-loss", by_size)[1] == DISAGREES


def test_selection() -> None:
    def gain(_: str, settings: Row) -> float:
        return 0.05 + 0.03 * (settings["keep"] == "farthest") - 0.03 * (settings["grade.order"] == "exact")

    sweep = {"keep": ["farthest", "first", "shortest"], "grade.order": ["exact", "commutative"], "seed": SEEDS}
    assert verdicts("selection", rows(sweep, gain=gain)) == [AGREES, AGREES, DISAGREES]


def test_budget_compares_at_equal_tokens_alone() -> None:
    sweep = {"sample.until": UNTIL, "seed": SEEDS}
    made = rows(sweep, gain=lambda _, s: 0.1 if s["sample.until"] else 0.02)
    for row in made:
        row["sampled_tokens"] = 30_000 if row["sweep.sample.until"] else 27_000
    assert verdicts("budget", made) == [AGREES]
    for row in made:
        row["sampled_tokens"] *= 2 if row["sweep.sample.until"] else 1
    assert verdicts("budget", made) == [OPEN]
    assert "2.22 times the tokens, so the two don't compare" in sentences("budget", made)


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
    assert set(verdicts(study, made)) <= {OPEN}
    assert set(verdicts(study, made[:1])) <= {OPEN}


def test_the_sentence_holds_paper_figure_interval_and_verdict() -> None:
    finding = studies.findings("num-samples", by_k(0.01))[0]
    assert re.fullmatch(
        r"The paper found that RFT accuracy rises with k: by \+0\.44 to \+0\.90 points a doubling\. Here the rise is "
        r"\+1\.\d\d points a doubling of k \(95% interval \+[01]\.\d\d to \+1\.\d\d, 3 seeds\): this agrees\.",
        finding.sentence,
    )


def test_study_text_tells_what_it_rests_on() -> None:
    made = by_k(0.01)
    text = studies.text("num-samples", studies.findings("num-samples", made), made)
    assert "`sweep.csv`" in text and "jsonl" not in text, "the table that is committed beside it"
    assert "18 rows; models small; seeds 0, 1, 2; 1,000 test problems." in text and text.count("- **agrees**: ") == 3


def test_every_study_has_a_key_and_a_recipe() -> None:
    assert set(get_args(Study)) == set(STUDIES)
    found = [recipes.load(path) for path in RECIPES]
    assert {recipe.study for recipe in found} == set(STUDIES)
    for recipe in found:
        assert len(recipe.sweep["seed"]) >= 3 and recipe.name == f"study-{recipe.study}"
