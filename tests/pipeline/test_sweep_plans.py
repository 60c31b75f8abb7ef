"""Several models, pools, rounds and sweeps: what is planned, and what is shared."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.variants import ONE, TWO, chosen, distinct, load, named, plan, reads

from qrft.config import load as recipes
from qrft.config.variants import expand_sweep


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


GRID = (
    "sweep: {train_fraction: [1, 1/2, 1/4, 1/8], num_samples: [1, 3, 6, 12, 25, 50, 100], dedup: [true, false], "
    "seed: [0, 1, 2]}\n"
)


def test_a_sweep_of_168_runs_does_equal_steps_once() -> None:
    steps = plan(load(ONE + GRID))
    found = distinct(steps)
    assert sum(step.stage == "report" for step in steps) == 4 * 7 * 2 * 3
    assert found["problems"] == 3 * (4 + 1), "for each seed problems of its own: four shares, and the test set"
    greedy = 3 + 12 + 168  # of the base for each seed, of SFT for each share and seed, of RFT for each run
    assert found["sample"] == 12 + greedy, "k is the start of one sampling at k = 100"
    assert found["train"] == 12 + 168
    assert found["curate"] == 12 + 168, "the gold rows of each share, and a choice for each run"
    samples = [step for step in steps if step.path.endswith("round-1/samples")]
    assert {chosen(step).num_samples for step in samples} == {100}


def test_a_runs_own_recipe_plans_the_same_steps() -> None:
    recipe = load(ONE + GRID)
    for variant in expand_sweep(recipe)[::41]:
        alone = load(recipes.dump(variant.recipe))
        assert alone == variant.recipe
        inside = {step.path: step.digest for step in plan(recipe) if step.path.startswith(f"{variant.name}/")}
        for step in plan(alone)[:-1]:  # all but the report, which names the sweep
            assert inside[f"{variant.name}/{step.path}"] == step.digest


def test_the_largest_k_of_a_sweep_is_a_plain_run() -> None:
    alone = {step.digest for step in plan(load(ONE, "sample.num_samples=12")) if step.stage != "report"}
    assert alone <= {step.digest for step in plan(load(ONE + "sweep: {num_samples: [3, 12]}"))}


def test_names_and_settings_of_the_runs() -> None:
    variants = expand_sweep(load(ONE + "sweep: {train_fraction: [1/2], train.num_epochs: [3, 1/4], prompt: [plain]}"))
    assert [variant.name for variant in variants] == [
        "train_fraction=1-2,train.num_epochs=3,prompt=plain",
        "train_fraction=1-2,train.num_epochs=1-4,prompt=plain",
    ]
    assert variants[1].settings == {"train_fraction": 0.5, "train.num_epochs": 0.25, "prompt": "plain"}
    assert (variants[1].recipe.problems.train_fraction, variants[1].recipe.train.num_epochs) == (0.5, 0.25)
    lists = expand_sweep(load(ONE + "sweep: {train.target_modules: [[q_proj, v_proj], all-linear]}"))
    assert [variant.name for variant in lists] == [f"train.target_modules={x}" for x in ("q_proj+v_proj", "all-linear")]


def test_long_names_stay_folder_names() -> None:
    files = [f"{'x' * 120}/{name}.jsonl" for name in ("a", "b")]
    Path("x" * 120).mkdir()
    for file in files:
        Path(file).touch()
    names = [v.name for v in expand_sweep(load(ONE + f"sweep: {{problems.train: {files}, problems.test: {files}}}"))]
    assert len(set(names)) == 4 and all(len(name) <= 150 for name in names)


def test_a_model_by_name_shares_all_with_the_same_model_alone() -> None:
    alone = {step.digest for step in plan(load(ONE)) if step.stage != "report"}
    assert alone <= {step.digest for step in plan(load(TWO))}, "the first of the models samples as if it were alone"


def test_models_without_a_pool_go_their_own_ways() -> None:
    steps = named(plan(load(TWO)))
    assert reads(steps["large/round-1/training"]) == {
        "problems": "problems/train",
        "samples": "large/round-1/samples",
        "graded": "large/round-1/graded",
    }
    assert chosen(steps["large/sft/train"]).lora_r == 4 and chosen(steps["small/sft/train"]).lora_r == 8
    assert not any(name.startswith("large/") for name in steps["small/report"].inputs)


def test_a_pool_is_selected_once_for_all_who_train_on_it() -> None:
    steps = named(plan(load(TWO + "curate: {pool: [large, small]}\n")))
    pool = steps["round-1/training"]
    assert chosen(pool).sources == ("large/sft", "small/sft")
    assert reads(pool)["small/sft/graded"] == "small/round-1/graded"
    assert reads(steps["small/rft/train"])["training"] == reads(steps["large/rft/train"])["training"] == pool.path
    assert "large/round-1/samples" in steps["small/report"].inputs, "what it was made of belongs to its cost"
    seeds = {chosen(steps[f"{model}/round-1/samples"]).seed for model in ("small", "large")}
    assert len(seeds) == 2, "models with equal random streams would sample alike"


def test_only_the_models_that_rft_names_are_fine_tuned_again() -> None:
    steps = named(plan(load(TWO + "curate: {pool: [small, large]}\nrft: {models: [small], num_epochs: 9}\n")))
    assert "large/round-1/samples" in steps and "large/rft/train" not in steps
    assert [entry.model for entry in chosen(steps["large/evaluation"]).entries] == ["base", "sft"]
    trained = steps["small/rft/train"]
    assert chosen(trained).num_epochs == 9 and "models" not in trained.identity
    apart = named(plan(load(TWO + "rft: {models: [small]}\n")))
    assert "large/sft/train" in apart and "large/round-1/samples" not in apart, "nobody needs its samples"


def test_each_round_samples_the_model_of_the_one_before() -> None:
    steps = named(plan(load(ONE + "rounds: 3\n")))
    assert reads(steps["round-1/samples"])["adapter"] == "sft/gguf"
    assert reads(steps["round-3/samples"])["adapter"] == "round-2/gguf"
    assert chosen(steps["round-3/training"]).sources == ("sft", "rft-1", "rft-2")
    assert reads(steps["rft/train"]) == {"training": "round-3/training"}
    assert len({chosen(steps[f"round-{number}/samples"]).seed for number in (1, 2, 3)}) == 3
    last = named(plan(load(ONE + "rounds: 3\nrounds_pool: last\nrounds_from: last\n")))
    assert reads(last["round-3/training"])["samples"] == "round-3/samples"
    assert [reads(last[f"{name}/train"])["start"] for name in ("round-1", "round-2", "rft")] == [
        "sft/train",
        "round-1/train",
        "round-2/train",
    ]


def test_a_sweep_over_rounds_trains_each_round_once() -> None:
    found = distinct(plan(load(ONE + "sweep: {rounds: [0, 1, 2, 3]}\n")))
    assert found["train"] == 1 + 3 and found["evaluate"] == 4


def test_later_rounds_sample_no_more_than_is_looked_at() -> None:
    steps = plan(load(ONE + "rounds: 2\nsweep: {num_samples: [2, 8]}\n"))
    assert [chosen(step).num_samples for step in steps if step.path.endswith("round-2/samples")] == [2, 8]


def test_figures_of_the_paper_find_their_runs() -> None:
    paper = (
        "paper: {source: Table 3, sft: 35.9, cells: [{at: {num_samples: 3, model: small}, rft: 39.0}, "
        "{at: {model: large}, sft: 43.0}]}\nsweep: {num_samples: [1, 3]}\n"
    )
    reports = named(plan(load(TWO + paper)))
    found = {
        name: chosen(reports[f"{name}/report"]).paper.model_dump(include={"sft", "rft"})
        for name in ("num_samples=1/small", "num_samples=3/small", "num_samples=3/large")
    }
    assert list(found.values()) == [{"sft": 35.9, "rft": None}, {"sft": 35.9, "rft": 39.0}, {"sft": 43.0, "rft": None}]
