"""Sound paths: C against its twin, on made texts and on worked solutions."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence

import pytest
from helpers.jsonl import read_jsonl
from helpers.paths import published
from helpers.texts import ANY_TEXT, NUMBERS, QUICK, WIDE, piece
from hypothesis import given, settings
from hypothesis import strategies as st

from qrft import grading
from qrft.grading import reference
from qrft.grading.grader import SOUNDNESS
from qrft.grading.reference.known import WORDS

FEW = settings(QUICK, max_examples=15)  # of many rows each
RULES = [grading.Rules(), grading.Rules(equations="anywhere"), grading.Rules(answer_format="auto")]


def by_both(questions: Sequence[bytes | str], texts: Sequence[bytes | str], golds: Sequence[bytes | str]) -> list[str]:
    """Return what C says, which its twin must say too, by all RULES."""
    found: list[str] = []
    for rules in RULES:
        got = grading.grade(texts, golds, questions=questions, rules=rules)["soundness"].to_pylist()
        how = (rules.answer_format or "gsm8k", rules.marker, rules.equations, rules.traces)
        rows = zip(questions, texts, golds, strict=True)
        assert got == [reference.soundness_of(*row, *how) for row in rows]
        found += got
    return found


# ------------------------------------------------------------------------------------------------- made questions ----

SPOKEN = [*(name.decode() for name in WORDS), "and", "a", "s", "the", "Twenty", "HALF", "cats"]
JOINTS = [" ", "-", " ", "/", "%", " and a ", ".", ", ", "$", "\n", " / "]
QUESTION = st.lists(piece(SPOKEN, NUMBERS, NUMBERS, WIDE, JOINTS, JOINTS), max_size=24).map(b"".join)
SMALL = ["2", "3", "5", "6", "12", "0.5", ".25", "25", "75", "100", "1,000", "7", "3.5"]
STEPS = ["2+3=5", "5*3=15", "5 * 3=15", "15/2=7.5", "2*3=6", "6+6=12", "12/2=6", "7*2=14", "9=9", "5-2=3", "1/3=1/3"]


def written(steps: list[bytes], between: list[bytes], answer: bytes) -> bytes:
    return (
        b"".join(text + b"<<" + step + b">>" for text, step in zip(between, steps, strict=False)) + b"\n#### " + answer
    )


BETWEEN = piece(
    ["", " ", "x = ", "= $", "5", "15 of", " 2+3 = 5, ", "= 7.5 ", " = -6", "<think>1+1=2</think>", "2+2 = 5. "]
)
PATH = st.builds(
    written,
    st.lists(piece(STEPS), max_size=6),
    st.lists(BETWEEN, min_size=6, max_size=6),
    piece(["5", "6", "12", "14", "15", "7.5", "8", "3", "9", "1/3", "\\sqrt{2}"]),
)


@FEW
@given(st.lists(st.tuples(QUESTION, PATH), min_size=10, max_size=10))
def test_made_paths(rows: list[tuple[bytes, bytes]]) -> None:
    questions, texts = zip(*rows, strict=True)
    by_both(questions, texts, [text.rpartition(b"#### ")[2] for text in texts])


@QUICK
@given(st.lists(st.tuples(ANY_TEXT, ANY_TEXT), min_size=10, max_size=10))
def test_any_bytes(rows: list[tuple[bytes, bytes]]) -> None:
    questions, texts = zip(*rows, strict=True)
    by_both(questions, texts, texts)


@FEW
@given(st.lists(st.tuples(QUESTION, piece(SMALL), piece(SMALL)), min_size=20, max_size=20))
def test_what_a_question_says(rows: list[tuple[bytes, bytes, bytes]]) -> None:
    """A product of two numbers shows which are known."""
    texts = [b"<<" + a + b"*" + b + b"=(" + a + b"*" + b + b")>> #### " + a for _, a, b in rows]
    by_both([question for question, *_ in rows], texts, [a for _, a, _ in rows])


def test_every_status_is_met() -> None:
    from helpers.spec import examples

    assert {row[-1] for row in examples("sound paths")} | {"too_long"} == set(SOUNDNESS)


STEP, SUM = "<<2+3=5>>", "<<" + "+".join(["2"] * 32) + "=64>>"


@pytest.mark.parametrize(
    ("question", "text", "status"),
    [
        ("2", STEP * 64 + "#### 5", "repeated"),
        ("2", STEP * 65 + "#### 5", "too_long"),
        ("2", SUM + "#### 64", "sound"),
        ("2", SUM.replace("=64", "+2=66") + "#### 66", "too_long"),
        ("2", "x = 1 " * 127 + STEP + "#### 5", "sound"),
        ("2", "9 + x = 9 " * 128 + "9*2 = 18 #### 18", "too_long"),
        (" ".join(str(300 + n) for n in range(28)), "<<327*2=654>>#### 654", "sound"),
        (" ".join(str(300 + n) for n in range(29)), "<<327*2=654>>#### 654", "too_long"),
        ("999999999999 and 1000000000000", "<<999999999999*1=999999999999>>#### 999999999999", "sound"),
        ("1000000000000", "<<1000000000000*1=1000000000000>>#### 1000000000000", "unknown_number"),
        ("0.1234567", "<<0.1234569*2=0.2469138>>#### 0.2469138", "sound"),
    ],
)
def test_limits(question: str, text: str, status: str) -> None:
    gold = text.rpartition("#### ")[2]
    assert reference.soundness_of(question, text, gold) == status
    assert grading.grade([text], [gold], questions=[question])["soundness"].to_pylist() == [status]


def test_other_columns_stay() -> None:
    texts, golds = ["<<2+3=5>> #### 5", "no", "2+3 = 5 #### 5"], ["5", "5", "5"]
    with_it = grading.grade(texts, golds, questions=["2 3"] * 3)
    assert with_it.drop_columns("soundness").equals(grading.grade(texts, golds))


def test_paper_mode_judges_no_path() -> None:
    graded = grading.grade([STEP + "#### 5"], ["5"], questions=["2"], rules=grading.Rules(mode="paper"))
    assert graded["soundness"].to_pylist() == ["not_judged"]


def test_the_questions_must_be_row_aligned() -> None:
    with pytest.raises(ValueError, match="questions has 1 rows, but completions has 2"):
        grading.grade(["a", "b"], ["1", "2"], questions=["q"])


@pytest.mark.parametrize("unit", ["=5 ", "<<1+1=2>>", "0.5=", "seven ", "<<1+  2=3>>3 =4 ", "1/2 ", "= -$ "])
def test_long_texts_end_soon(unit: str) -> None:
    text = unit * (1_000_000 // len(unit)) + "\n#### 5"
    start = time.perf_counter()
    grading.grade([text], ["5"], questions=[text], rules=grading.Rules(equations="anywhere"))
    assert time.perf_counter() - start < 2


# --------------------------------------------------------------------------------------------- worked solutions ----


def solutions(count: int | None) -> list[dict[str, str]]:
    rows = read_jsonl(published("gsm8k/train.jsonl"))
    return rows if count is None else random.Random(0).sample(rows, count)


def test_few_worked_solutions_are_called_unsound() -> None:
    rows = solutions(None)
    texts, questions = [row["answer"] for row in rows], [row["question"] for row in rows]
    found = grading.grade(texts, [text.rpartition("####")[2] for text in texts], questions=questions)["soundness"]
    assert Counter(found.to_pylist())["sound"] > 0.95 * len(rows)


@pytest.mark.parametrize("count", [60, pytest.param(None, marks=pytest.mark.slow)])
def test_worked_solutions(count: int | None) -> None:
    """Also without their marks, and with lines in another order."""
    rows = solutions(count)
    questions, texts = [row["question"] for row in rows], [row["answer"] for row in rows]
    golds = [text.rpartition("####")[2] for text in texts]
    by_both(questions, texts, golds)
    by_both(questions, [text.replace("<<", " ").replace(">>", " ") for text in texts], golds)
    turned = ["\n".join(text.splitlines()[-2::-1]) + "\n####" + gold for text, gold in zip(texts, golds, strict=True)]
    by_both(questions, turned, golds)
