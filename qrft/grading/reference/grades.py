"""The reference's grade of a completion: its answer, its equations and their key, as the C core writes them."""

from __future__ import annotations

from typing import NamedTuple

from qrft.grading.reference.answers import find_answer, parse_number
from qrft.grading.reference.equations import equations_status, find_equations
from qrft.grading.reference.keys import path_of
from qrft.grading.reference.sound import soundness
from qrft.grading.traces import Traces


class Grade(NamedTuple):
    """The columns of schema.GRADED."""

    answer_start: int
    answer_end: int
    status: str
    is_correct: bool
    num_equations: int
    equations_status: str
    equation_key: bytes
    path_source: str


def soundness_of(
    question: str | bytes,
    completion: str | bytes,
    gold_answer: str | bytes,
    answer_format: str = "gsm8k",
    marker: str | bytes | None = None,
    equations: str = "marked",
    traces: Traces | None = None,
) -> str:
    """Return whether a right path is sound, or why not; "not_judged" for one that can't be right."""
    answer = find_answer(completion, answer_format, marker, traces)
    gold = parse_number(gold_answer, answer_format, marker)
    is_expression = answer.status == "expression" or (answer.value is not None and gold.status == "expression")
    may_be_correct = is_expression or (answer.value is not None and answer.value == gold.value)
    if not may_be_correct or equations_status(find_equations(completion, equations, traces)) != "ok":
        return "not_judged"
    return soundness(question, completion, answer.value, equations, traces)


def grade(
    completion: str | bytes,
    gold_answer: str | bytes,
    answer_format: str = "gsm8k",
    marker: str | bytes | None = None,
    equations: str = "marked",
    order: str = "exact",
    traces: Traces | None = None,
) -> Grade:
    """Grade a completion against a gold answer in mode "default"; paper.grade does it in mode "paper"."""
    answer = find_answer(completion, answer_format, marker, traces)
    gold = parse_number(gold_answer, answer_format, marker)
    is_correct = answer.value is not None and answer.value == gold.value
    found = find_equations(completion, equations, traces)
    return Grade(
        answer.start,
        answer.end,
        answer.status,
        is_correct,
        len(found),
        equations_status(found),
        *path_of(completion, equations, order, traces),
    )
