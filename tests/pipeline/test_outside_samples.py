"""Samples made elsewhere, in the pool of a run: read, graded by its rules, and told apart by source."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from helpers.commands import fails, run_qrft
from helpers.jsonl import read_jsonl, write_jsonl
from helpers.paths import TINY
from helpers.recipes import fault

from qrft.config.load import load
from qrft.data.problems.registry import draw
from qrft.data.samples.pooled import OUTSIDE
from qrft.errors import DataError
from qrft.models.find import BUILTIN
from qrft.pipeline.flow import plan
from qrft.pipeline.graph import Step
from qrft.pipeline.stages import Job, curate, grade, outside

ROWS = draw("tiny-math/train", 0, 6).to_pylist()
TEACHER = [
    {"id": row["problem_id"], "response": f"It is 0+{row['answer']}=<<0+{row['answer']}={row['answer']}>>.\n#### "}
    for row in ROWS
]
RIGHT = [{**one, "response": one["response"] + row["answer"]} for one, row in zip(TEACHER, ROWS, strict=True)]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def planned(*sets: str) -> dict[str, Step]:
    small = ["problems.num_train=6", "problems.num_test=3"]
    return {step.path: step for step in plan(load(TINY, [*small, *sets]), BUILTIN["tiny-base"])}


def read(*files: Path, skips_unknown: bool = False, names: tuple[str, ...] = ("teacher",)) -> list[dict[str, Any]]:
    Path("problems").mkdir(exist_ok=True)
    pq.write_table(draw("tiny-math/train", 0, 6), "problems/problems.parquet")
    inputs = {"problems": Path("problems"), **{str(n): file for n, file in enumerate(files)}}
    outside.run(inputs, Path(), outside.Settings(names=names, skips_unknown=skips_unknown), Job())
    found: list[dict[str, Any]] = pq.read_table("samples.parquet").to_pylist()
    return found


def test_a_file_counts_by_its_contents_and_joins_every_selection() -> None:
    write_jsonl("teacher.jsonl", RIGHT)
    steps = planned("curate.samples=[teacher.jsonl]", "rounds=2")
    assert list(steps)[2:4] == ["outside/samples", "outside/graded"]  # before any training
    for number, own in enumerate((["sft"], ["sft", "rft-1"]), 1):
        assert steps[f"round-{number}/training"].settings.sources == (*own, OUTSIDE)  # type: ignore[attr-defined]
    Path("moved").mkdir()
    moved = Path("teacher.jsonl").rename("moved/teacher.jsonl")
    assert planned("curate.samples=[moved/teacher.jsonl]")["outside/samples"].digest == steps["outside/samples"].digest
    write_jsonl(moved, RIGHT[:3])
    assert planned("curate.samples=[moved/teacher.jsonl]")["outside/samples"].digest != steps["outside/samples"].digest
    assert "outside/samples" not in planned()


def test_files_of_one_name_are_told_apart_and_a_folder_is_one() -> None:
    for folder in ("a", "b"):
        Path(folder).mkdir()
        write_jsonl(f"{folder}/t.jsonl", RIGHT)
        pq.write_table(draw("tiny-math/train", 0, 1), f"{folder}/shard.parquet")
    steps = planned("curate.samples=[a/t.jsonl, b/t.jsonl, a]")
    assert steps["outside/samples"].settings.names == ("a/t", "b/t", "a")  # type: ignore[attr-defined]


def test_rows_bear_the_model_of_the_file_or_the_files_name() -> None:
    rows = [{**RIGHT[0], "model": "gold"}, {**RIGHT[1], "model": "sft"}, {**RIGHT[2], "model": "big"}, RIGHT[3]]
    found = read(write_jsonl("t.jsonl", rows))
    assert [row["model"] for row in found] == ["outside/gold", "outside/sft", "big", "teacher"]
    assert [row["sample_index"] for row in found] == [0] * 4


def test_samples_of_unknown_problems_are_one_message_or_left_out_where_the_run_has_a_part() -> None:
    file = write_jsonl("t.jsonl", [RIGHT[0], *({"id": f"x{n}", "response": "a"} for n in range(3))])
    with pytest.raises(DataError, match=r"t.jsonl:2: problem_id 'x0' is unknown \(3 of 4 samples in this file\)"):
        read(file)
    assert [row["problem_id"] for row in read(file, skips_unknown=True)] == [RIGHT[0]["id"]]
    with pytest.raises(DataError, match=r"no samples of the problems of this run\. 1 samples of other problems"):
        read(write_jsonl("t.jsonl", [{"id": "x", "response": "a"}]), skips_unknown=True)


def test_what_a_file_says_of_its_samples_decides_in_the_pool_too() -> None:
    Path("problems").mkdir()
    pq.write_table(draw("tiny-math/train", 0, 6), "problems/problems.parquet")
    told = [True, None, False, True, False, None]
    file = write_jsonl("t.jsonl", [{**one, "is_correct": verdict} for one, verdict in zip(RIGHT, told, strict=True)])
    steps = planned(f"curate.samples=[{file}]", "curate.verdicts=true")
    assert steps["outside/samples"].digest != planned(f"curate.samples=[{file}]")["outside/samples"].digest
    inputs = {"problems": Path("problems"), "samples": Path("."), "graded": Path(".")}
    outside.run({**inputs, "0": file}, Path(), steps["outside/samples"].settings, Job())  # type: ignore[arg-type]
    grade.run(inputs, Path(), steps["outside/graded"].settings, Job(num_threads=1))  # type: ignore[arg-type]
    Path("training").mkdir()
    curate.run(inputs, Path("training"), curate.Settings(sources=("",)), Job(num_threads=1))
    rows = [row for row in read_jsonl("training/training.jsonl") if row["source"] != "gold"]
    by = [(row["problem_id"], row["judged_by"]) for row in rows]
    expected = zip(ROWS, ["verdict", "answer", None, "verdict", None, "answer"], strict=True)
    assert by == [(row["problem_id"], judge) for row, judge in expected if judge]


def test_a_file_that_is_not_there_is_told_with_its_line() -> None:
    found = fault("curate: {samples: [none.jsonl]}")
    assert found.startswith("r.yaml:8: curate.samples: found the text 'none.jsonl': no such file; looked at ")


def test_a_run_trains_on_paths_of_files_and_tells_their_share() -> None:
    write_jsonl("teacher.jsonl", RIGHT)
    sets = [
        *("problems.num_train=6", "problems.num_test=3", "sample.num_samples=2", "sample.max_new_tokens=24"),
        *("evaluate.max_new_tokens=24", "train.num_epochs=1", "curate.samples=[teacher.jsonl]"),
    ]
    words = [word for one in sets for word in ("--set", one)]
    printed = run_qrft("run", TINY, *words).stdout
    run = Path("runs/tiny")
    rows = read_jsonl(run / "round-1/training/training.jsonl")
    assert {row["problem_id"] for row in rows if row["source"] == "teacher"} == {row["problem_id"] for row in ROWS}
    summary = json.loads((run / "summary.json").read_text())
    told = summary["sources"]["teacher"]
    assert told["num_samples"] == told["num_correct"] == told["num_kept"] == 6
    assert sum(one["kept_share"] for one in summary["sources"].values()) == pytest.approx(1)
    assert summary["samples_per_problem"] == 3 and summary["distinct_curve"][-1][0] == 2  # of those that it drew
    assert "from teacher" in " ".join(printed.split())
    assert '<th scope="row">teacher</th>' in (run / "report.html").read_text()
    assert "outside/samples" in run_qrft("plan", TINY, *words).stdout
    write_jsonl("teacher.jsonl", [{"id": "x", "response": "a"}])
    assert "samples of other problems" in fails(1, "run", TINY, *words, has_begun=True)
