"""The recipe: what is accepted, what the sections are, and that a recipe survives its own YAML."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from helpers.recipes import BASE, fault, load
from hypothesis import given, settings
from hypothesis import strategies as st

from qrft import grading
from qrft.config import load as recipes
from qrft.config.pretrain import PretrainRecipe
from qrft.config.recipe import Recipe
from qrft.config.sections import Problems
from qrft.config.training import Train
from qrft.errors import RecipeError
from qrft.sampling.api import Picking, SamplingParams
from qrft.sampling.budget import Until


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ------------------------------------------------------------------------------------------------------- what is right


def test_defaults_fill_what_is_not_given() -> None:
    recipe = load("")
    assert recipe.gguf.quant == "f16"
    assert (recipe.train.lora_r, recipe.sample.num_samples, recipe.sft, recipe.num_threads) == (32, 30, {}, None)


def test_stage_overrides_only_what_they_name() -> None:
    recipe = load("train: {num_epochs: 24, lora_r: 8}\nsft: {num_epochs: 3, target_modules: [q_proj]}\n")
    assert recipe.train_config("sft").num_epochs == 3.0
    assert recipe.train_config("sft").lora_r == 8
    assert recipe.train_config("sft").target_modules == ("q_proj",)
    assert recipe.train_config("rft") == recipe.train


def test_a_stages_overrides_are_judged_together_with_what_they_leave_alone() -> None:
    text = "train: {quantization: none, lora_r: 8}\nsft: {adapter: none}\nrft: {lora_init: pissa}\n"
    recipe = load(text)
    assert recipe.train_config("sft").lora_r == 32, "a key without a meaning is not taken over"
    assert (recipe.train_config("rft").lora_r, recipe.train_config("rft").lora_init) == (8, "pissa")
    assert load(recipes.dump(recipe), base="") == recipe
    assert fault(text, "rft.lora_init=loftq") == (
        "--set: rft.lora_init: found loftq with train.quantization none, which leaves no quantisation error to start "
        "from. Allowed: default, pissa, or train.quantization nf4"
    )


def test_a_default_spelled_out_is_no_fault_without_an_adapter() -> None:
    recipe = load("train: {quantization: none, adapter: none}\n")
    assert "lora_r: 32" in recipes.dump(recipe) and load(recipes.dump(recipe), base="") == recipe


def test_an_override_equal_to_the_default_still_overrides() -> None:
    recipe = load("train: {lora_r: 8}\nsft: {lora_r: 32}\n")
    assert recipe.train_config("sft").lora_r == 32
    assert recipe != load("train: {lora_r: 8}\n")


def test_the_sections_are_what_the_core_and_the_samplers_take() -> None:
    recipe = load("")
    assert type(recipe.grade) is grading.Rules and recipe.grade == grading.Rules()
    assert isinstance(recipe.curate, grading.Selection)
    assert recipe.curate.model_dump(include={*grading.Selection.model_fields}) == grading.Selection().model_dump()
    assert isinstance(recipe.sample, Picking) and type(recipe.sample.until) is Until
    assert recipe.sample.model_dump(include={*Picking.model_fields}) == Picking().model_dump()
    assert SamplingParams().max_new_tokens == recipe.sample.max_new_tokens == recipe.evaluate.max_new_tokens == 512


def test_paper_mode_takes_the_defaults_that_a_dump_spells_out() -> None:
    recipe = load("grade: {mode: paper}\n")
    text = recipes.dump(recipe)
    assert "order: exact" in text and load(text, base="") == recipe


@pytest.mark.parametrize("written", ["1e-4", "1E-4", ".0001", "0.0001", "+1.0e-4", "!!float 1e-4"])
def test_numbers_are_numbers(written: str) -> None:
    assert load(f"train: {{learning_rate: {written}}}").train.learning_rate == 1e-4


def test_a_whole_number_is_a_number_and_large_exponents_too() -> None:
    assert load("train: {learning_rate: 1E5, num_epochs: 3}").train.model_dump()["num_epochs"] == 3.0


def test_anchors_and_merge_keys() -> None:
    recipe = load("train: &t {lora_r: 4, lora_alpha: 8}\nsft: {<<: *t, lora_r: 16}\nrft: {<<: [{lora_r: 1}, *t]}\n")
    assert recipe.sft == {"lora_r": 16, "lora_alpha": 8}
    assert recipe.rft == {"lora_r": 1, "lora_alpha": 8}


def test_pretrain_recipe() -> None:
    Path("p.yaml").write_text("name: tiny-base\nlearning_rate: 1e-3\nnum_tokens: 8000000\n")
    pretrain = recipes.load("p.yaml", ["hidden_size=64"], PretrainRecipe)
    assert (pretrain.hidden_size, pretrain.learning_rate) == (64, 1e-3)
    with pytest.raises(RecipeError, match=re.escape("--set: num_heads: found 3 with hidden_size 128")):
        recipes.load("p.yaml", ["num_heads=3"], PretrainRecipe)
    with pytest.raises(RecipeError, match="num_heads: found 4 with hidden_size 66"):
        recipes.load("p.yaml", ["hidden_size=66"], PretrainRecipe)


def test_json_schema_describes_every_key() -> None:
    schema = recipes.json_schema()
    json.dumps(schema)
    for rule in (schema, *(rule for rule in schema["$defs"].values())):
        assert rule["additionalProperties"] is False
        assert all(key["description"] for key in rule["properties"].values())


def test_byte_order_mark_and_windows_line_ends() -> None:
    assert load(b"\xef\xbb\xbf" + BASE.replace("\n", "\r\n").encode()).name == "tiny"


# ---------------------------------------------------------------------------------------------------------- round trip

POSITIVE = st.integers(1, 10**9)
TRAIN = {
    "quantization": st.sampled_from(["nf4", "none"]),
    "lora_r": POSITIVE,
    "lora_dropout": st.floats(0, 1, exclude_max=True),
    "target_modules": st.just("all-linear")
    | st.lists(st.sampled_from(["q_proj", "v_proj", "down_proj"]), min_size=1).map(tuple),
    "use_rslora": st.booleans(),
    "learning_rate": st.floats(0, exclude_min=True, allow_infinity=False),
    "num_epochs": st.floats(0, exclude_min=True, allow_infinity=False),
}


@settings(max_examples=100, deadline=None)
@given(
    train=st.fixed_dictionaries({}, optional=TRAIN),
    sft=st.fixed_dictionaries({}, optional=TRAIN),
    name=st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", fullmatch=True),
    model=st.text(),
    threads=st.none() | POSITIVE,
)
def test_dump_loads_back_equal(
    train: dict[str, Any], sft: dict[str, Any], name: str, model: str, threads: int | None
) -> None:
    problems = Problems(train=model, test="1e5")
    recipe = Recipe(name=name, base_model=model, problems=problems, train=Train(**train), sft=sft, num_threads=threads)
    Path("d.yaml").write_text(recipes.dump(recipe), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipes, "path_faults", lambda values: [])
        back = recipes.load("d.yaml")
    assert back == recipe
    assert back.train_config("sft") == recipe.train_config("sft")


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60) | st.text(alphabet="a:-[]{}&*!#'\"\\\n \t<1.e", max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    Path("any.yaml").write_bytes(data)
    with pytest.raises(RecipeError, match=r"^any\.yaml"):
        recipes.load("any.yaml")
