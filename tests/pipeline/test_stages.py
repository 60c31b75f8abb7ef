"""The stages that grade and curate, by the recipe's rules, on small tables; and what of a plan the rules change."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.paths import TINY

from qrft import grading
from qrft.config.load import load
from qrft.data import schema
from qrft.errors import DataError
from qrft.grading import latex
from qrft.models.find import BUILTIN
from qrft.pipeline.flow import plan
from qrft.pipeline.graph import Step
from qrft.pipeline.stages import Job, curate, grade

needs_math_verify = pytest.mark.skipif(not latex.is_available(), reason="pip install 'qrft[latex]'")
GOLD = "6*7=<<6*7=42>>42\n#### 42"
# Of the path 6+36 the second wording is the one farther from the other path's only text.
COMPLETIONS = [
    "6+36=<<6+36=42>>42\n#### 42",
    "6*7=<<6*7=42>>42 again\n#### 42",
    "so, at last and after all, it is 6+36=<<6+36=42>>42\n#### 42",
    "<<6*7=41>>\n#### 42",
    "<<36+6=42>>\n#### 42",
    "12 + 30 = 42\n#### 42",
    "#### 41",
]


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    """A problem and its samples, as artifacts."""
    count = len(COMPLETIONS)
    samples = [["0"] * count, ["sft"] * count, range(count), COMPLETIONS, ["stop"] * count, [9] * count, [-1.0] * count]
    tables = {
        "problems": pa.table([["0"], ["Six times seven?"], [GOLD], ["42"]], schema=schema.PROBLEMS),
        "samples": pa.table([list(column) for column in samples], schema=schema.SAMPLES),
    }
    for name, table in tables.items():
        (tmp_path / name).mkdir()
        pq.write_table(table, tmp_path / name / f"{name}.parquet")
    return {name: tmp_path / name for name in tables}


JOB = Job(num_threads=1)


def settings(*overrides: str) -> dict[str, Any]:
    """The settings of the steps of a recipe, as their stages get them."""
    return {step.path: step.settings for step in plan(load(TINY, overrides), BUILTIN["tiny-base"])}


def run(inputs: dict[str, Path], *overrides: str) -> tuple[list[int], list[str]]:
    """The kept samples in the order of the training table, and every sample's verdict."""
    chosen = settings(*overrides)
    folders = {name: inputs["problems"].parent / name for name in ("graded", "training")}
    for folder in folders.values():
        folder.mkdir()
    grade.run(inputs, folders["graded"], chosen["round-1/graded"], JOB)
    report = curate.run({**inputs, "graded": folders["graded"]}, folders["training"], chosen["round-1/training"], JOB)
    rows = [json.loads(line) for line in (folders["training"] / "training.jsonl").read_text().splitlines()]
    assert rows[0]["source"] == "gold" and rows[0]["completion"] == GOLD
    assert all(row["completion"] == COMPLETIONS[row["sample_index"]] for row in rows[1:])
    assert report["num_kept"] == len(rows) - 1
    verdicts = pq.read_table(folders["training"] / "verdicts.parquet")["verdict"].to_pylist()
    return [row["sample_index"] for row in rows[1:]], verdicts


def test_a_bare_answer_is_neither_a_training_row_nor_a_path(inputs: dict[str, Path], tmp_path: Path) -> None:
    """The samples without equations are then one path of their own."""
    bare = pa.table([["0"], ["Six times seven?"], [""], ["42"]], schema=schema.PROBLEMS)
    pq.write_table(bare, inputs["problems"] / "problems.parquet")
    chosen = settings("curate.keep=first")
    for name in ("graded", "training"):
        (tmp_path / name).mkdir()
    grade.run(inputs, tmp_path / "graded", chosen["round-1/graded"], JOB)
    folders = {**inputs, "graded": tmp_path / "graded"}
    report = curate.run(folders, tmp_path / "training", chosen["round-1/training"], JOB)
    rows = pq.read_table(tmp_path / "training" / "training.parquet").to_pylist()
    assert [row["sample_index"] for row in rows] == [0, 1, 4, 5]
    assert report == {"num_rows": 4, "num_gold": 0, "num_kept": 4}
    with pytest.raises(DataError, match=r"problems\.train: none of 1 problems has a worked solution"):
        curate.run({"problems": inputs["problems"]}, tmp_path, curate.Settings(), JOB)


