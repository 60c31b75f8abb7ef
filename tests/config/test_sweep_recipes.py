"""Recipes of several models and of sweeps: their faults, and which published figures a run shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from helpers.variants import ONE, TWO, load

from qrft.config import load as recipes
from qrft.config.training import Train
from qrft.config.variants import expand_sweep, split_models
from qrft.data.problems.registry import BY_NAME
from qrft.errors import RecipeError


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


TRAIN_KEYS = ", ".join(Train.model_fields)
SETS = ", ".join(BY_NAME)


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
            "Allowed: a model folder, a GGUF file, a hub name org/model, or one of tiny-base, smollm2-135m",
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
            ONE.replace("train: {", "train: {num_steps: 9, ") + "control: equal_steps",
            "r.yaml:8: control: found equal_steps with train.num_steps 9, which is both's. Allowed: leave one out",
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
            f"Allowed: a file (JSONL, JSON, CSV, Parquet), or one of the sets {SETS}",
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
