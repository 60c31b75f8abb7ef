"""Verdicts and scores that files give their samples, in place of the answer's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.commands import facts_of, fails, run_qrft
from helpers.jsonl import read_jsonl, write_jsonl

PROBLEMS = [{"question": f"What is {n} + 1?", "answer": str(n + 1)} for n in range(2)]
TEXTS = ["one\n#### 1", "another\n#### 9", "a third\n#### 1"]
RIGHT, WRONG, UNTOLD = (True, 0.9), (False, 0.2), (None, None)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl("problems.jsonl", PROBLEMS)


def write(kind: str, column: str, told: list[tuple[Any, Any]]) -> str:
    """Write samples of the first problem with a verdict each: a row for each, or a list in one row."""
    values = [one[column == "score"] for one in told]
    rows = [{"id": 0, "response": text, column: value} for text, value in zip(TEXTS, values, strict=True)]
    if kind == "lists":
        rows = [{"id": 0, "response": TEXTS, column: values}]
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), "samples.parquet")
        return "samples.parquet"
    return str(write_jsonl("samples.jsonl", rows))


@pytest.mark.parametrize("kind", ["jsonl", "lists", "parquet"])
@pytest.mark.parametrize(("column", "options"), [("is_correct", []), ("score", ["--min-score", "0.9"])])
def test_what_a_file_says_decides_and_is_marked(kind: str, column: str, options: list[str]) -> None:
    file = write(kind, column, [WRONG, RIGHT, UNTOLD])
    words = [file, "--problems", "problems.jsonl"]
    run_qrft("grade", *words, "--verdicts", *options, "-o", "graded.parquet")
    graded = pq.read_table("graded.parquet")
    assert graded["is_correct"].to_pylist() == [False, True, True]
    assert graded["judged_by"].to_pylist() == ["verdict", "verdict", "answer"]
    run_qrft("curate", *words, "--verdicts", *options, "-o", "rows.jsonl")
    rows = [(row["completion"], row["judged_by"]) for row in read_jsonl("rows.jsonl")]
    assert sorted(rows) == [(TEXTS[2], "answer"), (TEXTS[1], "verdict")]
    assert facts_of("evaluate", *words, "--verdicts", *options)["num_correct"] == 2
    # Unless it is asked for, answers decide, and such columns may hold anything.
    run_qrft("curate", *words, "-o", "rows.jsonl")
    rows = read_jsonl("rows.jsonl")
    assert sorted(row["completion"] for row in rows) == [TEXTS[2], TEXTS[0]] and "judged_by" not in rows[0]


def test_what_can_not_be_a_verdict_is_told() -> None:
    words = ["curate", "samples.jsonl", "--problems", "problems.jsonl", "-o", "rows.jsonl"]
    write("jsonl", "score", [RIGHT, WRONG, UNTOLD])
    assert "samples.jsonl:1: has a score for each sample" in fails(1, *words, "--verdicts")
    assert "--min-score: found 0.5 without verdicts" in fails(2, *words, "--min-score", "0.5")
    write_jsonl("samples.jsonl", [{"id": 0, "response": TEXTS[0]}])
    assert "samples.jsonl:1: no column for the verdict; found id, response." in fails(1, *words, "--verdicts")
    rows = [{"id": 0, "response": text, "is_correct": told} for text, told in zip(TEXTS, [True, "yes", 1], strict=True)]
    write_jsonl("samples.jsonl", rows)
    told = run_qrft(*words, "--verdicts").stderr
    assert "samples.jsonl:2: is_correct is 'yes', expected true, false or a number." in " ".join(told.split())
    write_jsonl("samples.jsonl", [{"id": 0, "response": TEXTS, "is_correct": [True]}])
    assert "another number of verdicts than of completions" in fails(1, *words, "--verdicts")
