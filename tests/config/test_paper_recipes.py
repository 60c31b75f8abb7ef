"""recipes/paper: the paper's runs load, keep its settings and carry its figures."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from helpers.paths import RECIPES, published

from qrft.config.load import load
from qrft.config.variants import expand_sweep, split_models
from qrft.models.find import BUILTIN
from qrft.pipeline.flow import plan
from qrft.pipeline.store import Store
from qrft.planning.devices import find
from qrft.planning.forecast import forecast

FOLDER = RECIPES / "paper"
PAPER_RECIPES = sorted(FOLDER.glob("*.yaml"))
SFT = {"llama-7b": 35.9, "llama2-7b": 41.6, "llama-13b": 43.0, "llama2-13b": 50.0, "llama-33b": 54.6}
RFT = {
    "llama-7b": {"k100": 41.7, "u13b": 49.3, "u33b": 49.1},
    "llama2-7b": {"k100": 47.5, "u13b": 50.3, "u33b": 51.2},
}
SFT_MAJ = {"llama-7b": 48.7, "llama2-7b": 55.4, "llama-13b": 55.2, "llama2-13b": 61.7, "llama-33b": 72.6}
RFT_MAJ = {
    "llama-7b": {"k100": 52.7, "u13b": 61.8, "u33b": 61.6},
    "llama2-7b": {"k100": 58.7, "u13b": 65.6, "u33b": 64.1},
}
PATHS = {
    "llama-7b": {"k100": 5.25, "u13b": 12.84, "u33b": 13.65},
    "llama2-7b": {"k100": 5.19, "u13b": 12.84, "u33b": 13.65},
}
WITHOUT_DEDUP = {"llama-7b": 43.6, "llama2-7b": 46.7, "llama-13b": 46.9, "llama2-13b": 53.7}
FULL = ["train.adapter=none", "train.quantization=none", "train.learning_rate=2e-5", "train.vram=null"]


@pytest.mark.parametrize("path", PAPER_RECIPES, ids=lambda path: path.name)
def test_settings_are_the_papers(path: Path) -> None:
    recipe = load(path)
    train = recipe.train
    assert train.micro_batch_size * train.gradient_accumulation_steps == 128
    assert (train.num_epochs, train.sequence_len, train.warmup_ratio, train.weight_decay) == (3, 512, 0.03, 0)
    assert (recipe.prompt, recipe.sample.temperature, recipe.evaluate.max_new_tokens) == ("alpaca", 0.7, 256)
    if recipe.rounds:
        assert recipe.grade.mode == "paper" and recipe.sample.top_k == 50
        assert max(variant.recipe.sample.num_samples for variant in expand_sweep(recipe)) == 100
    assert load(path, FULL).train.learning_rate == 2e-5


@pytest.mark.parametrize(
    "path", [path for path in PAPER_RECIPES if path.name.startswith("llama")], ids=lambda path: path.name
)
def test_each_carries_its_figure(path: Path) -> None:
    match = re.fullmatch(r"(llama2?-7b)-(?:rft-)?(\w+)", path.stem)
    assert match
    name, kind = match.groups()
    models = split_models(load(path))
    figures = (models.get(name) or models[""]).paper
    assert figures.sft == SFT[name] and figures.rft == RFT[name].get(kind)
    assert figures.sft_maj100 == SFT_MAJ[name] and figures.rft_maj100 == RFT_MAJ[name].get(kind)
    assert figures.distinct_paths == PATHS[name].get(kind)
    assert all(model.paper.sft_maj100 == SFT_MAJ[other] for other, model in models.items() if other)
    assert all(model.paper.sft == SFT[other] for other, model in models.items() if other)


def test_sweeps_carry_a_figure_for_every_run_and_model() -> None:
    for name, figure, counts in (("data-fraction", "sft", 6), ("num-samples", "rft", 7)):
        variants = expand_sweep(load(FOLDER / f"{name}.yaml"))
        assert len(variants) == counts
        found = [getattr(m.paper, figure) for variant in variants for m in split_models(variant.recipe).values()]
        assert len(found) == 4 * counts and None not in found
    last = split_models(expand_sweep(load(FOLDER / "num-samples.yaml"))[-1].recipe)
    assert last["llama2-7b"].paper.rft == RFT["llama2-7b"]["k100"] and last["llama2-7b"].paper.sft == SFT["llama2-7b"]


def test_without_dedup_the_figures_are_those_without() -> None:
    variants = expand_sweep(load(FOLDER / "num-samples.yaml", ["curate.dedup=false"]))
    figures = [{name: own.paper.rft for name, own in split_models(variant.recipe).items()} for variant in variants]
    assert figures[-1] == WITHOUT_DEDUP and all(set(found.values()) == {None} for found in figures[:-1])
    both = expand_sweep(load(FOLDER / "num-samples.yaml", ["sweep.dedup=[true, false]", "sweep.num_samples=[100]"]))
    assert [split_models(variant.recipe)["llama-7b"].paper.rft for variant in both] == [41.7, 43.6]


SIZES = {"7b": (4096, 11008, 32, 32), "13b": (5120, 13824, 40, 40), "30b": (6656, 17920, 60, 52)}


def shaped(folder: Path, size: str) -> Path:
    """A folder with LLaMA's sizes and no weights. Its tokenizer makes more tokens of a text than LLaMA's does, so the
    context is twice as long."""
    made = folder / size
    made.mkdir(exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BUILTIN["tiny-base"] / name, made / name)
    hidden, inner, layers, heads = SIZES[size]
    config = {"model_type": "llama", "hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers}
    config |= {"num_attention_heads": heads, "vocab_size": 32000, "max_position_embeddings": 4096}
    (made / "config.json").write_text(json.dumps(config))
    return made


@pytest.mark.parametrize("name", ["llama-7b-rft-k100", "llama-7b-rft-u13b", "llama-7b-rft-u33b"])
def test_each_fits_24_gib_with_the_plans_own_error(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other recipes have steps of the same settings."""
    monkeypatch.setenv("QRFT_DATA", str(published("gsm8k").parent))
    recipe = load(FOLDER / f"{name}.yaml")
    bases = {str(model.base_model) for model in split_models(recipe).values()}
    folders = {base: shaped(tmp_path, base.lower().removesuffix("-hf").rpartition("-")[2]) for base in bases}
    found = forecast(plan(recipe, folders), Store(tmp_path / "store"), find("RTX 3090"))
    large = [row for row in found.rows if row.stage in ("train", "sample")]
    assert large and not [row.faults for row in large if row.faults]
    assert max(row.memory + row.error for row in large) <= found.device.memory