KEPT, DUPLICATE, OF_GOLD, OVER = "kept", "duplicate", "duplicate_of_gold", "over_limit"
WRONG = ["bad_equation", "incorrect"]


@pytest.mark.parametrize(
    ("overrides", "kept", "verdicts"),
    [
        (["curate.keep=first"], [0, 4, 5], [KEPT, OF_GOLD, DUPLICATE, WRONG[0], KEPT, KEPT, WRONG[1]]),
        (["curate.keep=longest"], [2, 4, 5], [DUPLICATE, OF_GOLD, KEPT, WRONG[0], KEPT, KEPT, WRONG[1]]),
        (
            ["curate.keep=first", "curate.max_per_problem=1"],
            [0],
            [KEPT, OF_GOLD, DUPLICATE, WRONG[0], OVER, OVER, WRONG[1]],
        ),
        (["curate.dedup=false"], [0, 1, 2, 4, 5], [KEPT, KEPT, KEPT, WRONG[0], KEPT, KEPT, WRONG[1]]),
        (
            ["curate.keep=first", "grade.order=commutative", "grade.equations=anywhere"],
            [0, 5],
            [KEPT, OF_GOLD, DUPLICATE, WRONG[0], DUPLICATE, KEPT, WRONG[1]],
        ),
        # The paper's script never looks at the gold path, and a path stands where its equations came first.
        (["grade.mode=paper"], [2, 1, 4, 5], [DUPLICATE, KEPT, KEPT, WRONG[0], KEPT, KEPT, WRONG[1]]),
    ],
)
def test_the_recipes_rules_decide(
    inputs: dict[str, Path], overrides: list[str], kept: list[int], verdicts: list[str]
) -> None:
    found = run(inputs, *overrides)
    assert found == (kept, verdicts)


def test_an_answer_format_reaches_the_grades(inputs: dict[str, Path], tmp_path: Path) -> None:
    for answer_format, expected in (("gsm8k", 6), ("boxed", 0), ("last-number", 6)):
        chosen = settings(f"grade.answer_format={answer_format}")["round-1/graded"]
        assert grade.run(inputs, tmp_path, chosen, JOB)["num_correct"] == expected
        rules = grading.Rules(answer_format=answer_format)  # type: ignore[arg-type]
        golds = ["42"] * len(COMPLETIONS)
        assert pq.read_table(tmp_path / "graded.parquet") == grading.grade(COMPLETIONS, golds, rules=rules)


