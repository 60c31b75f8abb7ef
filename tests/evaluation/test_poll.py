"""Gold by vote: what wins, and what the winning answers are."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from helpers.spec import examples
from hypothesis import given
from hypothesis import strategies as st

from qrft import grading
from qrft.data.schema import PROBLEMS
from qrft.evaluation.poll import Poll, with_votes
from qrft.grading.rules import DEFAULT_RULES, Rules


def problems(*answers: str) -> pa.Table:
    rows = [{"problem_id": f"p{n}", "question": "?", "solution": "", "answer": a} for n, a in enumerate(answers)]
    return pa.Table.from_pylist(rows, schema=PROBLEMS)


def voted(answers: list[str], least: float, rules: Rules = DEFAULT_RULES, size: int = 3) -> tuple[str, int, int]:
    """Return what wins a single problem, with its votes, of samples that come in batches of `size`."""
    poll = Poll(problems(""), rules)
    for first in range(0, len(answers), size):
        texts = pa.chunked_array([pa.array(answers[first : first + size], pa.large_string())])
        poll.add(poll.read(np.zeros(len(texts), np.int64), texts))
    (row,) = poll.votes(least).to_pylist()
    return row["answer"], row["num_votes"], row["num_samples"]


@pytest.mark.parametrize(
    ("texts", "least", "won"),
    [
        (["#### 72", "#### 72.0", "#### $72", "#### 7"], 0.75, ("72", 3, 4)),
        (["#### 72", "#### 72.0", "#### $72", "#### 7"], 0.8, ("", 3, 4)),
        (["#### 1", "#### 2", "#### 1", "#### 2"], 0.5, ("", 2, 4)),  # a tie
        (["#### 1", "none", "none"], 0.5, ("", 1, 3)),  # what has no answer counts too
        (["#### 1", "none", "none"], 1 / 3, ("1", 1, 3)),
        (["none"], 0.1, ("", 0, 1)),
        ([r"#### \sqrt{2}", r"#### \sqrt{2}", "#### 1"], 0.5, (r"\sqrt{2}", 2, 3)),
    ],
)
def test_the_most_frequent_answer_wins_with_its_share(
    texts: list[str], least: float, won: tuple[str, int, int]
) -> None:
    assert voted(texts, least) == won


def test_only_problems_without_an_answer_vote() -> None:
    asked = problems("5", "", "")
    poll = Poll(asked, DEFAULT_RULES)
    texts = pa.chunked_array([["#### 6", "#### 7", "#### 7"]], pa.large_string())
    poll.add(poll.read(np.array([0, 1, 1]), texts))
    votes = poll.votes(0.5)
    assert votes["problem_id"].to_pylist() == ["p1", "p2"]
    assert votes["num_samples"].to_pylist() == [2, 0]
    assert with_votes(asked, votes)["answer"].to_pylist() == ["5", "7", ""]


@given(st.data())
def test_batches_make_no_difference(data: st.DataObject) -> None:
    texts = data.draw(st.lists(st.sampled_from(["#### 1", "#### 1.0", "#### 2", "#### 3", "-"]), min_size=1))
    least = data.draw(st.floats(0.1, 1))
    assert voted(texts, least, size=1) == voted(texts, least, size=len(texts))


def test_a_winner_makes_right_the_samples_that_voted_for_it() -> None:
    """The answer is the winner's text, which is read again: whatever the form, as the value that won."""
    for how, text, _, status, *_ in [["gsm8k", *row] for row in examples("answers")] + examples("formats"):
        marker = how.removeprefix("marker ") if how.startswith("marker ") else None
        rules = Rules(marker=marker) if marker else Rules(answer_format=how)  # type: ignore[arg-type]
        answer, num_votes, _ = voted([text], 1.0, rules)
        assert num_votes == (status in ("ok", "expression")), text
        if status == "ok":
            graded = grading.grade([text], [answer], rules=rules, num_threads=1)
            assert graded["is_correct"].to_pylist() == [True], (text, answer)
