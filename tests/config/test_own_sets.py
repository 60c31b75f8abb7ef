"""Problems by a section of the recipe: a file or a data set on the hub, with the names of its columns."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from helpers.commands import run_qrft

from qrft.config.load import dump, load
from qrft.config.paths import without_folders
from qrft.data.problems.own_set import OwnSet
from qrft.data.problems.registry import rules_for
from qrft.errors import DataError, RecipeError
from qrft.grading.rules import Rules
from qrft.models.find import BUILTIN
from qrft.pipeline.flow import plan
from qrft.pipeline.problem_sets import located, set_name

OWN = {"path": "t.csv", "question": "Q", "answer": "A", "solution": "S"}
KEYS = "path, hub, file, revision, question, answer, solution, id, format"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text('Q,A,S\n"3 and 4?",7,"3+4=<<3+4=7>>7"\n')
    (tmp_path / "t.jsonl").write_text('{"question": "3 and 4?", "answer": "3+4=<<3+4=7>>7\\n#### 7"}\n')
    return tmp_path


def recipe(train: object = OWN, test: object = "t.jsonl", **keys: object) -> str:
    Path("r.yaml").write_text(
        yaml.safe_dump({"name": "mine", "base_model": "tiny-base", "problems": {"train": train, "test": test}, **keys})
    )
    return "r.yaml"


def test_a_section_stands_for_problems() -> None:
    found = load(recipe(test={**OWN, "format": "boxed"}, evaluate={"problems": [OWN, "t.jsonl"]}))
    assert found.problems.train == OwnSet(**OWN) and set_name(found.problems.train) == "t.csv"
    Path("again.yaml").write_text(dump(found))
    assert load("again.yaml") == found
    assert rules_for(found.problems.test, Rules()).answer_format == "boxed"
    assert rules_for(found.problems.train, Rules()).answer_format == "gsm8k"
    assert rules_for(found.problems.test, Rules(answer_format="auto")).answer_format == "auto"
    steps = {step.path: step for step in plan(found, BUILTIN["tiny-base"])}
    assert steps["problems/train"].identity["columns"] == {"question": "Q", "answer": "A", "solution": "S"}
    assert {"problems/t.csv", "problems/t"} <= steps.keys()
    assert "sft/train" in steps, "the column of solutions is read"


def test_a_file_with_the_usual_columns_is_the_step_that_it_was() -> None:
    found = {step.path: step for step in plan(load(recipe("t.jsonl")), BUILTIN["tiny-base"])}
    own = {step.path: step for step in plan(load(recipe({"path": "t.jsonl"})), BUILTIN["tiny-base"])}
    assert found["problems/train"].digest == own["problems/train"].digest
    assert "columns" not in found["problems/train"].identity


def test_paths_in_sections_are_not_passed_on(folder: Path) -> None:
    own = {**OWN, "path": str(folder / "t.csv")}
    found = load(recipe(own, evaluate={"problems": [own, str(folder / "t.jsonl")]}))
    shown = without_folders(found.model_dump(mode="json"))
    assert shown["problems"]["train"]["path"] == "t.csv"
    assert [item if isinstance(item, str) else item["path"] for item in shown["evaluate"]["problems"]] == [
        "t.csv",
        "t.jsonl",
    ]
    assert str(folder) not in str(shown)


def test_keys_on_the_command_line() -> None:
    keys = [word for key in ("path=t.csv", "answer=A", "question=Q") for word in ("--set", f"problems.train.{key}")]
    shown = run_qrft("plan", recipe("t.jsonl"), *keys)
    assert "There is no SFT" in shown.output  # no column of solutions is named


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({**OWN, "anwser": "B"}, f"problems.train.anwser: unknown key. Did you mean answer? Allowed: {KEYS}"),
        (
            {**OWN, "answer": 5},
            "problems.train.answer: found 5. Allowed: text, not empty, or null",
        ),
        (
            {**OWN, "format": "box"},
            "problems.train.format: found the text 'box'. Allowed: gsm8k, boxed, ",
        ),
        ({"question": "Q"}, "problems.train.path: missing. Allowed: a file, or hub with file instead"),
        (
            {"path": "t.csv", "hub": "a/b"},
            "problems.train.hub: found 'a/b' together with path. Allowed: one of the two",
        ),
        ({"hub": "a/b"}, "problems.train.file: missing with hub. Allowed: the path of a file in that data set"),
        ({"path": "t.csv", "file": "x"}, "problems.train.file: found 'x' without hub. Allowed: leave it out"),
        ({"path": "t.cvs"}, "problems.train.path: found the text 't.cvs': no such file; looked at "),
        ({"path": "."}, "problems.train.path: is a folder. Allowed: a file (JSONL, JSON, CSV, Parquet)"),
        (["a"], f"problems.train: found ['a']. Allowed: text, or a section with the keys {KEYS}"),
    ],
)
def test_what_is_wrong_with_a_section(train: object, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load(recipe(train))
    [fault] = [fault for fault in str(caught.value).splitlines() if message[:24] in fault]
    assert fault.partition(": ")[2].startswith(message)


def test_a_fault_in_a_list_has_its_line() -> None:
    Path("r.yaml").write_text(
        "name: mine\nbase_model: tiny-base\nproblems: {train: t.jsonl, test: t.jsonl}\nevaluate:\n  problems:\n"
        "  - t.jsonl\n  - path: t.csv\n    colour: red\n"
    )
    with pytest.raises(RecipeError, match=rf"^r.yaml:8: evaluate.problems.1.colour: unknown key. Allowed: {KEYS}$"):
        load("r.yaml")


def test_a_data_set_that_can_not_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # read from the environment at the import
    with pytest.raises(DataError) as caught:
        located(OwnSet(hub="org/name", file="data/train.parquet", revision="0" * 40))
    assert str(caught.value).startswith(
        "org/name/data/train.parquet: not on this machine, and data/train.parquet of org/name could not be downloaded "
    )
    assert str(caught.value).endswith("Give a file on this machine instead: path.")
