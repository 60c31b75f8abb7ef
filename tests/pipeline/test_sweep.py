"""Several models, pools, rounds and sweeps: what is planned, what is shared, and the table at the end."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qrft import grading
from qrft.config import load as recipes
from qrft.config.recipe import Recipe
from qrft.config.training import Training
from qrft.config.variants import expand_sweep, split_models
from qrft.data import schema
from qrft.data.problems.registry import BY_NAME, draw
from qrft.data.problems.table import share
from qrft.errors import RecipeError
from qrft.models.find import BUILTIN
from qrft.pipeline import execute as pipeline
from qrft.pipeline import flow, store
from qrft.pipeline.graph import Step
from qrft.pipeline.stages import Job, curate, sweep
from qrft.pipeline.stages.evaluate import evaluate
from qrft.pipeline.store import Store

ONE = """\
name: trial
base_model: tiny-base
problems: {train: tiny-math/train, test: tiny-math/test, num_train: 16, num_test: 8}
train: {num_epochs: 4, learning_rate: 3e-3, lora_r: 8, quantization: none}
sample: {num_samples: 8, max_new_tokens: 48}
evaluate: {max_new_tokens: 48}
num_threads: 1
"""
TWO = ONE.replace(
    "base_model: tiny-base",
    "models: {small: {base_model: tiny-base}, large: {base_model: tiny-base, train: {lora_r: 4}}}",
)

TRAIN_KEYS = ", ".join(key for key in Training.model_fields if key not in ("prompt", "seed"))  # those are the run's
SETS = ", ".join(BY_NAME)


def load(text: str, *overrides: str, folder: Path | None = None) -> Recipe:
    path = (folder or Path()) / "r.yaml"
    path.write_text(text)
    return recipes.load(path, overrides)


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def plan(recipe: Recipe) -> list[Step]:
    return flow.plan(recipe, BUILTIN)


def distinct(steps: Sequence[Step]) -> Counter[str]:
    return Counter(stage for stage, _ in {(step.stage, step.digest) for step in steps})


def named(steps: Sequence[Step]) -> dict[str, Step]:
    return {step.path: step for step in steps}


def chosen(step: Step) -> Any:
    """The settings of a step, whatever its stage."""
    return step.settings


def reads(step: Step) -> dict[str, str]:
    return {name: source.path for name, source in step.inputs.items() if isinstance(source, Step)}


# ---------------------------------------------------------------------------------------------------------------- plans


GRID = (
    "sweep: {train_fraction: [1, 1/2, 1/4, 1/8], num_samples: [1, 3, 6, 12, 25, 50, 100], dedup: [true, false], "
    "seed: [0, 1, 2]}\n"
)


def test_a_sweep_of_168_runs_does_equal_steps_once() -> None:
    steps = plan(load(ONE + GRID))
    found = distinct(steps)
    assert sum(step.stage == "report" for step in steps) == 4 * 7 * 2 * 3
    assert found["problems"] == 1 + 9 + 1, "the whole set, three shares for each of three seeds, and the test set"
    greedy = 1 + 12 + 168  # of the base, of SFT for each share and seed, of RFT for each run
    assert found["sample"] == 12 + greedy, "k is the start of one sampling at k = 100"
    assert found["train"] == 12 + 168
    assert found["curate"] == 10 + 168, "the gold rows of each share, and a choice for each run"
    samples = [step for step in steps if step.path.endswith("round-1/samples")]
    assert {chosen(step).num_samples for step in samples} == {100}


def test_a_runs_own_recipe_plans_the_same_steps() -> None:
    recipe = load(ONE + GRID)
    for variant in expand_sweep(recipe)[::17]:
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


@pytest.mark.parametrize(
    ("at", "overrides", "shown"),
    [
        ("{dedup: true}", [], [True, True]),
        ("{curate.dedup: true}", ["curate.dedup=false"], [False, False]),
        ("{dedup: false, num_samples: 3}", ["curate.dedup=false"], [False, True]),
        ("{dedup: false, num_samples: 3}", ["sweep={dedup: [true, false]}", "sample.num_samples=3"], [False, True]),
        ("{num_samples: 1}", [], [True, False]),  # the first of a sampling of 3
        ("{num_samples: 8}", [], [False, False]),
        ("{num_samples: 8}", ["sweep=null"], [True]),
        ("{train_fraction: 1/2}", [], [False, False]),
        ("{train_fraction: 1/2}", ["sweep={train_fraction: [0.5, 1]}"], [True, False]),
        ("{rft.num_epochs: 4}", ["rft.lora_r=4"], [True, True]),  # as train has it
        ("{sft.num_epochs: 4}", ["sft.num_epochs=2"], [False, False]),
        ("{sample.until: {correct: 4}}", ["sweep={sample.until: [{}, {correct: 4}]}"], [False, True]),
        ("{sample.until: {}}", ["sweep={sample.until: [{}, {correct: 4}]}"], [True, False]),
        ("{base_model: tiny-base}", [], [True, True]),
    ],
)
def test_a_figure_is_shown_where_the_run_has_every_value_of_its_cell(
    at: str, overrides: list[str], shown: list[bool]
) -> None:
    text = f"paper: {{sft: 1, cells: [{{at: {at}, rft: 39.0}}]}}\nsweep: {{num_samples: [1, 3]}}\n"
    recipe = load(ONE + text, *overrides)
    assert [split_models(variant.recipe)[""].paper.rft == 39.0 for variant in expand_sweep(recipe)] == shown
    assert all(split_models(variant.recipe)[""].paper.sft == 1 for variant in expand_sweep(recipe))
    again = [load(recipes.dump(variant.recipe)) for variant in expand_sweep(recipe)]
    assert [split_models(own)[""].paper.rft == 39.0 for own in again] == shown, "a run's own recipe shows the same"


def test_a_cell_is_held_against_the_settings_of_each_model() -> None:
    cells = "paper: {cells: [{at: {train.lora_r: 4}, sft: 43.0}, {at: {models.small.base_model: tiny-base}, rft: 9}]}\n"
    found = split_models(load(TWO + cells))
    assert {name: (own.paper.sft, own.paper.rft) for name, own in found.items()} == {
        "small": (None, 9.0),
        "large": (43.0, 9.0),
    }


# --------------------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            TWO + "curate: {pool: [smal]}",
            "r.yaml:8: curate.pool: found 'smal'. Did you mean small? Allowed: small, large",
        ),
        (TWO + "curate: {pool: [small, small]}", "r.yaml:8: curate.pool: found 'small' twice. Allowed: once"),
        (
            ONE + "curate: {pool: [small]}",
            "r.yaml:8: curate.pool: found 'small'. Allowed: only with the section models",
        ),
        (TWO + "rft: {models: [x]}", "r.yaml:8: rft.models: found 'x'. Allowed: small, large"),
        (TWO + "rft: {models: []}", "r.yaml:8: rft.models: found []. Allowed: a list of texts, at least one"),
        (
            TWO + "sft: {models: [small]}",
            f"r.yaml:8: sft.models: unknown key. Did you mean models? Allowed: {TRAIN_KEYS}",
        ),
        (
            TWO + "base_model: tiny-base",
            "r.yaml:8: base_model: found 'tiny-base' together with models. Allowed: one of the two, not both",
        ),
        (
            TWO.replace("base_model: tiny-base}", "base_model: x}"),
            "r.yaml:2: models.small.base_model: found the text 'x': no such folder; looked at FOLDER/x. "
            "Allowed: a model folder, a hub name org/model, or a built-in model: tiny-base",
        ),
        (
            TWO.replace("small:", "a.b:"),
            "r.yaml:2: models: found the name 'a.b'. Allowed: up to 40 letters, digits, _ and -",
        ),
        (
            TWO.replace("lora_r: 4", "lora_t: 4"),
            f"r.yaml:2: models.large.train.lora_t: unknown key. Did you mean lora_r? Allowed: {TRAIN_KEYS}",
        ),
        (
            TWO + "gguf: {file: r.yaml}",
            "r.yaml:8: gguf.file: found a file together with models. "
            "Allowed: null, with a gguf_file for each model that has one",
        ),
        (
            ONE + "paper: {cells: [{at: {num_sample: 3}, rft: 39.0}]}",
            "r.yaml:8: paper.cells.0.at.num_sample: unknown key. Did you mean num_samples? Allowed: model, and "
            "keys of a recipe",
        ),
        (
            ONE + "paper: {cells: [{at: {max_new_tokens: 3}, rft: 39.0}]}",
            "r.yaml:8: paper.cells.0.at.max_new_tokens: could mean sample.max_new_tokens or "
            "evaluate.max_new_tokens. Allowed: one of them, written out",
        ),
        (ONE + "rounds: -1", "r.yaml:8: rounds: found -1. Allowed: a whole number >= 0"),
        (
            ONE + "rft: {lora_r: 4}\nrounds_from: last",
            "r.yaml:9: rounds_from: found last with rft.lora_r, but an adapter keeps its shape. Allowed: base, "
            "or leave that key out",
        ),
        (
            ONE + "curate: {first_samples: 9}",
            "r.yaml:8: curate.first_samples: found 9 with sample.num_samples 8. Allowed: at most that many",
        ),
        (ONE + "sweep: {seed: []}", "r.yaml:8: sweep.seed: found []. Allowed: a list of values, at least one"),
        (ONE + "sweep: {seed: 3}", "r.yaml:8: sweep.seed: found 3. Allowed: a list of values, at least one"),
        (ONE + "sweep: [3]", "r.yaml:8: sweep: found [3]. Allowed: a section with keys of your own"),
        (
            ONE + "sweep: {sead: [1]}",
            "r.yaml:8: sweep.sead: unknown key. Did you mean seed? Allowed: any key of a recipe, such as seed, "
            "num_samples, train.num_epochs",
        ),
        (
            ONE + "sweep: {train.num_epoch: [1]}",
            "r.yaml:8: sweep.train.num_epoch: unknown key. Did you mean train.num_epochs? Allowed: any key of "
            "a recipe, such as seed, num_samples, train.num_epochs",
        ),
        (
            ONE + "sweep: {max_new_tokens: [1]}",
            "r.yaml:8: sweep.max_new_tokens: could mean sample.max_new_tokens or evaluate.max_new_tokens. Allowed: "
            "one of them, written out",
        ),
        (
            ONE + "sweep: {num_threads: [1, 2]}",
            "r.yaml:8: sweep.num_threads: no result depends on it. Allowed: keys other than name, sweep, "
            "study, paper, num_threads, train.checkpoint_minutes, train.report_to",
        ),
        (
            ONE + "sweep: {dedup: [true], curate.dedup: [true]}",
            "r.yaml:8: sweep.curate.dedup: is the same key as dedup. Keep one of them",
        ),
        (
            ONE + "sweep: {num_samples: [1, 2], first_samples: [1]}",
            "r.yaml:8: sweep.first_samples: found together with num_samples, which sets it. Allowed: one of the two",
        ),
        (ONE + "sweep: {seed: [1, 2, 1]}", "r.yaml:8: sweep.seed: found 1 twice. Allowed: each value once"),
        (
            ONE + "sweep: {train_fraction: [1, 1/2, 0.5]}",
            "r.yaml:8: sweep.train_fraction: found 0.5 twice. Allowed: each value once",
        ),
        (
            ONE + "sweep: {num_samples: [0, 2]}",
            "r.yaml:8: sweep.num_samples: found 0. Allowed: a whole number >= 1, or null",
        ),
        (
            ONE + "sweep: {train_fraction: [1, 9/8]}",
            "r.yaml:8: sweep.train_fraction: found 1.125. Allowed: a number > 0 and <= 1",
        ),
        (
            ONE + "sweep: {train_fraction: [0]}",
            "r.yaml:8: sweep.train_fraction: found 0. Allowed: a number > 0 and <= 1",
        ),
        (
            ONE + "sweep: {num_samples: [1, x]}",
            "r.yaml:8: sweep.num_samples: found the text 'x'. Allowed: a whole number >= 1",
        ),
        (
            ONE + "sweep: {problems.train: [no.jsonl]}",
            "r.yaml:8: sweep.problems.train: found the text 'no.jsonl': no such file; looked at FOLDER/no.jsonl. "
            f"Allowed: a JSONL or Parquet file, or one of the sets {SETS}",
        ),
        (
            ONE + "sweep: {sample.temperature: [1, 0], num_samples: [1, 2]}",
            "r.yaml:8: sweep.sample.temperature: found 0 with sample.num_samples 2: all samples of a problem "
            "would be equal. Allowed: a temperature > 0, or num_samples 1",
        ),
        (
            ONE + "sweep: {curate.pool: [[small]]}",
            "r.yaml:8: sweep.curate.pool: found 'small'. Allowed: only with the section models",
        ),
        (
            ONE + "sweep: {until.correct: [4], until.distinct: [4]}",
            "r.yaml:8: sweep.until.distinct: found 4 together with until.correct. Allowed: one of the two",
        ),
        (
            ONE + f"sweep: {{seed: {list(range(100))}, num_samples: {list(range(1, 101))}}}",
            "r.yaml:8: sweep: found 10,000 runs. Allowed: at most 5,000",
        ),
        (
            ONE + "sweep: {seed: [1, 2], until.correct: [4, 12]}",
            "r.yaml:8: sweep: seed=1,until.correct=12: sample.until: found 12 paths with sample.num_samples 8. "
            "Allowed: at most that, or set until.max_samples",
        ),
        (ONE + "paper: {sft: 135}", "r.yaml:8: paper.sft: found 135. Allowed: a number >= 0 and <= 100, or null"),
    ],
)
def test_faults(text: str, expected: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load(text)
    lines = str(caught.value).splitlines()
    assert lines == [expected.replace("FOLDER", str(Path.cwd()))]


def test_all_faults_of_a_sweep_at_once_beside_the_others() -> None:
    with pytest.raises(RecipeError) as caught:
        load(
            ONE.replace("lora_r: 8", "lora_r: 0")
            + "sweep:\n  train_fraction: [2, 1/2, 3]\n  sead: [1]\n  dedup: [no]\n"
        )
    places = [line.split(": ")[:2] for line in str(caught.value).splitlines()]
    keys = ["sweep.train_fraction", "sweep.train_fraction", "sweep.sead", "sweep.dedup"]
    assert places == [["r.yaml:4", "train.lora_r"], *zip_lists([9, 9, 10, 11], keys)]


def zip_lists(lines: Sequence[int], keys: Sequence[str]) -> list[list[str]]:
    return [[f"r.yaml:{line}", key] for line, key in zip(lines, keys, strict=True)]


# --------------------------------------------------------------------------------------------------- subsets and pools


def test_shares_of_the_problems_are_nested_and_keep_their_order() -> None:
    problems = draw("tiny-math/train", 0, 64)
    ids = problems["problem_id"].to_pylist()
    before = set(ids)
    for fraction in (1 / 2, 1 / 4, 1 / 8, 1 / 1000):
        found = share(problems, fraction, 0)["problem_id"].to_pylist()
        assert len(found) == max(1, round(64 * fraction)) and set(found) <= before
        assert found == sorted(found, key=ids.index)
        before = set(found)
    assert share(problems, 1 / 2, 0) != share(problems, 1 / 2, 1)


GOLD = "It is 6*7=<<6*7=42>>42.\n#### 42"
PATHS = [f"It is {n}+{42 - n}=<<{n}+{42 - n}=42>>42.\n#### 42" for n in range(6)]


def samples_of(folder: Path, name: str, completions: Sequence[str]) -> dict[str, Path]:
    count = len(completions)
    columns = [["0"] * count, ["sft"] * count, range(count), completions, ["stop"] * count, [9] * count, [-1.0] * count]
    (folder / name).mkdir()
    pq.write_table(pa.table([list(c) for c in columns], schema=schema.SAMPLES), folder / name / "samples.parquet")
    pq.write_table(grading.grade(completions, ["42"] * count), folder / name / "graded.parquet")
    return {f"{name}-sft/samples": folder / name, f"{name}-sft/graded": folder / name}


@pytest.mark.parametrize(
    ("first_samples", "kept"),
    [
        (None, [("a-sft", 0), ("a-sft", 1), ("a-sft", 2), ("b-sft", 2)]),
        (2, [("a-sft", 0), ("a-sft", 1)]),
    ],
)
def test_a_pool_keeps_each_path_once_and_says_whose_it_is(
    tmp_path: Path, first_samples: int | None, kept: list[tuple[str, int]]
) -> None:
    problems = pa.table([["0"], ["Six times seven?"], [GOLD], ["42"]], schema=schema.PROBLEMS)
    pq.write_table(problems, tmp_path / "problems.parquet")
    inputs = {
        "problems": tmp_path,
        **samples_of(tmp_path, "a", [PATHS[0], PATHS[1], PATHS[2]]),
        **samples_of(tmp_path, "b", [PATHS[1], PATHS[0], PATHS[5], GOLD]),
    }
    settings = curate.Settings(keep="first", sources=("a-sft", "b-sft"), first_samples=first_samples)
    curate.run(inputs, tmp_path, settings, Job(num_threads=1))
    rows = pq.read_table(tmp_path / "training.parquet").to_pylist()
    assert [(row["source"], row["sample_index"]) for row in rows[1:]] == kept
    num_verdicts = pq.read_table(tmp_path / "verdicts.parquet").num_rows
    assert num_verdicts == (7 if first_samples is None else 4)


# ------------------------------------------------------------------------------------------------------------ the table


def test_the_table_has_a_row_for_every_run_and_model(tmp_path: Path) -> None:
    entries = []
    for number, models in enumerate(({"base": [0, 1], "sft": [1, 1]}, {"base": [0, 1], "sft": [1, 1], "rft": [0, 0]})):
        facts = evaluate({name: np.array(verdicts, float) for name, verdicts in models.items()})
        (tmp_path / str(number)).mkdir()
        summary = {"name": "x", **facts, "seconds": {"sft/train": 2.5, "rft/train": 1.5}, "explained": ["word, word"]}
        (tmp_path / str(number) / "summary.json").write_text(json.dumps(summary))
        values = {"seed": number, "keep": "first"}
        entries.append(sweep.Entry(variant=f"seed={number}", model="m", settings=values))
    settings = sweep.Settings(name="x", rows=tuple(entries))
    sweep.run({str(n): tmp_path / str(n) for n in (0, 1)}, tmp_path, settings, Job())
    rows = [json.loads(line) for line in (tmp_path / "sweep.jsonl").read_text().splitlines()]
    assert [(row["variant"], row["sweep.seed"], row["sft.accuracy"], row["seconds"]) for row in rows] == [
        ("seed=0", 0, 1.0, 4.0),
        ("seed=1", 1, 1.0, 4.0),
    ]
    assert "rft.accuracy" not in rows[0] and rows[1]["rft.accuracy"] == 0.0 and "explained" not in rows[1]
    with (tmp_path / "sweep.csv").open(newline="") as file:
        assert [row["rft.accuracy"] for row in csv.DictReader(file)] == ["", "0.0"]


def test_the_columns_of_in_context_learning_are_those_of_the_most_examples() -> None:
    score = {"value": 0.1, "low": 0.0, "high": 0.2}
    kinds = [
        ("base", 0, "greedy"),
        ("base", 8, "greedy"),
        ("base", 8, "maj@100"),
        ("base", 2, "greedy"),
        ("sft", 0, "x"),
    ]
    measures = [
        {"model": model, "problems": "p", "few_shot": shots, "measure": measure, **score, "value": place / 10}
        for place, (model, shots, measure) in enumerate(kinds)
    ]
    found = sweep.columns({"measures": measures, "seconds": {}})
    assert (found["icl.few_shot"], found["icl.accuracy"], found["icl.maj@100"]) == (8, 0.1, 0.2)
    assert found["icl.maj@100.high"] == 0.2 and "icl.x" not in found


# ------------------------------------------------------------------------------------------------------- whole runs


class Quiet:
    """A watcher that counts what was done."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def plan(self, rows: list[tuple[Step, bool]]) -> None:
        pass

    @contextlib.contextmanager
    def bar(self, name: str) -> Iterator[Callable[[int, int, str], None]]:
        self.done.append(name)
        yield lambda *_: None


