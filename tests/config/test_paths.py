"""Files that are no recipe, and files, folders and sets that a recipe names: what is said of each."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from helpers.recipes import BASE, fault, load

from qrft.config import load as recipes
from qrft.config.recipe import Recipe
from qrft.config.sections import Sample
from qrft.config.training import Train
from qrft.data.problems.registry import BY_NAME
from qrft.errors import RecipeError
from qrft.models.names import KNOWN

RECIPE_KEYS, SAMPLE_KEYS, TRAIN_KEYS = (", ".join(kind.model_fields) for kind in (Recipe, Sample, Train))
SETS = ", ".join(BY_NAME)


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


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
        (b"#" * 300_000, "r.yaml: is larger than 256 KiB, so it is not a recipe. Name the recipe's file"),
        (
            b"train: &t {sft: *t}\n",
            "r.yaml:1: an alias (*) names a section that contains it, which no recipe needs. Write the values out",
        ),
    ],
)
def test_files_that_are_no_recipe(data: bytes, expected: str) -> None:
    assert fault(data) == expected


def test_tabs_get_a_hint() -> None:
    assert fault(b"name: x\ntrain:\n\tlora_r: 1\n") == (
        "r.yaml:3: not YAML: while scanning for the next token, found character '\\t' that cannot start any token: "
        "'\\tlora_r: 1'. Indent with spaces, not tabs"
    )


def test_alias_bomb() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    assert fault("\n".join(lines).encode()) == (
        "r.yaml:1: over 10000 values, which no recipe needs. Write the values out"
    )


def test_missing_recipe_names_the_near_ones(in_folder: Path) -> None:
    nothing = f"tiny.yaml: no such recipe; looked at {in_folder}/tiny.yaml. There is no recipe (*.yaml) in that folder"
    with pytest.raises(RecipeError, match=f"^{re.escape(nothing)}$"):
        recipes.load("tiny.yaml")
    (in_folder / "recipes").mkdir()
    (in_folder / "recipes/tiny.yaml").write_text(BASE)
    for wrong in ("recipes/tinny.yaml", "tiny.yml"):
        text = f"{wrong}: no such recipe; looked at {in_folder}/{wrong}. "
        near = "Did you mean recipes/tiny.yaml? Recipes: recipes/tiny.yaml"
        with pytest.raises(RecipeError, match=f"^{re.escape(text + near)}$"):
            recipes.load(wrong)
    text = "recipes: is a folder; a recipe is a YAML file. Recipes: recipes/tiny.yaml"
    with pytest.raises(RecipeError, match=f"^{re.escape(text)}$"):
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
    allowed = f"Allowed: a file (JSONL, JSON, CSV, Parquet), or one of the sets {SETS}"
    for wrong, near in (("minne.jsonl", "mine.jsonl"), ("tiny-math/trian", "tiny-math/train")):
        assert fault("", f"problems.train={wrong}") == (
            f"--set: problems.train: found the text '{wrong}': no such file; looked at {in_folder}/{wrong}. "
            f"Did you mean {near}? {allowed}"
        )
    assert fault("", "problems.test=.") == f"--set: problems.test: {in_folder} is a folder. {allowed}"


def test_home_is_expanded(in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(in_folder))
    assert load("", "base_model=~/").base_model == "~/"
    assert fault("", "base_model=~/m").startswith(
        f"--set: base_model: found the text '~/m': no such folder; looked at {in_folder}/m. Allowed: a model folder, "
    )


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
    assert fault("", "base_model=r.yaml") == (
        f"--set: base_model: {os.getcwd()}/r.yaml is a file. "
        f"Allowed: a model folder, a GGUF file, a hub name org/model, or one of {', '.join(KNOWN)}"
    )
