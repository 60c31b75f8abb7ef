"""Completions are not trusted: any text is graded in time that grows with its length, by any rules."""

from __future__ import annotations

import random
import time
from typing import get_args

import pytest

from qrft import grading
from qrft.grading.rules import AnswerFormat

RULES = [
    *(grading.Rules(answer_format=name) for name in get_args(AnswerFormat)),
    grading.Rules(mode="paper"),
    grading.Rules(equations="anywhere", order="commutative"),
    grading.Rules(marker="=>"),
]
PIECES = [
    *(
        "(",
        ")",
        "<<",
        ">>",
        "<<(",
        "=",
        "1+",
        "1",
        "-",
        "*",
        "^2",
        "#### ",
        "\\boxed{",
        "}",
        "\\frac{1}",
        "<answer>",
        "</answer>",
    ),
    *(
        "the answer is ",
        "\\text{",
        "$",
        "%",
        ",",
        "1,",
        "1.",
        " ",
        "\n",
        "\0",
        "\x1b[2J",
        "<script>",
        "\u202e",
        "½",
        "<think>",
        "</think>",
    ),
]


def seconds(text: str, rules: grading.Rules) -> float:
    """Return the least of three times: another program may have the processor."""
    times = []
    for _ in range(3):
        started = time.process_time()
        grading.grade([text], ["1"], rules=rules, num_threads=1)
        times.append(time.process_time() - started)
    return min(times)


def grade_hostile_texts(seed: int, count: int) -> None:
    rng = random.Random(seed)
    for _ in range(count):
        unit = "".join(rng.choice(PIECES) for _ in range(rng.randint(1, 4)))
        head, tail = ("".join(rng.choice(PIECES) for _ in range(rng.randint(0, 3))) for _ in range(2))
        rules = rng.choice(RULES)
        small, large = (seconds(head + unit * (size // len(unit)) + tail, rules) for size in (50_000, 400_000))
        assert large < 8 * 4 * max(small, 0.002), (head, unit, tail, rules, small, large)


def test_texts_of_forty_kinds_take_linear_time() -> None:
    grade_hostile_texts(seed=1, count=40)


@pytest.mark.torture
def test_texts_of_two_thousand_kinds_take_linear_time() -> None:
    grade_hostile_texts(seed=2, count=2000)
