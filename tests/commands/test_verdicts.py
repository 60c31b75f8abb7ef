"""What decides in place of a problem's answer: verdicts and scores of files, and the vote of the samples."""

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


def test_problems_need_no_answers_where_verdicts_decide() -> None:
    """A sample without a verdict of a problem without an answer is neither right nor wrong."""
    write_jsonl("problems.jsonl", [{"question": "What is 0 + 1?"}, PROBLEMS[1]])
    file = write("jsonl", "is_correct", [WRONG, RIGHT, UNTOLD])
    words = [file, "--problems", "problems.jsonl"]
    assert 'expected a text under "answer"' in fails(1, "curate", *words, "-o", "rows.jsonl")
    told = run_qrft("grade", *words, "--verdicts", "-o", "graded.parquet").stderr
    assert "1 of 2 problems have no answer: nothing but verdicts makes samples right." in told
    graded = pq.read_table("graded.parquet")
    assert graded["is_correct"].to_pylist() == [False, True, False]
    assert graded["judged_by"].to_pylist() == ["verdict", "verdict", "nothing"]
    run_qrft("curate", *words, "--verdicts", "-o", "rows.jsonl", "--pairs", "pairs.jsonl")
    assert [row["completion"] for row in read_jsonl("rows.jsonl")] == [TEXTS[1]]
    assert [(row["chosen"], row["rejected"]) for row in read_jsonl("pairs.jsonl")] == [(TEXTS[1], TEXTS[0])]
    facts = facts_of("evaluate", *words, "--verdicts")
    right = {name: facts[name]["value"] for name in ("maj1@1", "flexible", "last_number")}
    assert right == dict.fromkeys(right, pytest.approx(1 / 6))  # of two problems


def test_what_a_verdict_calls_right_is_sound_by_its_own_answer() -> None:
    question = "3 cats of 8"
    sound, unsound = "<<3*8=24>>24\n#### 24", "<<3*7=21>>21\n#### 21"
    texts = {sound: "sound", unsound: "unknown_number", "<<3*8=24>>24\n#### 25": "other_result", "yes": "not_judged"}
    write_jsonl("problems.jsonl", [{"question": question}])
    rows = [{"id": 0, "response": text, "is_correct": True} for text in texts]
    rows.append({"id": 0, "response": sound, "is_correct": False})
    words = [write_jsonl("samples.jsonl", rows), "--problems", "problems.jsonl", "--verdicts"]
    run_qrft("grade", *words, "--sound", "-o", "graded.parquet")
    assert pq.read_table("graded.parquet")["soundness"].to_pylist() == [*texts.values(), "not_judged"]
    facts = facts_of("curate", *words, "--sound", "require", "-o", "rows.jsonl")
    assert facts["num_unsound"] == 3
    assert [row["completion"] for row in read_jsonl("rows.jsonl")] == [sound]
    # A gold answer of another value changes nothing of that.
    write_jsonl("problems.jsonl", [{"question": question, "answer": "7"}])
    run_qrft("grade", *words, "--sound", "-o", "graded.parquet")
    assert pq.read_table("graded.parquet")["soundness"].to_pylist() == [*texts.values(), "not_judged"]


def test_answers_that_win_a_vote_are_the_gold_ones() -> None:
    write_jsonl("problems.jsonl", [{"question": f"What is {n} + 1?"} for n in range(3)] + [PROBLEMS[1]])
    answers = [(0, "1"), (0, "$1.0"), (0, "9"), (1, "2"), (1, "3"), (3, "9"), (3, "9"), (3, "2")]
    rows = [{"id": problem, "response": f"{n}\n#### {answer}"} for n, (problem, answer) in enumerate(answers)]
    words = [write_jsonl("samples.jsonl", rows), "--problems", "problems.jsonl", "--vote", "0.5"]
    told = run_qrft("grade", *words, "-o", "graded.parquet").stderr
    assert "2 of 4 problems have no answer: nothing but a vote that is clear enough makes samples right." in told
    graded = pq.read_table("graded.parquet")
    assert graded["judged_by"].to_pylist() == ["vote"] * 3 + ["nothing"] * 2 + ["answer"] * 3
    assert graded["is_correct"].to_pylist() == [True, True, False, False, False, False, False, True]
    facts = facts_of("curate", *words, "--no-gold", "-o", "rows.jsonl", "--pairs", "pairs.jsonl")
    assert (facts["num_without_answer"], facts["num_voted"]) == (3, 1)
    found = [(row["problem_id"], row["judged_by"]) for row in read_jsonl("rows.jsonl")]
    assert found == [("0", "vote"), ("0", "vote"), ("3", "answer")]
    assert {row["prompt"][:9] for row in read_jsonl("pairs.jsonl")} == {"What is 0", "What is 1"}
    refused = fails(2, "grade", *words, "--verdicts", "-o", "graded.parquet")
    assert "--vote: found 0.5 with --verdicts, which decide themselves." in refused
    # With every answer given nothing is voted on, but the column says so.
    write_jsonl("problems.jsonl", [{"question": f"What is {n} + 1?", "answer": "1"} for n in range(4)])
    run_qrft("grade", *words, "-o", "graded.parquet")
    assert set(pq.read_table("graded.parquet")["judged_by"].to_pylist()) == {"answer"}


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
