"""Samples that lm-evaluation-harness logged are graded as any others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.commands import facts_of, fails, run_qrft
from helpers.jsonl import write_jsonl

QUESTIONS = ["3 and 4?", "5 and 6?", "7 and 8?"]
GOLD = [7, 11, 15]


@pytest.fixture(autouse=True)
def problems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = ({"id": f"p{n}", "question": question, "answer": GOLD[n]} for n, question in enumerate(QUESTIONS))
    write_jsonl(Path("p.jsonl"), rows)


def logged(number: int, texts: list[str], name: str = "strict-match", **other: Any) -> dict[str, Any]:
    """A line as `lm_eval --log_samples` writes it for a task that generates."""
    doc = {"question": f" {QUESTIONS[number % 3]}\n", "answer": f"#### {GOLD[number % 3]}"}
    return {
        "doc_id": number,
        "doc": doc,
        "target": doc["answer"],
        "arguments": {"gen_args_0": {"arg_0": "Question: ...", "arg_1": {"until": ["\n\n"]}}},
        "resps": [texts],
        "filtered_resps": ["7"],
        "filter": name,
        "metrics": ["exact_match"],
        "doc_hash": "0",
        "exact_match": 1.0,
        **other,
    }


def test_what_the_harness_logged_is_graded() -> None:
    """Each filter logs all texts once more; several texts are those of --repeats."""
    right, wrong = "so\n#### 7", "so\n#### 8"
    lines = [
        logged(number, texts, name)
        for name in ("strict-match", "flexible-extract")
        for number, texts in enumerate([[right, wrong], ["#### 11", "#### 11"], ["none", "#### 15"]])
    ]
    write_jsonl(Path("samples_gsm8k_2026-11-30T12-00-00.jsonl"), lines)
    facts = facts_of("evaluate", "samples_gsm8k_2026-11-30T12-00-00.jsonl", "--problems", "p.jsonl")
    assert (facts["num_samples"], facts["num_correct"], facts["num_malformed"]) == (6, 4, 0)
    assert facts["maj1@1"]["value"] == pytest.approx(4 / 6) and facts["pass@2"]["value"] == 1
    run_qrft("curate", "samples_gsm8k_2026-11-30T12-00-00.jsonl", "--problems", "p.jsonl", "-o", "t.jsonl")
    kept = [json.loads(line) for line in Path("t.jsonl").read_text().splitlines()]
    assert {row["problem_id"] for row in kept} == {"p0", "p1", "p2"}
    assert {row["source"] for row in kept} == {"samples_gsm8k_2026-11-30T12-00-00"}


def test_documents_that_are_other_problems() -> None:
    write_jsonl(Path("s.jsonl"), [logged(0, ["#### 7"]), logged(1, ["#### 7"], doc={"question": "Who?"})])
    assert fails(1, "evaluate", "s.jsonl", "--problems", "p.jsonl") == (
        "s.jsonl:2: document 1 does not ask what problem 1 asks ('5 and 6?'). Name the problems that lm-eval was run "
        "on, all of them and in their order."
    )
    write_jsonl(Path("s.jsonl"), [logged(0, ["#### 7"]), logged(3, ["#### 7"])])
    assert "s.jsonl:2: problem_id '3' is unknown (1 of 2 samples in this file)" in fails(
        1, "evaluate", "s.jsonl", "--problems", "p.jsonl"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resps": [[["-1.2", "False"]], [["-3.4", "True"]]]}, "resps is [[['-1.2', 'False']], "),
        ({"resps": [[["-1.2", "False"]]]}, "expected the texts of one request: of a task that generates."),
        ({"resps": "#### 7"}, "resps is '#### 7', expected the texts"),
        ({"doc_id": "a"}, "doc_id is 'a', expected a whole number."),
    ],
)
def test_lines_that_hold_no_texts(change: dict[str, Any], message: str) -> None:
    write_jsonl(Path("s.jsonl"), [logged(0, ["#### 7"]), {**logged(1, ["#### 11"]), **change}])
    done = run_qrft("evaluate", "s.jsonl", "--problems", "p.jsonl")
    assert "Skipped: s.jsonl:2: " in done.stderr and message in done.stderr
