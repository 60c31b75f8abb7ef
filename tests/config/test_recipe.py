"""The recipe: what is accepted, what every kind of fault says and where, and that it survives its own YAML."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qrft import grading
from qrft.config import load as recipes
from qrft.config.pretrain import PretrainRecipe
from qrft.config.recipe import Recipe
from qrft.config.sections import Problems, Sample
from qrft.config.training import Train
from qrft.data.problems.registry import BY_NAME
from qrft.errors import RecipeError
from qrft.models.find import BUILTIN
from qrft.sampling.api import Picking, SamplingParams
from qrft.sampling.budget import Until

BASE = """\
name: tiny
base_model: tiny-base
problems:
  train: tiny-math/train
  test: tiny-math/test
  num_train: 3
  num_test: 2
"""

RECIPE_KEYS, SAMPLE_KEYS, TRAIN_KEYS = (", ".join(kind.model_fields) for kind in (Recipe, Sample, Train))
SETS = ", ".join(BY_NAME)


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(text: str | bytes, *overrides: str, base: str = BASE) -> Recipe:
    data = text if isinstance(text, bytes) else (base + text).encode()
    Path("r.yaml").write_bytes(data)
    return recipes.load("r.yaml", overrides)


def faults(text: str | bytes, *overrides: str, base: str = BASE) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load(text, *overrides, base=base)
    assert caught.value.exit_code == 2
    return str(caught.value).splitlines()


def fault(text: str | bytes, *overrides: str, base: str = BASE) -> str:
    lines = faults(text, *overrides, base=base)
    assert len(lines) == 1, lines
    return lines[0]


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
    assert fault(text, "rft.lora_init=loftq").startswith(
        "--set: rft.lora_init: found loftq with train.quantization none"
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


# ---------------------------------------------------------------------------------------------------- faults of a key


def test_every_fault_at_once_in_the_order_of_the_file() -> None:
    lines = faults(
        "promt: plain\nsample:\n  top_p: 0\n  num_sample: 3\nnum_threads: 0\n",
        "evaluate.x=1",
        "foo",
        base=BASE.replace("  test: tiny-math/test\n", ""),
    )
    assert [line.split(": ")[:2] for line in lines] == [
        ["r.yaml:3", "problems.test"],
        ["r.yaml:7", "promt"],
        ["r.yaml:9", "sample.top_p"],
        ["r.yaml:10", "sample.num_sample"],
        ["r.yaml:11", "num_threads"],
        ["--set", "found 'foo'. Allowed"],
        ["--set", "evaluate.x"],
    ]


def test_unknown_key() -> None:
    text = fault("sample:\n  num_sample: 10\n")
    assert text == (
        "r.yaml:9: sample.num_sample: unknown key. Did you mean num_samples? Allowed: temperature, top_p, top_k, "
        "min_p, max_new_tokens, stop, sampler, num_sequences, server, server_model, chat, api_key_env, max_in_flight, "
        "requests_per_minute, num_samples, until"
    )


def test_unknown_key_that_belongs_elsewhere() -> None:
    assert "learning_rate: unknown key. Did you mean train.learning_rate? Allowed: name, " in fault(
        "learning_rate: 1\n"
    )


def test_unknown_value_of_an_enumeration() -> None:
    text = fault("train:\n  lr_scheduler: cosin\n")
    assert text == (
        "r.yaml:9: train.lr_scheduler: found the text 'cosin'. Did you mean cosine? Allowed: cosine, linear, "
        "constant, polynomial, inverse_sqrt"
    )


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("seed: '3'", "seed: found the text '3'. Allowed: a whole number >= 0 and <= 4294967295"),
        ("seed: 3.0", "seed: found 3.0. Allowed: a whole number >= 0 and <= 4294967295. Write 3"),
        ("seed: true", "seed: found true. Allowed: a whole number >= 0 and <= 4294967295"),
        ("seed: 1_000", "seed: found the text '1_000'. Allowed: a whole number >= 0 and <= 4294967295"),
        ("seed: -1", "seed: found -1. Allowed: a whole number >= 0 and <= 4294967295"),
        ("num_threads: 0", "num_threads: found 0. Allowed: a whole number >= 1, or null"),
        ("prompt: ", "prompt: found null. Allowed: plain, alpaca, chat"),
        ("prompt: off", "prompt: found the text 'off'. Allowed: plain, alpaca, chat"),
        ("train: 3", f"train: found 3. Allowed: a section with the keys {TRAIN_KEYS}"),
        ("train: [1]", f"train: found [1]. Allowed: a section with the keys {TRAIN_KEYS}"),
        ("train: {use_rslora: yes}", "train.use_rslora: found the text 'yes'. Allowed: true or false"),
        ("train: {use_rslora: 1}", "train.use_rslora: found 1. Allowed: true or false"),
        ("train: {learning_rate: '1e-4'}", "train.learning_rate: found the text '1e-4'. Allowed: a number > 0"),
        ("train: {learning_rate: .inf}", "train.learning_rate: found inf. Allowed: a number > 0, and finite"),
        ("train: {learning_rate: 1e999}", "train.learning_rate: found inf. Allowed: a number > 0, and finite"),
        ("train: {weight_decay: .nan}", "train.weight_decay: found nan. Allowed: a number >= 0, and finite"),
        ("train: {lora_dropout: 1}", "train.lora_dropout: found 1. Allowed: a number >= 0 and < 1"),
        ("train: {micro_batch_size: 0}", "train.micro_batch_size: found 0. Allowed: a whole number >= 1"),
        (
            "train: {target_modules: []}",
            "train.target_modules: found []. Allowed: all-linear, or a list of q_proj, k_proj, v_proj, o_proj, "
            "gate_proj, up_proj, down_proj, at least one",
        ),
        (
            "train: {target_modules: [q, 1]}",
            "train.target_modules: found ['q', 1]. Allowed: all-linear, or a list of q_proj, k_proj, v_proj, "
            "o_proj, gate_proj, up_proj, down_proj, at least one",
        ),
        (
            "train: {target_modules: [embed_tokens]}",
            "train.target_modules: found ['embed_tokens']. Allowed: all-linear, or a list of q_proj, k_proj, "
            "v_proj, o_proj, gate_proj, up_proj, down_proj, at least one",
        ),
        ("train: {max_length: 9}", f"train.max_length: unknown key. Allowed: {TRAIN_KEYS}"),
        ("train: {vram: 9}", "train.vram: found 9. Allowed: auto, 8, 12, 16, 24, or null"),
        (
            "train: {report_to: [wand]}",
            "train.report_to: found ['wand']. Allowed: a list of tensorboard, trackio, wandb",
        ),
        (
            "train: {adapter: none}",
            "train.adapter: found none with train.quantization nf4, whose weights can't be trained. Allowed: "
            "lora, or train.quantization none",
        ),
        (
            "train: {adapter: none, quantization: none, use_rslora: true}",
            "train.use_rslora: found true with train.adapter none, which trains no LoRA. Leave the key out",
        ),
        (
            "train: {lora_init: loftq, quantization: none}",
            "train.lora_init: found loftq with train.quantization none, which leaves no quantisation error to "
            "start from. Allowed: default, pissa, or train.quantization nf4",
        ),
        (
            "sft: {adapter: none}",
            "sft.adapter: found none with train.quantization nf4, whose weights can't be trained. Allowed: lora, "
            "or train.quantization none",
        ),
        ("sft: {num_epoch: 1}", f"sft.num_epoch: unknown key. Did you mean num_epochs? Allowed: {TRAIN_KEYS}"),
        ("rft: {num_epochs: 0}", "rft.num_epochs: found 0. Allowed: a number > 0"),
        ("sample: {top_p: 0}", "sample.top_p: found 0. Allowed: a number > 0 and <= 1"),
        ("sample: {top_p: 1.1}", "sample.top_p: found 1.1. Allowed: a number > 0 and <= 1"),
        ("sample: {num_samples: 1e3}", "sample.num_samples: found 1000.0. Allowed: a whole number >= 1. Write 1000"),
        (
            "sample: {temperature: 0}",
            "sample.temperature: found 0 with sample.num_samples 30: all samples of a problem would be equal. "
            "Allowed: a temperature > 0, or num_samples 1",
        ),
        ("sample: {min_p: 1.5}", "sample.min_p: found 1.5. Allowed: a number >= 0 and <= 1"),
        ("sample: {stop: x}", "sample.stop: found the text 'x'. Allowed: a list of texts that are not empty"),
        (
            "sample: {until: {correct: 3, distinct: 2}}",
            "sample.until.distinct: found 2 beside until.correct. Allowed: one of the two",
        ),
        (
            "sample: {until: {max_samples: 9}}",
            "sample.until.max_samples: found 9 without a goal. Allowed: with until.correct or until.distinct",
        ),
        (
            "sample: {until: {distinct: 9, max_samples: 8}}",
            "sample.until.max_samples: found 8, which can't hold 9 paths. Allowed: a whole number >= 9",
        ),
        (
            "sample: {until: {correct: 31}}",
            "sample.until: found 31 paths with sample.num_samples 30. Allowed: fewer, or with until.max_samples",
        ),
        ("sample: {until: {correct: 0}}", "sample.until.correct: found 0. Allowed: a whole number >= 1, or null"),
        ("gguf: {quant: f61}", "gguf.quant: found the text 'f61'. Did you mean f16? Allowed: f32, f16, q8_0, q4_k_m"),
        ("gguf: {quant: 16}", "gguf.quant: found 16. Allowed: f32, f16, q8_0, q4_k_m"),
        ("gguf: {type: f16}", "gguf.type: unknown key. Allowed: quant, file, merge"),
        (
            "gguf: {file: r.yaml, merge: true}",
            "gguf.merge: found true with gguf.file, into which nothing can be merged. Allowed: false, or no file",
        ),
        (
            "gguf: {file: r.yamm}",
            "gguf.file: found the text 'r.yamm': no such file; looked at {here}/r.yamm. Did you mean r.yaml? "
            "Allowed: a GGUF file, or null",
        ),
        ("grade: {mode: papre}", "grade.mode: found the text 'papre'. Did you mean paper? Allowed: default, paper"),
        ("grade: {marker: ''}", "grade.marker: found the text ''. Allowed: text, not empty, or null"),
        (
            "grade: {format: boxed}",
            "grade.format: unknown key. Did you mean answer_format? Allowed: mode, answer_format, marker, "
            "equations, order",
        ),
        (
            "grade: {order: commutative, mode: paper}",
            "grade.order: found 'commutative' with mode paper, which decides everything as the paper does. "
            "Allowed: exact, or leave it out",
        ),
        (
            "grade: {mode: paper, marker: 'answer:'}",
            "grade.marker: found 'answer:' with mode paper, which decides everything as the paper does. Leave it out",
        ),
        (
            "curate: {keep: nearest}",
            "curate.keep: found the text 'nearest'. Did you mean farthest? Allowed: farthest, first, random, "
            "shortest, longest",
        ),
        ("curate: {max_per_problem: 0}", "curate.max_per_problem: found 0. Allowed: a whole number >= 1, or null"),
        ("curate: {dedup: no}", "curate.dedup: found the text 'no'. Allowed: true or false"),
        ("? [a]\n: 1", f"?: unknown key. Allowed: {RECIPE_KEYS}"),
        (
            "seed: !!python/name:os.system x",
            "seed: found the tag !!python/name:os.system. Allowed: plain values without a tag",
        ),
        ("seed: !!int x", "seed: found 'x', which can't be read as int"),
        (
            "seed: " + "9" * 5000,
            "seed: found '9999999999999999999999999999999999999999999999999999999999999999999999999999..., which "
            "can't be read as int",
        ),
    ],
)
def test_values_that_are_not_allowed(written: str, expected: str) -> None:
    assert fault(written) == f"r.yaml:8: {expected.replace('{here}', os.getcwd())}"


def test_temperature_zero_is_right_for_one_sample() -> None:
    assert load("sample: {temperature: 0, num_samples: 1}").sample.temperature == 0


def test_a_built_in_set_needs_a_number_of_problems() -> None:
    text = "problems.num_test: found null with tiny-math/test, which has no end. Allowed: how many problems to draw"
    assert fault("", base=BASE.replace("  num_test: 2\n", "")) == f"r.yaml:3: {text}"
    assert fault("", base=BASE.replace("num_test: 2", "num_test: null")) == f"r.yaml:7: {text}"
    assert fault("", "problems.num_test=null") == f"--set: {text}"


def test_a_file_of_problems_ends_by_itself(in_folder: Path) -> None:
    (in_folder / "mine.jsonl").touch()
    problems = load("", "problems.train=mine.jsonl", "problems.num_train=null").problems
    assert (problems.num_train, problems.num_test) == (None, 2)


def test_the_built_in_models_are_those_that_are_found() -> None:
    for name in BUILTIN:
        assert load("", f"base_model={name}").base_model == name
    assert fault("", "base_model=tiny-bse").endswith(f"or a built-in model: {', '.join(BUILTIN)}")


@pytest.mark.parametrize("name", ["..", ".", "a/b", "a b", "''", "-x", "2024", "true", "'a\n\n'", "x" * 101])
def test_names_are_folder_names(name: str) -> None:
    text = fault("", base=BASE.replace("name: tiny", f"name: {name}"))
    assert text.startswith("r.yaml:1: name: found ") and "Allowed: text of the form" in text
    assert text.endswith("Put it in quotes") == (name in ("2024", "true"))


def test_missing_keys() -> None:
    assert faults("", base="seed: 1\n") == [
        "r.yaml:1: name: missing. Allowed: text of the form ^[A-Za-z0-9_][A-Za-z0-9._-]*$, at most 100 characters",
        "r.yaml:1: base_model: missing. Allowed: text, or the section models instead",
        "r.yaml:1: problems: missing. Allowed: a section with the keys train, test, num_train, num_test, seed, "
        "train_fraction",
    ]


def test_duplicate_keys_name_both_lines() -> None:
    text = fault("train:\n  lora_r: 1\n  lora_alpha: 2\n  lora_r: 3\n")
    assert text == "r.yaml:11: train.lora_r: duplicate key, first on line 9. Keep one of them"
    assert "r.yaml:8: name: duplicate key, first on line 1" in fault("name: x\n")


# --------------------------------------------------------------------------------------------------------------- --set


def test_set_overrides_by_path() -> None:
    recipe = load(
        "sample: {num_samples: 5}\n", "sample.num_samples=10", "sft.num_epochs=1e0", "num_threads=2", "num_threads=null"
    )
    assert (recipe.sample.num_samples, recipe.sft, recipe.num_threads) == (10, {"num_epochs": 1.0}, None)
    assert load("", "train.target_modules=[q_proj, v_proj]", "sft={lora_r: 2}").sft == {"lora_r": 2}


def test_set_mends_a_value_of_the_file() -> None:
    assert load("seed: x\n", "seed=1").seed == 1


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (
            "sample.num_sample=1",
            f"--set: sample.num_sample: unknown key. Did you mean num_samples? Allowed: {SAMPLE_KEYS}",
        ),
        ("sampel.num_samples=1", f"--set: sampel: unknown key. Did you mean sample? Allowed: {RECIPE_KEYS}"),
        ("seed.x=1", "--set: seed: found a section. Allowed: a whole number >= 0 and <= 4294967295"),
        ("sample.top_p=2", "--set: sample.top_p: found 2. Allowed: a number > 0 and <= 1"),
        ("sample.top_p=", "--set: sample.top_p: found null. Allowed: a number > 0 and <= 1"),
        ("sample.top_p", "--set: found 'sample.top_p'. Allowed: key=value, such as seed=1"),
        ("=3", f"--set: : unknown key. Allowed: {RECIPE_KEYS}"),
        (
            "prompt=[",
            "--set: prompt: not YAML: while parsing a flow node, expected the node content, but found '<stream "
            "end>': '['",
        ),
        ("prompt=\udcff", "--set: prompt: character 0xdcff is not allowed in YAML. Remove it"),
        ("seed=!foo 1", "--set: seed: found the tag !foo. Allowed: plain values without a tag"),
        (
            "problems.train=no.jsonl",
            "--set: problems.train: found the text 'no.jsonl': no such file; looked at {here}/no.jsonl. Allowed: "
            f"a JSONL or Parquet file, or one of the sets {SETS}",
        ),
    ],
)
def test_set_faults(override: str, expected: str) -> None:
    assert fault("", override) == expected.replace("{here}", os.getcwd())


# --------------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "r.yaml: the file is empty. A recipe needs at least the keys name, base_model, problems"),
        (b"# nothing\n", "r.yaml: the file is empty. A recipe needs at least the keys name, base_model, problems"),
        (
            b"- a\n",
            "r.yaml:1: found a list. A recipe consists of `key: value` lines, at least name, base_model, problems",
        ),
        (
            b"\nhello\n",
            "r.yaml:2: found a single value. A recipe consists of `key: value` lines, at least name, base_model, "
            "problems",
        ),
        (
            b"name: x\ntrain:\n\tlora_r: 1\n",
            "r.yaml:3: not YAML: while scanning for the next token, found character '\\t' that cannot start any "
            "token: '\\tlora_r: 1'. Indent with spaces, not tabs",
        ),
        (
            b"name: x\nseed: [1\n",
            "r.yaml:3: not YAML: while parsing a flow sequence, expected ',' or ']', but got '<stream end>': "
            "'seed: [1'",
        ),
        (b"name: x\n  seed: 1\n", "r.yaml:2: not YAML: mapping values are not allowed here: '  seed: 1'"),
        (
            b"name: x\n---\nname: y\n",
            "r.yaml:2: not YAML: expected a single document in the stream, but found another document: '---'",
        ),
        (b"name: *x\n", "r.yaml:1: not YAML: found undefined alias 'x': 'name: *x'"),
        (b"name: x\nseed: \xff\n", "r.yaml:2: byte 0xff is not UTF-8 text. Save the file as UTF-8"),
        ("name: x".encode("utf-16"), "r.yaml:1: byte 0xff is not UTF-8 text. Save the file as UTF-8"),
        (b"name: x\nseed: \x00\n", "r.yaml:2: character 0x0 is not allowed in YAML. Remove it"),
        (b"a: " + b"[" * 5000, "r.yaml:1: not readable as YAML: nested too deeply"),
        (b'a: "\\UFFFFFFFF"', "r.yaml:1: not readable as YAML: Python int too large to convert to C int"),
        (b"#" * 300_000, "r.yaml: larger than 256 KiB, which no recipe is. Name the recipe's file"),
        (
            b"train: &t {sft: *t}\n",
            "r.yaml:1: an alias (*) names a section that it is a part of, which no recipe needs. Write the values out",
        ),
    ],
)
def test_files_that_are_no_recipe(data: bytes, expected: str) -> None:
    assert fault(data) == expected


def test_tabs_get_a_hint() -> None:
    assert fault(b"name: x\ntrain:\n\tlora_r: 1\n").endswith("Indent with spaces, not tabs")


def test_alias_bomb() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    assert "over 10000 values, which no recipe needs" in fault("\n".join(lines).encode())


def test_missing_recipe_names_the_near_ones(in_folder: Path) -> None:
    with pytest.raises(
        RecipeError, match=re.escape(f"tiny.yaml: no such recipe; looked at {in_folder}/tiny.yaml. No r")
    ):
        recipes.load("tiny.yaml")
    (in_folder / "recipes").mkdir()
    (in_folder / "recipes/tiny.yaml").write_text(BASE)
    for wrong in ("recipes/tinny.yaml", "tiny.yml"):
        with pytest.raises(RecipeError, match=r"Did you mean recipes/tiny\.yaml\? Recipes: recipes/tiny\.yaml"):
            recipes.load(wrong)
    with pytest.raises(
        RecipeError, match=r"recipes: is a folder; a recipe is a YAML file\. Recipes: recipes/tiny\.yaml"
    ):
        recipes.load("recipes")


@pytest.mark.parametrize("path", ["r.yaml/x", "x" * 300, "a\0b"])
def test_paths_that_cannot_be_opened(path: str) -> None:
    Path("r.yaml").write_text(BASE)
    with pytest.raises(RecipeError, match="can't be read at"):
        recipes.load(path)


# --------------------------------------------------------------------------------------------------- paths in a recipe


def test_problem_files(in_folder: Path) -> None:
    (in_folder / "mine.jsonl").write_text("")
    assert load("", "problems.train=mine.jsonl").problems.train == "mine.jsonl"
    text = fault("", "problems.train=minne.jsonl")
    assert f"no such file; looked at {in_folder}/minne.jsonl. Did you mean mine.jsonl? Allowed: a JSONL" in text
    assert "Did you mean tiny-math/train? " in fault("", "problems.train=tiny-math/trian")
    sets = "tiny-math/train, tiny-math/test, gsm8k/train, gsm8k/test, math-500/test, svamp/test, asdiv/test"
    allowed = f"is a folder. Allowed: a JSONL or Parquet file, or one of the sets {sets}"
    assert allowed in fault("", "problems.test=.")


def test_home_is_expanded(in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(in_folder))
    assert load("", "base_model=~/").base_model == "~/"
    assert f"looked at {in_folder}/m" in fault("", "base_model=~/m")


@pytest.mark.parametrize("name", ["tiny-base", "meta-llama/Llama-2-7b", "models", "./models", "EleutherAI/pythia_1.4b"])
def test_models_that_may_be(in_folder: Path, name: str) -> None:
    (in_folder / "models").mkdir()
    assert load("", f"base_model={name}").base_model == name


@pytest.mark.parametrize(
    "name", ["./m", "/m", "~/m", "a/b/c", "../m/n", "tiny-bas", "''", "org/na me", '"a\\0"', "~no/x"]
)
def test_models_that_are_not_there(name: str) -> None:
    assert re.match(
        r"--set: base_model: found the text .*: no such folder; looked at /", fault("", f"base_model={name}")
    )


def test_a_model_that_is_a_file() -> None:
    assert "r.yaml is a file. Allowed: a model folder, a hub name" in fault("", "base_model=r.yaml")


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
