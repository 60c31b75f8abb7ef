"""Reasoning traces: told from the answer by C and by the reference, in every rule that says what a trace is."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from helpers.trace_texts import SHAPES
from pydantic import ValidationError

from qrft import grading
from qrft.data.schema import PROBLEMS
from qrft.grading import reference
from qrft.grading.pairing import Pairing
from qrft.grading.pairs import preference_pairs
from qrft.grading.traces import Traces, stretches, without_traces
from qrft.grading.training_table import gold_table, training_table


def graded(text: str | bytes, gold: str, rules: grading.Rules) -> dict[str, object]:
    """Return the grade of C, which must be that of the reference."""
    row: dict[str, object] = grading.grade([text], [gold], rules=rules).to_pylist()[0]
    how = (rules.answer_format or "gsm8k", rules.marker, rules.equations, rules.order, rules.traces)
    assert row == reference.grade(text, gold, *how)._asdict()
    return row


@pytest.mark.parametrize("shape", SHAPES)
def test_completions_by_hand(shape: str) -> None:
    assert len(SHAPES[shape]) == 20
    for answer_format, text, gold, status, is_right in SHAPES[shape]:
        row = graded(text, gold, grading.Rules(answer_format=answer_format))  # type: ignore[arg-type]
        assert (row["status"], row["is_correct"]) == (status, is_right), text


def test_a_prompt_that_opens_the_trace() -> None:
    rules = grading.Rules(trace_is_open=True)
    assert graded("#### 8? Let me see", "8", rules)["status"] == "open_trace"
    assert graded("#### 7?\n</think>\n#### 8", "8", rules)["is_correct"]
    assert graded("<think>\n#### 7?\n</think>\n#### 8", "8", rules)["is_correct"]


def test_other_tags_and_none() -> None:
    rules = grading.Rules(trace_tags="[THINK] [/THINK]")
    assert graded("[THINK]#### 7[/THINK]#### 8", "8", rules)["is_correct"]
    assert graded("<think>#### 7</think>#### 8", "7", rules)["is_correct"]
    assert graded("<think>#### 7</think>#### 8", "7", grading.Rules(trace_tags="none"))["is_correct"]


@pytest.mark.parametrize("tags", ["<think>", "", "<a> <b> <c>", "<a> <a>", "None"])
def test_tags_that_are_no_pair(tags: str) -> None:
    with pytest.raises(ValidationError, match="two different tags with a blank between"):
        grading.Rules(trace_tags=tags)


def test_mode_paper_knows_no_traces() -> None:
    text = "<think>#### 7</think>\n#### 8"
    assert grading.grade([text], ["7"], rules=grading.Rules(mode="paper"))["is_correct"].to_pylist() == [True]
    with pytest.raises(ValidationError, match="mode paper"):
        grading.Rules(mode="paper", trace_tags="<a> <b>")


def test_equations_in_traces_count_only_if_asked() -> None:
    text = "<think><<1+1=3>> or <<2+2=4>></think> <<5+3=8>>\n#### 8"
    row = graded(text, "8", grading.Rules())
    assert (row["num_equations"], row["equations_status"]) == (1, "ok")
    row = graded(text, "8", grading.Rules(trace_equations=True))
    assert (row["num_equations"], row["equations_status"]) == (3, "wrong")
    bare = graded("<<5+3=8>>\n#### 8", "8", grading.Rules())
    assert bare["equation_key"] == graded(text, "8", grading.Rules())["equation_key"]


PIECES = ["<think>", "</think>", "<", "<<", ">>", "5+3=8", "<<5+3=8>>", "#### 8", "\\boxed{8}", "\nQuestion: 2\n"]
PIECES += ["<<think>", "</think>>", "[", "]", "think>", "/", "<<2 ", "=8>>", "The answer is 8.", "é", " 8 "]
PIECES += ["<answer>8</answer>"]
TAGS = ("<think> </think>", "[ ]", "< >", "none")
RULES = [
    grading.Rules(
        answer_format=name,  # type: ignore[arg-type]
        equations=source,  # type: ignore[arg-type]
        trace_tags=tags,
        trace_is_open=is_open,
        trace_equations=counts,
    )
    for tags in TAGS
    for is_open, counts in ((False, False), (True, False), (False, True))
    for name in ("gsm8k", "boxed", "auto")
    for source in ("marked", "anywhere")
]


@pytest.mark.parametrize("seed", range(3))
def test_c_and_reference_agree(seed: int) -> None:
    """The whole row, for texts in which tags, marks of equations and markers cut each other."""
    rng = random.Random(seed)
    texts = ["".join(rng.choices(PIECES, k=rng.randrange(1, 14))).encode() for _ in range(40)]
    for rules in RULES:
        how = (rules.answer_format, rules.marker, rules.equations, rules.order, rules.traces)
        rows = grading.grade(texts, ["8"] * len(texts), rules=rules).to_pylist()
        assert rows == [reference.grade(text, "8", *how)._asdict() for text in texts], rules


def test_stretches() -> None:
    tags = Traces("<think>", "</think>")
    assert stretches("a<think>b</think>c", tags) == ([(0, 1), (17, 18)], False)
    assert stretches("b</think>c", tags) == ([(9, 10)], False)
    assert stretches("a<think>b", tags) == ([(0, 1)], True)
    assert stretches(b"abc", None) == ([(0, 3)], False)
    assert without_traces("<think>b</think>\n\nc", tags) == "c"
    assert without_traces(" c", tags) == " c"


def curated(texts: list[str], **selection: Any) -> list[str]:
    """Return the completions of the training table of one problem with these samples."""
    problems = pa.Table.from_pylist(
        [{"problem_id": "p", "question": "?", "solution": "<think>8</think>\n<<4+4=8>>\n#### 8", "answer": "8"}],
        PROBLEMS,
    )
    samples = pa.table(
        {"completion": texts, "model": ["m"] * len(texts), "sample_index": pa.array(range(len(texts)), pa.int32())}
    )
    graded = grading.grade(texts, ["8"] * len(texts))
    table = training_table(problems, np.zeros(len(texts), np.int64), samples, graded, grading.Selection(**selection))
    rows: list[str] = table.rows["completion"].to_pylist()
    assert rows[0] == gold_table(problems, grading.Selection(**selection))["completion"].to_pylist()[0]
    return rows


def test_training_rows_keep_or_drop_the_trace() -> None:
    texts = ["<think>5, 3</think>\n\n<<5+3=8>>\n#### 8", "6, 2</think>\n<<6+2=8>>\n#### 8", "<<7+1=8>>\n#### 8"]
    gold = "<think>8</think>\n<<4+4=8>>\n#### 8"
    assert curated(texts) == [gold, *texts]
    bare = ["<<4+4=8>>\n#### 8", "<<5+3=8>>\n#### 8", "<<6+2=8>>\n#### 8", "<<7+1=8>>\n#### 8"]
    assert curated(texts, traces="drop") == bare


def test_pairs_drop_the_trace() -> None:
    texts = [
        "<think>a</think><<5+3=8>>\n#### 8",
        "<think>b</think><<5+3=9>>\n#### 9",
        "<think>c</think><<5+3=9>>\n#### 9",
    ]
    problems = pa.Table.from_pylist([{"problem_id": "p", "question": "?", "solution": "", "answer": "8"}], PROBLEMS)
    samples, graded = pa.table({"completion": texts}), grading.grade(texts, ["8"] * 3)
    made = preference_pairs(
        problems, np.zeros(3, np.int64), samples, graded, Pairing(), grading.Selection(traces="drop")
    ).to_pylist()
    assert made == [{"prompt": "?\n", "chosen": "<<5+3=8>>\n#### 8", "rejected": "<<5+3=9>>\n#### 9"}]
