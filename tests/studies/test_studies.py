"""The studies' conclusions on made-up sweeps that agree with the paper, that do not, and that are inconclusive."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
from helpers.paths import RECIPES, ROOT
from helpers.sweeps import SFT, SIZES, Row, rows

from qrft.config import load as recipes
from qrft.config.variants import expand_sweep
from qrft.errors import RecipeError
from qrft.pipeline.stages import sweep
from qrft.studies import results
from qrft.studies.finding import AGREES, DISAGREES, INCONCLUSIVE, NOTHING, SMALLER, Finding, judged
from qrft.studies.measured import Measured, over_seeds
from qrft.studies.registry import STUDIES, StudyName

sys.path.append(str(ROOT / "bench"))
import rejudge

SHIPPED = sorted((RECIPES / "studies").glob("*.yaml"))
SEEDS = [0, 1, 2, 3, 4]
FRACTIONS = [1, 1 / 2, 1 / 4, 1 / 8]
KS = [1, 10, 100]
UNTIL = [{}, {"correct": 4, "max_samples": 60}]


def findings(study: str, made: list[Row], with_samples: bool = False) -> list[Finding]:
    """The findings on greedy accuracy; with samples, on pass@1 too."""
    dropped = () if with_samples else ("pass@1",)
    return results.findings(study, [{k: v for k, v in row.items() if not k.endswith(dropped)} for row in made])


def verdicts(study: str, made: list[Row]) -> list[str]:
    return [finding.verdict for finding in findings(study, made)]


def sentences(study: str, made: list[Row]) -> str:
    return "\n".join(finding.sentence for finding in findings(study, made))


@pytest.mark.parametrize(
    ("accuracy", "rise", "line"),
    [
        (lambda share: 0.5 + 0.05 * math.log2(share), AGREES, AGREES),
        (lambda share: 0.5 - 0.05 * math.log2(share), DISAGREES, AGREES),
        (lambda share: 0.5, NOTHING, AGREES),
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
    assert (
        "the rise of greedy accuracy from 1/8 on is +10." in said and "the bend of greedy accuracy from 1/32 on" in said
    )


def test_the_interval_of_a_difference_of_r2_ends_at_1() -> None:
    said = sentences("pretraining-loss", rows({"seed": SEEDS}, list(SIZES)[:3]))
    assert re.search(r"R² of SFT by loss minus R² by size is \+0\.\d\d with 3 bases, too few for an interval", said)
    wide = Finding("A claim", "R²", "", Measured(0.9, 0.1, 5, "8 bases", "other"), bounds=(-1, 1))
    assert "is +0.90 (95% interval +0.64 to +1.00, over 8 bases)" in wide.sentence


def by_k(slope: float, without_dedup: float = 0.0) -> list[Row]:
    sweep = {"num_samples": KS, "dedup": [True, False], "seed": SEEDS}
    return rows(sweep, gain=lambda _, s: slope * math.log2(s["num_samples"]) + without_dedup * (not s["dedup"]))


def test_num_samples() -> None:
    assert verdicts("num-samples", by_k(0.01)) == [AGREES, AGREES, AGREES]
    assert verdicts("num-samples", by_k(-0.01)) == [DISAGREES, DISAGREES, AGREES]
    assert verdicts("num-samples", by_k(0.01, without_dedup=0.1))[2] == DISAGREES
    assert verdicts("num-samples", by_k(0.01, without_dedup=-0.1))[2] == DISAGREES, "a change in either direction"
    assert verdicts("num-samples", by_k(0.0))[0] in (NOTHING, SMALLER)
    assert verdicts("num-samples", by_k(0.0025))[0] == SMALLER


def test_longer_training_is_told_apart_from_nothing() -> None:
    made = by_k(0.01)
    for row in made:
        row["trained_tokens.rft"] = 1000 * (1 + 9 * (row["sweep.num_samples"] == 100) + 90 * (not row["sweep.dedup"]))
    said = sentences("num-samples", made)
    assert "Not told apart from longer training: k = 100 had 10.0 times the trained tokens of k = 1." in said
    assert "training: all rows had 10.0 times the trained tokens of distinct rows." in said


def test_pass_at_1_is_the_primary_endpoint_where_there_are_samples() -> None:
    found = findings("num-samples", by_k(0.01), with_samples=True)
    assert [finding.verdict for finding in found] == [AGREES] * 6
    assert "the rise of pass@1 of the samples is" in found[0].sentence and "greedy" in found[3].sentence
    assert found[0].confidence == 0.95 < found[1].confidence


def test_gain() -> None:
    models = list(SIZES)
    weak_gain_more = rows({"seed": SEEDS}, models, gain=lambda model, _: 0.2 - 0.2 * SFT[model])
    strong_gain_more = rows({"seed": SEEDS}, models, gain=lambda model, _: 0.2 * SFT[model])
    assert verdicts("gain", weak_gain_more) == [AGREES, SMALLER]
    assert verdicts("gain", strong_gain_more) == [AGREES, DISAGREES]
    assert verdicts("gain", rows({"seed": SEEDS}, models, gain=lambda *_: -0.05))[0] == DISAGREES
    assert verdicts("gain", rows({"seed": SEEDS}, models, gain=lambda *_: 0.0))[0] == NOTHING
    said = sentences("gain", weak_gain_more)
    assert "the mean gain of greedy accuracy over SFT is +10." in said and "over 5 seeds and 4 bases)" in said


def test_the_gain_is_over_sft_for_as_many_steps_where_that_is_known() -> None:
    made = rows({"seed": SEEDS}, list(SIZES), gain=lambda *_: 0.1)
    for row in made:
        row["trained_tokens.sft"], row["trained_tokens.rft"] = 1000, 2000
    assert "RFT had 2.0 times the trained tokens of SFT." in sentences("gain", made)
    for row in made:
        row["control.accuracy"] = row["rft.accuracy"] - 0.001 * row["sweep.seed"]
    said = sentences("gain", made)
    assert "over SFT for as many steps is +0.20 points" in said and "trained tokens" not in said
    assert verdicts("gain", made)[0] == NOTHING


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
        verdicts("gain", rows({"seed": list(range(5))}, list(SIZES), sft=lambda *_: 0.4, seed=n))[1] for n in range(40)
    ]
    assert found.count(AGREES) + found.count(DISAGREES) <= 4


def test_pooling() -> None:
    def gain(_: str, settings: Row) -> float:
        return 0.02 + 0.02 * len(settings["curate.pool"]) + 0.001 * settings["num_samples"]

    pools = [[], ["small", "medium"], ["small", "medium", "large", "huge"]]
    made = rows({"curate.pool": pools, "num_samples": [8, 16, 32], "seed": SEEDS}, ["small", "medium"], gain=gain)
    assert verdicts("pooling", made) == [AGREES] * 4
    said = sentences("pooling", made)
    assert "pooling 2 models at k = 16, against k = 32, is +2." in said
    assert "pooling 4 models at k = 8, against k = 32, is +5." in said


def test_arms_with_the_same_rows_are_told() -> None:
    made = rows({"keep": ["farthest", "first"], "order": ["exact", "commutative"], "seed": SEEDS})
    for row in made:
        same = row["sweep.seed"] < 3 and row["sweep.order"] == "exact"
        row["hashes.training"] = "same" if same else row["variant"]
    said = sentences("selection", made).splitlines()
    assert "In 3 of 10 pairs both arms were trained on the same rows, and could not differ." in said[0]
    assert "pairs" not in said[1]


def nine_bases(loss_matters: bool) -> list[Row]:
    """Three sizes with three checkpoints each; accuracy follows the loss, or the size."""
    nine = []
    for row in rows({"seed": SEEDS}, list(SIZES)[:3]):
        for step in range(3):
            loss = row["base_model.loss"] + 0.4 * step
            size = math.log2(row["base_model.num_parameters"] / 1e5)
            own = 0.01 * math.sin(7 * step + size)  # of each base
            accuracy = (2 - loss if loss_matters else 0.05 * size) + own + 0.001 * row["sweep.seed"] * (step == 0)
            told = {"model": f"{row['model']}-{step}", "base_model.loss": loss, "sft.accuracy": accuracy}
            nine.append({**row, **told, "icl.accuracy": accuracy})
    return nine


def test_pretraining_loss() -> None:
    assert verdicts("pretraining-loss", nine_bases(loss_matters=True)) == [AGREES] * 4
    assert verdicts("pretraining-loss", nine_bases(loss_matters=False))[0] == DISAGREES
    assert ", over 9 bases)" in sentences("pretraining-loss", nine_bases(loss_matters=True))


def test_a_scatter_of_bases_is_no_proof_however_many_seeds() -> None:
    """Each base repeats itself with every seed: seeds say nothing of other bases."""
    many = list(range(30))
    accuracies = dict(zip(SIZES, (0.5, 0.3, 0.6, 0.4), strict=True))
    made = rows({"seed": many}, list(SIZES), sft=lambda model, _: accuracies[model])
    assert verdicts("pretraining-loss", made)[0] == INCONCLUSIVE


def test_pretraining_loss_has_a_point_for_each_base_where_sizes_repeat() -> None:
    """Nine bases of three sizes: means of a size would hide how far apart its bases are."""
    difference = findings("pretraining-loss", nine_bases(loss_matters=True))[0]
    # By hand: of the nine accuracies' squares 0.96 lie within a size and 0.06 between; size explains only the latter.
    assert difference.measured is not None and difference.measured.value == pytest.approx(0.94, abs=0.01)


def test_selection() -> None:
    def gain(_: str, settings: Row) -> float:
        return 0.05 + 0.03 * (settings["keep"] == "farthest") - 0.03 * (settings["grade.order"] == "exact")

    sweep = {"keep": ["farthest", "first", "shortest"], "grade.order": ["exact", "commutative"], "seed": SEEDS}
    assert verdicts("selection", rows(sweep, gain=gain)) == [AGREES, AGREES, DISAGREES]


def by_tokens(change: float, ratio: float) -> list[Row]:
    """RFT rises by 40 points for e times the tokens, and by `change`."""
    made = rows(
        {"sample.until": UNTIL, "seed": SEEDS},
        gain=lambda _, s: change + 0.4 * math.log(ratio) if s["sample.until"] else 0.0,
    )
    for row in made:
        row["sampled_tokens"] = 30_000 * (ratio if row["sweep.sample.until"] else 1)
    return made


def test_budget_compares_at_equal_tokens() -> None:
    assert verdicts("budget", by_tokens(0.1, 1.01)) == [AGREES]
    assert verdicts("budget", by_tokens(-0.1, 1.0)) == [DISAGREES]
    assert verdicts("budget", by_tokens(0.01, 1.0)) == [SMALLER]
    assert verdicts("budget", by_tokens(0.1, 1.3)) == [INCONCLUSIVE]
    said = sentences("budget", by_tokens(0.1, 1.3))
    assert "with 1.30 to 1.30 times the tokens, is +20." in said and "so they have to be equal" in said


def test_rounds() -> None:
    made = rows({"rounds": [1, 2, 3], "seed": SEEDS}, gain=lambda _, s: 0.03 * s["rounds"])
    for row in made:
        row["rft.pass@16"] = row["sft.pass@16"] - 0.02 * row["sweep.rounds"] - 0.001 * row["sweep.seed"]
    assert verdicts("rounds", made) == [AGREES, AGREES]
    assert "the change of pass@16 from SFT to round 3 is −6.20 points" in sentences("rounds", made)


@pytest.mark.parametrize("study", STUDIES)
def test_one_seed_tells_nothing_and_few_runs_do_no_harm(study: str) -> None:
    settings = {"train_fraction": FRACTIONS, "num_samples": KS, "dedup": [True, False], "rounds": [1, 2]}
    made = rows({**settings, "keep": ["farthest", "first"], "order": ["exact"], "curate.pool": [[]]}, list(SIZES))
    if study != "pretraining-loss":  # whose unit is the base
        assert set(verdicts(study, made)) <= {INCONCLUSIVE}
    assert set(verdicts(study, made[:1])) <= {INCONCLUSIVE}


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_whose_keys_are_not_swept_tells_nothing(study: str) -> None:
    assert set(verdicts(study, rows({"seed": SEEDS}))) <= {INCONCLUSIVE}


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
        if study != "gain":  # which counts the bases that have a gain
            assert sentences(study, [*others, *tuned]) == sentences(study, tuned)


def test_seeds_that_do_not_differ_tell_nothing() -> None:
    same = Finding("A claim", "the change", "points", Measured(1.0, 1e-14, 1, "2 seeds", "other bases"))
    assert same.verdict == INCONCLUSIVE
    assert same.sentence == (
        "A claim. Here the change is +1.00 points with each of 2 seeds, so without an interval: this is inconclusive "
        "(the 2 seeds do not differ at all, so they say nothing about others). The interval does not cover other bases."
    )


@pytest.mark.parametrize(
    ("value", "error", "sign", "paper", "verdict"),
    [
        (1.0, 0.2, 1, None, AGREES), (-1.0, 0.2, 1, None, DISAGREES), (-1.0, 0.2, -1, None, AGREES),
        (0.0, 0.2, 1, None, NOTHING), (0.4, 0.3, 1, None, INCONCLUSIVE), (0.4, 0.3, 1, (2.0, 9.0), SMALLER),
        (0.0, 0.2, 1, (2.0, 9.0), NOTHING), (1.0, 0.2, 1, (2.0, 9.0), SMALLER), (1.5, 0.4, 1, (2.0, 9.0), AGREES),
        (-0.2, 0.05, -1, (-0.5, -0.5), SMALLER), (-0.45, 0.05, -1, (-0.5, -0.5), AGREES),
        (0.1, 0.2, 0, None, AGREES), (1.0, 0.2, 0, None, INCONCLUSIVE), (-2.0, 0.2, 0, None, DISAGREES),
    ],
)  # fmt: skip
def test_the_verdict_is_read_off_the_interval(
    value: float, error: float, sign: int, paper: tuple[float, float] | None, verdict: str
) -> None:
    """Of 20 seeds the interval is 2.1 errors to each side; less than 0.75 counts as nothing."""
    measured = Measured(value, error, 19, "20 seeds", "other bases")
    found = Finding("A claim", "the change", "points", measured, sign=sign, margin=0.75, paper=paper)
    assert found.verdict == verdict


def test_all_but_the_primary_finding_share_the_level_by_holm() -> None:
    def of(p: float) -> Finding:
        """A finding whose two-sided p-value this is about, of very many seeds."""
        quantile = {0.04: 2.054, 0.02: 2.326, 0.01: 2.576}[p]
        return Finding("A claim", "the change", "points", Measured(quantile, 1.0, 10_000, "many seeds", "other bases"))

    assert [one.verdict for one in judged([of(0.04), of(0.01), of(0.02), of(0.04)])] == [AGREES] * 4
    assert [one.verdict for one in judged([of(0.04), of(0.02), of(0.02), of(0.04)])] == [AGREES] + [INCONCLUSIVE] * 3
    assert [one.confidence for one in judged([of(0.04), of(0.01), of(0.02)])] == [0.95, 0.975, 0.975]
    assert [one.confidence for one in judged([of(0.04), of(0.01), of(0.04)])] == [0.95, 0.975, 0.95]


def test_wordings_are_counted_beside_seeds_where_rows_tell_them() -> None:
    """Two wordings, of 30 and of 10 problems: RFT gains 8 points on the first alone."""
    made = [
        {"model": "tiny", "sweep.seed": seed, "rft.accuracy": 0.5, "hashes.problems": str(seed), "by_cluster": [
            {"cluster": "a", "num_problems": 30, "rft": {"accuracy": 0.58 + 0.01 * seed}},
            {"cluster": "b", "num_problems": 10, "rft": {"accuracy": 0.50}},
        ]} for seed in range(4)
    ]  # fmt: skip
    found = over_seeds(made, lambda own: 100 * own[0]["rft.accuracy"] - 50)
    assert found is not None and found.value == pytest.approx(0.75 * 9.5)
    assert (found.units, found.df, found.uncovered) == ("4 seeds and 2 question wordings", 1, "other bases")
    # By hand: the wordings' parts are 0.75 (9.5 - 7.125) and 0.25 (0 - 7.125), and their variance is 2 x their squares.
    assert found.error == pytest.approx(math.sqrt(2 * (1.78125**2 + 1.78125**2)), rel=0.05)


def test_the_sentence_holds_paper_figure_interval_and_verdict() -> None:
    finding = findings("num-samples", by_k(0.01))[0]
    assert re.fullmatch(
        r"The paper found that RFT accuracy rises with k: by \+0\.44 to \+0\.90 points per doubling\. Here the rise of "
        r"greedy accuracy is \+[01]\.\d\d points per doubling of k \(95% interval \+[01]\.\d\d to \+1\.\d\d, over 5 "
        r"seeds\): this agrees\. The interval does not cover other training problems, other question wordings or other "
        r"bases\.",
        finding.sentence,
    )


def test_study_text_tells_what_it_rests_on() -> None:
    made = by_k(0.01)
    text = results.text("num-samples", findings("num-samples", made), made)
    assert "30 rows; models small; seeds 0, 1, 2, 3, 4; 1,000 test problems." in text
    assert text.count("- **agrees**: ") == 3


COMMITTED = sorted((ROOT / "docs" / "results").glob("study-*"))


@pytest.mark.parametrize("folder", COMMITTED, ids=lambda folder: folder.name)
def test_the_committed_findings_are_what_their_table_says(folder: Path) -> None:
    rows, study = rejudge.read_rows(folder), rejudge.study_of(folder)
    found = results.findings(study, rows)
    assert (folder / "study.md").read_text() == results.text(study, found, rows)
    assert rejudge.as_markdown(found) in (folder / "report.md").read_text()
    assert rejudge.as_html(found) in (folder / "report.html").read_text()


def test_clusters_are_read_back_as_a_sweep_writes_them(tmp_path: Path) -> None:
    clusters = [{"cluster": "a", "num_problems": 3, "sft": {"accuracy": 0.5, "pass@1": 0.25}, "rft": {"accuracy": 1.0}}]
    row = {"variant": "seed=0", "model": "tiny", "sweep.pool": ["a"], "dedup": True, "rft.accuracy": 0.5}
    (tmp_path / "sweep.csv").write_text(sweep.as_csv([row]))
    (tmp_path / "clusters.csv").write_text(sweep.as_csv(list(sweep.of_clusters({**row, "by_cluster": clusters}))))
    assert rejudge.read_rows(tmp_path) == [{**row, "by_cluster": clusters}]


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
