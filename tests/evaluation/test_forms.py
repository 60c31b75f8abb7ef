"""Accuracy by the form of the answer, and what of a gain is form."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from qrft.evaluation.forms import NAMES, Shares, are_right
from qrft.grading import grade
from qrft.grading.paths import as_flags
from qrft.grading.rules import AnswerFormat, Rules
from qrft.pipeline.stages.evaluate import evaluate

ASKED = Rules(answer_format="gsm8k")
# By text: an answer in the asked form; right in it; right in any form; the last number right. The gold answer is 8.
TEXTS = {
    "5+3=8\n#### 8": (1, 1, 1, 1),
    "#### 8 of 9": (1, 1, 1, 0),
    "The answer is 8.": (0, 0, 1, 1),
    "That makes 8 apples": (0, 0, 1, 1),
    r"\boxed{8} of 9": (0, 0, 1, 0),
    "#### 9 or rather 8": (1, 0, 0, 1),
    "#### many": (0, 0, 0, 0),
    "no idea": (0, 0, 0, 0),
    "<think>8": (0, 0, 0, 0),
    "<think>#### 8</think>It is 9.": (0, 0, 0, 0),
}


def shares(texts: list[str], problem: list[int], rules: Rules) -> dict[str, list[float]]:
    """Of a table in two batches."""
    graded, gold = grade(texts, ["8"] * len(texts), rules=rules), pa.array(["8"] * len(texts)).dictionary_encode()
    with Shares(max(problem) + 1, rules, 1) as counted:
        for rows in (slice(0, 2), slice(2, None)):
            found = np.array(problem[rows]), pa.array(texts[rows], pa.large_string()), gold[rows], graded[rows]
            counted.add(*found)
    return {name: values.tolist() for name, values in counted.shares().items()}


def test_each_text_by_each_form() -> None:
    found = shares([*TEXTS], [*range(len(TEXTS))], ASKED)
    assert {text: tuple(found[name][row] for name in NAMES) for row, text in enumerate(TEXTS)} == TEXTS


@pytest.mark.parametrize("answer_format", ["last-number", "gsm8k"])
def test_the_last_number_is_compared_as_grade_compares(answer_format: AnswerFormat) -> None:
    texts = ["#### $1,000.0", "1000", "999", "", "#### 1/2", "half", r"\frac{1}{2}", "#### 0.5", "12 #### 13"]
    gold = pa.array(["1000", "1000", "1000", "1000", "0.5", "0.5", "1/2", r"\frac{1}{2}", "x"]).dictionary_encode()
    rules = Rules(answer_format=answer_format)
    expected = as_flags(grade(texts, gold, rules=rules)["is_correct"])
    assert are_right(texts, gold, rules, 1).tolist() == expected.tolist() and expected.any()


def test_a_problem_has_the_share_of_its_samples() -> None:
    found = shares(["#### 8", "It is 8", "no", "8", "#### 8"], [0, 0, 0, 2, 2], ASKED)
    assert found["strict"] == pytest.approx([1 / 3, 0, 1 / 2]) and found["flexible"] == pytest.approx([2 / 3, 0, 1])


@pytest.mark.parametrize("rules", [Rules(marker="Final:"), Rules(mode="paper"), Rules(answer_format="last-number")])
def test_whatever_form_was_asked_for(rules: Rules) -> None:
    found = shares(["Final: 8", "The answer is: 8", "#### 9"], [0, 1, 2], rules)
    assert found["flexible"] == found["last_number"] == [1, 1, 0]
    is_last = rules.answer_format == "last-number"
    assert found["strict"] == ([1, 1, 0] if is_last else [1, 0, 0] if rules.marker else found["strict"])


def test_the_parts_of_a_gain_add_up_to_it() -> None:
    strict = {"sft": np.array([0.0, 0, 1, 1, 0]), "rft": np.array([1.0, 1, 1, 0, 0])}
    flexible = {"sft": np.array([1.0, 0, 1, 1, 0]), "rft": np.array([1.0, 1, 1, 1, 0])}
    result = evaluate(strict, flexible)
    parts = {name: part["difference"] for name, part in result["gain_by"].items()}
    assert parts == pytest.approx({"right": 1 / 5, "form": 0.0}) and sum(parts.values()) == pytest.approx(1 / 5)
    assert result["gain"]["difference"] == pytest.approx(1 / 5)
    assert all(part["low"] <= part["difference"] <= part["high"] for part in result["gain_by"].values())
    same = evaluate({**strict, "rft": flexible["sft"]}, {**flexible, "rft": flexible["sft"]})["gain_by"]
    assert same["right"]["difference"] == 0 and same["form"]["difference"] == pytest.approx(1 / 5)