def execute(recipe: Recipe, out: Path) -> tuple[dict[str, Path], list[str]]:
    """The artifacts by step, and the names of what was done for them."""
    watcher = Quiet()
    return pipeline.execute(plan(recipe), Store(out / "store"), out / recipe.name, recipe, watcher), watcher.done


@pytest.mark.slow
def test_pools_and_rounds_run(tmp_path: Path) -> None:
    settings = "curate: {pool: [small, large], dedup: false}\nrft: {models: [small]}\nrounds: 2\nrounds_from: last\n"
    recipe = load(TWO + settings, "train.num_epochs=40", "train.lora_r=32")
    artifacts, _ = execute(recipe, tmp_path)
    summary = json.loads((tmp_path / "trial/small/summary.json").read_text())
    assert summary["samples_per_problem"] == 3 * 8 and summary["num_samples"] == 3 * 8 * 16
    assert summary["num_kept"] > 0, "40 epochs on 16 problems must teach it to solve some of them"
    assert (tmp_path / "trial/small/report.html").exists()
    assert "rft" not in json.loads((tmp_path / "trial/large/summary.json").read_text())
    rows = pq.read_table(artifacts["round-2/training"] / "training.parquet").to_pylist()
    sources = {row["source"] for row in rows}
    assert {"gold", "small/rft-1"} < sources <= {"gold", "small/sft", "large/sft", "small/rft-1"}


