"""Problems without answers: their samples vote, and the answers that win are the gold ones of the run."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from helpers.commands import fails, run_qrft
from helpers.jsonl import read_jsonl, write_jsonl
from helpers.paths import TINY
from helpers.recipes import fault

from qrft.config.load import load
from qrft.data.problems.registry import draw
from qrft.models.find import BUILTIN
from qrft.pipeline.flow import plan
from qrft.pipeline.graph import Step
from qrft.pipeline.stages import Job, curate, grade, outside, problems

ROWS = draw("tiny-math/train", 0, 6).to_pylist()
SMALL = ("problems.train=p.jsonl", "problems.num_train=6", "problems.num_test=3", "gold.vote=0.5")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a file in which every second problem has a worked solution, and the others nothing."""
    monkeypatch.chdir(tmp_path)
    asked = [{"id": row["problem_id"], "question": row["question"]} for row in ROWS]
    write_jsonl("p.jsonl", [{**a, "answer": ROWS[n]["solution"]} if n % 2 else a for n, a in enumerate(asked)])


def planned(*sets: str) -> dict[str, Step]:
    return {step.path: step for step in plan(load(TINY, [*SMALL, *sets]), BUILTIN["tiny-base"])}


def test_the_vote_is_held_once_after_the_first_round_and_before_grading() -> None:
    steps = planned("rounds=2", "curate.pairs=2")
    order = [*steps]
    voted = steps["problems/voted"]
    assert order.index("round-1/samples") < order.index("problems/voted") < order.index("round-1/graded")
    assert voted.inputs["samples"] is steps["round-1/samples"] and voted.inputs["problems"] is steps["problems/train"]
    for name in ("graded", "training", "pairs"):
        assert steps[f"round-1/{name}"].inputs["problems"] is steps[f"round-2/{name}"].inputs["problems"] is voted
    assert steps["round-2/samples"].inputs["problems"] is steps["problems/train"]
    without = {step.path: step for step in plan(load(TINY), BUILTIN["tiny-base"])}
    assert "problems/voted" not in without


def test_all_models_of_the_run_vote_together_and_files_too() -> None:
    write_jsonl("teacher.jsonl", [{"id": row["problem_id"], "response": "x"} for row in ROWS])
    sets = ("base_model=null", "models={a: {base_model: tiny-base}, b: {base_model: tiny-base}}")
    voted = planned(*sets, "curate.samples=[teacher.jsonl]", "curate.first_samples=2")["problems/voted"]
    assert voted.settings.sources == ("outside", "a/sft", "b/sft")  # type: ignore[attr-defined]
    assert voted.settings.first_samples == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ("sample: {until: {correct: 2}}", "found 0.5 with sample.until, whose goal needs the answers"),
        ("sample: {num_samples: 1}", "found 0.5 with sample.num_samples 1, of which there is no majority"),
        ("curate: {verdicts: true}", "found 0.5 with curate.verdicts, which decide themselves"),
        ("rounds: 0", "found 0.5 with rounds 0, so nothing is sampled"),
    ],
)
def test_what_can_not_go_with_a_vote_is_told(keys: str, told: str) -> None:
    assert fault(f"{keys}\ngold: {{vote: 0.5}}").startswith(f"r.yaml:9: gold.vote: {told}")


def test_a_test_set_needs_answers_and_so_do_problems_without_a_vote() -> None:
    words = ["run", TINY, *(word for one in SMALL for word in ("--set", one))]
    told = fails(1, *words, "--set", "problems.test=p.jsonl", has_begun=True)
    assert 'p.jsonl:1: found the keys id, question, expected a text under "answer".' in told
    told = fails(1, *words, "--set", "gold.vote=null", has_begun=True)
    assert "may go without answers: where their samples vote for them (gold.vote, --vote)" in told


def test_verdicts_of_files_need_no_answers_either() -> None:
    told = [True, None, False, None, True, None]
    texts = [f"0+{row['answer']}=<<0+{row['answer']}={row['answer']}>>.\n#### {row['answer']}" for row in ROWS]
    rows = zip(ROWS, texts, told, strict=True)
    write_jsonl("t.jsonl", [{"id": row["problem_id"], "response": t, "is_correct": right} for row, t, right in rows])
    steps = planned("gold.vote=null", "curate.samples=[t.jsonl]", "curate.verdicts=true")
    folders = {name: Path(name) for name in ("problems", "samples", "graded", "training")}
    for folder in folders.values():
        folder.mkdir()
    inputs = {**folders, "file": Path("p.jsonl"), "0": Path("t.jsonl")}
    problems.run(inputs, folders["problems"], steps["problems/train"].settings, Job())  # type: ignore[arg-type]
    outside.run(inputs, folders["samples"], steps["outside/samples"].settings, Job())  # type: ignore[arg-type]
    grade.run(inputs, folders["graded"], steps["outside/graded"].settings, Job(num_threads=1))  # type: ignore[arg-type]
    curate.run(inputs, folders["training"], curate.Settings(sources=("",)), Job(num_threads=1))
    judged_by = pq.read_table("graded/graded.parquet")["judged_by"].to_pylist()
    assert judged_by == ["verdict", "answer", "verdict", "answer", "verdict", "answer"]
    kept = [
        (row["problem_id"], row["judged_by"]) for row in read_jsonl("training/training.jsonl") if row["source"] == "t"
    ]
    assert kept == [(ROWS[n]["problem_id"], judged_by[n]) for n in (0, 1, 3, 4, 5)]


def test_a_run_learns_from_answers_that_won_and_marks_them() -> None:
    """Three samples of a file agree on each problem but the first, on which nobody agrees."""
    texts = [
        [f"{n}: 0+{row['answer']}=<<0+{row['answer']}={row['answer']}>>.\n#### {row['answer']}"] * 9
        for n, row in enumerate(ROWS)
    ]
    texts[0] = [f"#### {n}" for n in range(9)]
    write_jsonl("t.jsonl", [{"id": row["problem_id"], "response": text} for row, text in zip(ROWS, texts, strict=True)])
    sets = [
        *SMALL,
        *("sample.num_samples=2", "sample.max_new_tokens=24", "evaluate.max_new_tokens=24"),
        *("train.num_epochs=1", "curate.samples=[t.jsonl]"),
    ]
    printed = run_qrft("run", TINY, *(word for one in sets for word in ("--set", one))).stdout
    run = Path("runs/tiny")
    rows = read_jsonl(run / "round-1/training/training.jsonl")
    by = Counter((row["problem_id"], row["judged_by"]) for row in rows if row["source"] == "t")
    assert by == {(row["problem_id"], ["vote", "answer"][n % 2]): 1 for n, row in enumerate(ROWS) if n}
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["num_voted"], summary["num_without_answer"], summary["num_kept_by_vote"]) == (2, 1, 2)
    told = "2 training problems have their answers from a vote, won by at least 50.0% of the samples; 2 of the kept"
    assert told in " ".join(printed.split())
    page = (run / "report.html").read_text()
    assert "(by the vote of its samples)" in page and "the answer that its samples voted for" in page
    assert "1 training problem without an answer: nothing of theirs was kept." in " ".join(page.split())