@pytest.mark.parametrize("is_there", [False, pytest.param(True, marks=needs_math_verify)])
def test_expressions_are_judged_where_math_verify_is(
    inputs: dict[str, Path], tmp_path: Path, is_there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_there:
        monkeypatch.setitem(sys.modules, "math_verify", None)
    samples = pq.read_table(inputs["samples"] / "samples.parquet").slice(0, 2)
    texts = pa.array([r"\boxed{6\cdot7}", r"\boxed{x}"], pa.large_string())
    place = samples.schema.get_field_index("completion")
    pq.write_table(samples.set_column(place, "completion", texts), inputs["samples"] / "samples.parquet")
    notes: list[str] = []
    chosen = settings("grade.answer_format=boxed")["round-1/graded"]
    report = grade.run(inputs, tmp_path, chosen, Job(1, lambda done, total, note: notes.append(note)))
    statuses = pq.read_table(tmp_path / "graded.parquet")["status"].to_pylist()
    if is_there:
        assert statuses == ["latex_equal", "latex_different"] and report["num_correct"] == 1
        assert notes == ["1 expressions compared", "2 expressions compared", "1 correct"]
    else:
        assert statuses == ["expression"] * 2 and report["num_correct"] == 0
        assert notes == ["0 correct, 2 expressions not judged (pip install 'qrft[latex]')"]


@needs_math_verify
def test_math_verify_changes_the_plan_where_it_can_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    def grades(*overrides: str) -> list[str]:
        steps = plan(load(TINY, overrides), BUILTIN["tiny-base"])
        return [step.digest for step in steps if step.stage == "grade"]

    there = grades(), grades("grade.mode=paper")
    monkeypatch.setitem(sys.modules, "math_verify", None)
    assert not set(there[0]) & set(grades()) and there[1] == grades("grade.mode=paper")


@pytest.mark.parametrize(
    ("override", "first"),
    [
        ("grade.order=commutative", "round-1/graded"),
        ("grade.mode=paper", "round-1/graded"),
        ("curate.keep=first", "round-1/training"),
        ("curate.max_per_problem=3", "round-1/training"),
        ("curate.dedup=false", "round-1/training"),
    ],
)
def test_other_rules_do_again_what_they_touch_alone(override: str, first: str) -> None:
    before, after = (plan(load(TINY, changes), BUILTIN["tiny-base"]) for changes in ([], [override]))
    changed = [new.path for old, new in zip(before, after, strict=True) if old.digest != new.digest]
    assert changed[0] == first and "rft/train" in changed and "sft/train" not in changed


def inputs_of(step: str, *overrides: str) -> dict[str, str]:
    """What a step reads: the names of steps, or the file's for what comes from outside."""
    steps = {step.path: step for step in plan(load(TINY, overrides), BUILTIN["tiny-base"])}
    inputs = steps[step].inputs.items()
    return {name: source.path if isinstance(source, Step) else source.path.name for name, source in inputs}


def test_a_merged_model_is_a_base_of_its_own() -> None:
    """It is sampled without an adapter, and made in the precision of the base."""
    apart = inputs_of("rft/test-samples")
    assert (apart["base"], apart["adapter"]) == ("base/gguf", "rft/gguf")
    merged = inputs_of("rft/test-samples", "gguf.merge=true")
    assert merged["base"] == "rft/gguf" and "adapter" not in merged
    assert "base" not in inputs_of("rft/gguf", "gguf.merge=true")
    assert inputs_of("base/test-samples", "gguf.merge=true")["base"] == "base/gguf"
    assert settings("gguf.merge=true", "gguf.quant=q8_0")["sft/gguf"].quant == "q8_0"


def test_when_files_are_compared_changes_no_digest() -> None:
    plans = [plan(load(TINY, [f"gguf.parity={parity}"]), BUILTIN["tiny-base"]) for parity in ("off", "once", "always")]
    digests = [{step.path: step.digest for step in steps if step.stage != "report"} for steps in plans]
    assert digests[0] == digests[1] == digests[2]
    assert settings("gguf.parity=off")["sft/gguf"].parity == "off"


def test_a_ready_file_counts_by_its_contents(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.gguf", "b.gguf", "c.gguf")]
    for file, content in zip(files, ("x", "x", "y"), strict=True):
        file.write_text(content)
    plans = [plan(load(TINY, [f"gguf.file={file}"]), BUILTIN["tiny-base"])[:-1] for file in files]
    digests = [{step.path: step.digest for step in steps} for steps in plans]
    assert digests[0] == digests[1]
    other = {name for name in digests[0] if digests[0][name] != digests[2][name]}
    assert {"base/gguf", "sft/gguf", "base/test-samples", "round-1/samples"} <= other and "sft/train" not in other
    assert inputs_of("sft/test-samples", f"gguf.file={files[0]}")["base"] == "a.gguf"
    assert inputs_of("base/gguf", f"gguf.file={files[0]}")["file"] == "a.gguf"