SWEEP = "sweep: {train_fraction: [1, 1/2], num_samples: [2, 4, 8], seed: [0, 1]}\n"
# As little as teaches it to solve some of the problems.
LITTLE = ["problems.num_train=8", "train.num_epochs=16", "train.learning_rate=8e-3", "train.lora_r=32"]
LITTLE += ["train.micro_batch_size=4"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """The folder of an undisturbed sweep, and the rows of its table."""
    out = tmp_path_factory.mktemp("sweep")
    recipe = load(ONE + SWEEP, *LITTLE, folder=out)
    _, done = execute(recipe, out)
    assert len(done) == len({step.digest for step in plan(recipe)}) == len(list((out / "store").glob("*-*")))
    assert execute(recipe, out)[1] == [], "nothing is left to do"
    return out, rows_of(out / "trial")


def rows_of(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "sweep.jsonl").read_text().splitlines()]


def results(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """All but the time and the energy that it took."""
    took = ("seconds", "joules")
    return [{key: value for key, value in row.items() if not key.endswith(took)} for row in rows]


@pytest.mark.slow
def test_a_sweep_killed_and_resumed_gives_the_same_table(
    whole: tuple[Path, list[dict[str, Any]]], tmp_path: Path
) -> None:
    words = [sys.executable, "-m", "qrft", "run", str(whole[0] / "r.yaml"), "-o", str(tmp_path)]
    words += [word for change in LITTLE for word in ("--set", change)]
    for number in (3, 30, 60):
        kill_when(lambda number=number: len(list((tmp_path / "store").glob("*-*"))) >= number, words)  # type: ignore[misc]
    subprocess.run(words, check=True, capture_output=True)
    assert results(rows_of(tmp_path / "trial")) == results(whole[1])
    assert {path.name for path in tmp_path.glob("store/*-*")} == {path.name for path in whole[0].glob("store/*-*")}
    folder = tmp_path / "trial" / whole[1][5]["variant"]
    assert store.verify(folder / "rft/train", contents=True)["stage"] == "train"
    assert (folder / "report.html").exists() and (folder / "recipe.yaml").exists()


@pytest.mark.slow
def test_the_table_of_12_runs_is_that_of_12_separate_runs(
    whole: tuple[Path, list[dict[str, Any]]], tmp_path: Path
) -> None:
    rows = whole[1]
    assert len(rows) == 12 and any(row["num_kept"] for row in rows)
    for row, variant in zip(rows, expand_sweep(load(ONE + SWEEP, *LITTLE)), strict=True):
        # Not plainly k samples: what else is in a batch can, rarely, change a sample (docs/sampling.md).
        changes = [f"problems.train_fraction={variant.settings['train_fraction']}", f"seed={variant.settings['seed']}"]
        changes += ["sample.num_samples=8", f"curate.first_samples={variant.settings['num_samples']}"]
        artifacts, done = execute(load(ONE, *LITTLE, *changes), tmp_path / variant.name)
        assert len(done) == len(artifacts)
        summary = json.loads((artifacts["report"] / "summary.json").read_text())
        settings = {f"sweep.{key}": value for key, value in variant.settings.items()}
        alone = {"variant": variant.name, "model": "tiny-base", **settings, **sweep.columns(summary)}
        assert results([alone]) == results([row])


@pytest.mark.slow
def test_a_run_of_fewer_samples_costs_what_its_own_sampling_would(tmp_path: Path) -> None:
    execute(load(ONE + "sweep: {num_samples: [2, 8]}\n", *LITTLE), tmp_path)
    of_sweep = {row["sweep.num_samples"]: row for row in rows_of(tmp_path / "trial")}
    artifacts, _ = execute(load(ONE, *LITTLE, "sample.num_samples=2", "name=alone"), tmp_path)
    alone = sweep.columns(json.loads((artifacts["report"] / "summary.json").read_text()))
    # Rarely a sample differs (docs/sampling.md), and with it a length.
    for unit in ("num_tokens", "flops"):
        ours = of_sweep[2][f"cost.rft.{unit}"]
        assert ours == pytest.approx(alone[f"cost.rft.{unit}"], rel=0.02)
        assert ours < 0.95 * of_sweep[8][f"cost.rft.{unit}"]


def kill_when(condition: Callable[[], object], words: list[str]) -> None:
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    while not condition():
        assert process.poll() is None, "it ended before"
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
