"""Every kind of fault of a recipe: what is said of it, where, and what is allowed instead."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers.recipes import BASE, fault, faults, load

from qrft.config.recipe import Recipe
from qrft.config.sections import Sample
from qrft.config.training import Train
from qrft.data.problems.registry import BY_NAME
from qrft.models.names import KNOWN

RECIPE_KEYS, SAMPLE_KEYS, TRAIN_KEYS = (", ".join(kind.model_fields) for kind in (Recipe, Sample, Train))
SETS = ", ".join(BY_NAME)


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


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
    assert text == f"r.yaml:9: sample.num_sample: unknown key. Did you mean num_samples? Allowed: {SAMPLE_KEYS}"


def test_unknown_key_that_belongs_elsewhere() -> None:
    text = "r.yaml:8: learning_rate: unknown key. Did you mean train.learning_rate?"
    assert fault("learning_rate: 1\n") == f"{text} Allowed: {RECIPE_KEYS}"


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
        (
            "system: Be kind.",
            "system: found a text with prompt plain, which has neither turns nor a template. Allowed: leave it out, or "
            "choose prompt chat",
        ),
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
            "gate_proj, up_proj, down_proj, qkv_proj, gate_up_proj, at least one",
        ),
        (
            "train: {target_modules: [q, 1]}",
            "train.target_modules: found ['q', 1]. Allowed: all-linear, or a list of q_proj, k_proj, v_proj, "
            "o_proj, gate_proj, up_proj, down_proj, qkv_proj, gate_up_proj, at least one",
        ),
        (
            "train: {target_modules: [embed_tokens]}",
            "train.target_modules: found ['embed_tokens']. Allowed: all-linear, or a list of q_proj, k_proj, "
            "v_proj, o_proj, gate_proj, up_proj, down_proj, qkv_proj, gate_up_proj, at least one",
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
            "sample.until.distinct: found 2 together with until.correct. Allowed: one of the two",
        ),
        (
            "sample: {until: {max_samples: 9}}",
            "sample.until.max_samples: found 9 without a goal. Allowed: null, or set until.correct or until.distinct",
        ),
        (
            "sample: {until: {distinct: 9, max_samples: 8}}",
            "sample.until.max_samples: found 8, which is less than the goal of 9 paths. Allowed: a whole number >= 9",
        ),
        (
            "sample: {until: {correct: 31}}",
            "sample.until: found 31 paths with sample.num_samples 30. Allowed: at most that, or set until.max_samples",
        ),
        ("sample: {until: {correct: 0}}", "sample.until.correct: found 0. Allowed: a whole number >= 1, or null"),
        (
            "gguf: {quant: f61}",
            "gguf.quant: found the text 'f61'. Did you mean f16? Allowed: f32, f16, bf16, q8_0, q4_k_m",
        ),
        ("gguf: {quant: 16}", "gguf.quant: found 16. Allowed: f32, f16, bf16, q8_0, q4_k_m"),
        ("gguf: {type: f16}", "gguf.type: unknown key. Allowed: quant, file, merge, parity"),
        (
            "gguf: {file: r.yaml, merge: true}",
            "gguf.merge: found true with gguf.file, which nothing can be merged into. Allowed: false, or file null",
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
            "equations, order, "
            "trace_tags, trace_is_open, trace_equations",
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


def test_mode_paper_judges_no_path() -> None:
    assert fault("grade: {mode: paper}\ncurate: {sound: flag}") == (
        "r.yaml:9: curate.sound: found flag with grade.mode paper, which judges no path. Allowed: off, or mode default"
    )


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (
            "prompt: alpaca\nchat_template_args: {enable_thinking: false}",
            "chat_template_args: found a section with prompt alpaca, which has neither turns nor a template. Allowed: "
            "leave it out, or choose prompt chat",
        ),
        (
            "prompt: chat\nchat_template_args: {messages: []}",
            "chat_template_args.messages: found a key that qrft itself gives the template. Leave it out",
        ),
        ("prompt: chat\nsystem: ''", "system: found the text ''. Allowed: text, not empty, or null"),
        (
            "prompt: chat\nsample: {sampler: openai, server: http://x, chat: true}",
            "sample.chat: found true with prompt chat, whose text has the template already. Allowed: false",
        ),
    ],
)
def test_what_belongs_to_a_chat_prompt(written: str, expected: str) -> None:
    assert fault(written) == f"r.yaml:9: {expected}"


def test_temperature_zero_is_right_for_one_sample() -> None:
    assert load("sample: {temperature: 0, num_samples: 1}").sample.temperature == 0


def test_a_built_in_set_needs_a_number_of_problems() -> None:
    text = "problems.num_test: found null with tiny-math/test, which has no end. Allowed: a number of problems to draw"
    assert fault("", base=BASE.replace("  num_test: 2\n", "")) == f"r.yaml:3: {text}"
    assert fault("", base=BASE.replace("num_test: 2", "num_test: null")) == f"r.yaml:7: {text}"
    assert fault("", "problems.num_test=null") == f"--set: {text}"


def test_a_file_of_problems_ends_by_itself(in_folder: Path) -> None:
    (in_folder / "mine.jsonl").touch()
    problems = load("", "problems.train=mine.jsonl", "problems.num_train=null").problems
    assert (problems.num_train, problems.num_test) == (None, 2)


def test_the_built_in_models_are_those_that_are_found() -> None:
    for name in KNOWN:
        assert load("", f"base_model={name}").base_model == name
    assert fault("", "base_model=tiny-bse") == (
        f"--set: base_model: found the text 'tiny-bse': no such folder; looked at {os.getcwd()}/tiny-bse. "
        "Did you mean tiny-base? "
        f"Allowed: a model folder, a GGUF file, a hub name org/model, or one of {', '.join(KNOWN)}"
    )


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        *((name, f"the text {name!r}") for name in ("..", ".", "a/b", "a b", "-x")),
        ("''", "the text ''"),
        ("2024", "2024"),
        ("true", "true"),
        ("'a\n\n'", "the text 'a\\n'"),
        ("x" * 101, f"the text '{'x' * 76}..."),
    ],
)
def test_names_are_folder_names(name: str, shown: str) -> None:
    hint = ". Put it in quotes" if name == shown else ""
    assert fault("", base=BASE.replace("name: tiny", f"name: {name}")) == (
        f"r.yaml:1: name: found {shown}. "
        f"Allowed: text of the form ^[A-Za-z0-9_][A-Za-z0-9._-]*$, at most 100 characters{hint}"
    )


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
    assert fault("name: x\n") == "r.yaml:8: name: duplicate key, first on line 1. Keep one of them"


# --------------------------------------------------------------------------------------------------------------- --set


def test_set_overrides_by_path() -> None:
    recipe = load(
        "sample: {num_samples: 5}\n", "sample.num_samples=10", "sft.num_epochs=1e0", "num_threads=2", "num_threads=null"
    )
    assert (recipe.sample.num_samples, recipe.sft, recipe.num_threads) == (10, {"num_epochs": 1.0}, None)
    assert load("", "train.target_modules=[q_proj, v_proj]", "sft={lora_r: 2}").sft == {"lora_r": 2}


def test_set_replaces_a_wrong_value_of_the_file() -> None:
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
            f"a file (JSONL, JSON, CSV, Parquet), or one of the sets {SETS}",
        ),
    ],
)
def test_set_faults(override: str, expected: str) -> None:
    assert fault("", override) == expected.replace("{here}", os.getcwd())
