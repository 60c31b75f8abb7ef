"""The C core against the reference on made texts, and its handling of Arrow columns."""

from __future__ import annotations

import random
import time

import numpy as np
import pyarrow as pa
import pytest
from helpers.commands import python, run_process
from helpers.texts import (
    ANSWER,
    ANY_TEXT,
    EQUATION,
    JUNK,
    LAYOUT,
    NUMBERS,
    QUICK,
    SIGNS,
    SOLUTION,
    WIDE,
    WORDS,
    fraction_of,
    gsm8k,
    rounded_equation,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from qrft import grading
from qrft.data import schema
from qrft.grading import reference

TEXTS = st.lists(st.one_of(ANY_TEXT, SOLUTION), min_size=12, max_size=12)

# ----------------------------------------------------------------------------------------- C against the reference ----


def assert_grades_agree(texts: list[bytes], golds: list[bytes]) -> None:
    expected = [reference.grade(text, gold)._asdict() for text, gold in zip(texts, golds, strict=True)]
    assert grading.grade(texts, golds).to_pylist() == expected


def assert_answers_agree(found: grading.Answers, expected: list[reference.Answer]) -> None:
    assert found.statuses.to_pylist() == [answer.status for answer in expected]
    assert found.starts.tolist() == [answer.start for answer in expected]
    assert found.ends.tolist() == [answer.end for answer in expected]
    # A value that does not count (cut short, too big) is none.
    values = [answer.value if answer.status == "ok" else None for answer in expected]
    assert [fraction_of(bytes(value)) for value in found.values] == values


def check_texts(texts: list[bytes], answers: list[bytes]) -> None:
    assert_grades_agree(texts, answers)
    assert_answers_agree(grading.extract_answers(texts), [reference.find_answer(text) for text in texts])
    assert_answers_agree(grading.parse_numbers(answers), [reference.parse_number(text) for text in answers])


@settings(QUICK, max_examples=200)
@given(TEXTS, st.lists(ANSWER, min_size=12, max_size=12))
def test_made_texts(texts: list[bytes], answers: list[bytes]) -> None:
    check_texts(texts, answers)


@pytest.mark.slow
@settings(QUICK, max_examples=17_000)
@given(TEXTS, st.lists(ANSWER, min_size=12, max_size=12))
def test_made_texts_at_length(texts: list[bytes], answers: list[bytes]) -> None:
    """200,000 texts."""
    check_texts(texts, answers)


@settings(QUICK, max_examples=200)
@given(st.lists(st.one_of(EQUATION, rounded_equation()), min_size=10, max_size=10))
def test_made_equations(equations: list[bytes]) -> None:
    assert_grades_agree([b"<<" + equation + b">>" for equation in equations], [b"0"] * len(equations))


@pytest.mark.parametrize("seed", range(3))
def test_random_pieces(seed: int) -> None:
    """Without hypothesis' leaning to small examples."""
    rng = random.Random(seed)
    pieces = [
        reference.as_bytes(text) for text in NUMBERS * 3 + WIDE + SIGNS * 2 + LAYOUT + WORDS + ["<<", ">>", "="] * 6
    ]
    texts = [b"".join(rng.choices(pieces + JUNK, k=rng.randrange(40))) for _ in range(2000)]
    assert_grades_agree(texts, [rng.choice(pieces) for _ in texts])


def test_hash_is_the_published_one() -> None:
    """Known values of MurmurHash3_x64_128, seed 0 (the first word, then the second)."""
    assert reference.murmur3(b"").hex() == "00" * 16
    digest = reference.murmur3(b"The quick brown fox jumps over the lazy dog")
    assert [f"{int.from_bytes(digest[i : i + 8], 'little'):016x}" for i in (0, 8)] == [
        "e34bbc7bbc071b6c",
        "7a433ca9c49a9347",
    ]


# ------------------------------------------------------------------------------------------------- Arrow columns ----

SAMPLES = ["<<1+1=2>> #### 2", "é #### 3", "", "#### 2", "none", "<<1+1=3>> #### 2"]
GOLDS = ["2", "3", "4", "5", "6", "2"]
TYPES = [pa.string(), pa.large_string(), pa.binary(), pa.large_binary(), pa.string_view()]


@pytest.mark.parametrize("text_type", TYPES, ids=str)
def test_column_types(text_type: pa.DataType) -> None:
    expected = grading.grade(SAMPLES, GOLDS)
    assert expected.schema == schema.GRADED
    expected.validate(full=True)
    whole = pa.array(SAMPLES, pa.string()).cast(text_type)
    sliced = pa.concat_arrays([whole[:2], whole])[2:]
    chunks = pa.chunked_array([whole[:1], whole[1:1], whole[1:4], whole[4:]])
    for column in (whole, sliced, chunks):
        assert grading.grade(column, GOLDS).equals(expected)
        assert grading.grade(column, pa.array(GOLDS).cast(text_type)).equals(expected)


def test_dictionary_columns() -> None:
    expected = grading.grade(SAMPLES, GOLDS)
    golds = pa.array(GOLDS).dictionary_encode()
    parts = pa.chunked_array([pa.array(GOLDS[:3]).dictionary_encode(), pa.array(GOLDS[3:]).dictionary_encode()])
    assert grading.grade(pa.array(SAMPLES).dictionary_encode(), golds).equals(expected)
    assert grading.grade(pa.chunked_array([pa.array(SAMPLES[:2]), pa.array(SAMPLES[2:])]), parts).equals(expected)
    assert grading.grade(SAMPLES[1:], pa.concat_arrays([golds])[1:]).equals(expected[1:])


def test_nulls_are_empty_texts() -> None:
    nulls = pa.array([None, "#### 1", None])
    assert grading.grade(nulls, ["1"] * 3)["status"].to_pylist() == ["no_marker", "ok", "no_marker"]
    assert grading.grade(nulls[1:], ["1"] * 2)["is_correct"].to_pylist() == [True, False]
    assert grading.grade([None], [None]).equals(grading.grade([b""], [""]))
    gold = pa.array(["1", None, "1"]).dictionary_encode()
    assert grading.grade(["#### 1"] * 3, gold)["is_correct"].to_pylist() == [True, False, True]
    assert grading.grade(pa.nulls(2), pa.nulls(2))["status"].to_pylist() == ["no_marker"] * 2


def test_empty_columns() -> None:
    for column in ([], pa.array([], pa.string()), pa.chunked_array([], pa.large_string())):
        assert grading.grade(column, column).num_rows == 0
        assert len(grading.extract_answers(column).starts) == 0
    no_gold = pa.chunked_array([], pa.dictionary(pa.int32(), pa.string()))
    assert grading.grade(pa.chunked_array([], pa.string()), no_gold).num_rows == 0


def test_threads_give_the_same() -> None:
    texts = pa.array(SAMPLES * 2000)
    golds = pa.array(GOLDS * 2000)
    alone = grading.grade(texts, golds, num_threads=1)
    for threads in (-1, 2, 7, 1000):
        assert grading.grade(texts, golds, num_threads=threads).equals(alone)


def test_caller_mistakes() -> None:
    with pytest.raises(ValueError, match="gold_answers has 1 rows, but completions has 6"):
        grading.grade(SAMPLES, ["2"])
    with pytest.raises(TypeError, match="found a single text"):
        grading.grade("#### 2", ["2"])
    with pytest.raises(TypeError, match="expected a column of strings, found int64"):
        grading.grade(pa.array([1]), ["1"])


def test_missing_native_module_says_what_to_do() -> None:
    code = "import sys; sys.modules['qrft.grading._native'] = None; from qrft.grading import grade"
    result = run_process(python(code), 1)
    assert "pip install ." in result.stderr.splitlines()[-1]


# ------------------------------------------------------------------------------------------------ size and speed ----

HUGE = 5_000_000
UNITS = {
    "opening brackets": b"(",
    "openings": b"<<",
    "markers": b"#### ",
    "markers and words": b"#### a ",
    "digits": b"9",
    "signs": b"-",
    "fractions": b"1/3+",
    "answers": b"#### 1/2 ",
    "invalid": b"\xe2\x88",
    "NUL": b"\0",
}


@pytest.mark.parametrize("name", UNITS)
def test_huge_texts(name: str) -> None:
    """Linear: 10 MB in a second or two, where anything quadratic would take hours."""
    body = (UNITS[name] * HUGE)[:HUGE]
    start = time.perf_counter()
    graded = grading.grade([body, b"<<" + body + b"=1>> #### " + body], ["1", "1"])
    assert time.perf_counter() - start < 10
    assert graded.num_rows == 2


def test_huge_text_in_the_reference_too() -> None:
    body = b"".join(b"Step %d: <<%d+1=%d>>.\n" % (i, i, i + 1) for i in range(4_000)) + b"#### 7"
    text = body + b" " * (HUGE // 8 - len(body))
    assert_grades_agree([text], [b"7"])


# --------------------------------------------------------------------------------------------------------- GSM8K ----


@pytest.mark.parametrize(("split", "num_equations"), [("train", 23716), ("test", 4282)])
def test_gsm8k_solutions(split: str, num_equations: int) -> None:
    solutions = gsm8k(split)
    golds = [text.split("####")[1] for text in solutions]
    graded = grading.grade(solutions, golds)
    assert np.all(graded["is_correct"].to_numpy())
    assert sum(graded["num_equations"].to_pylist()) == num_equations
    assert graded["equations_status"].to_pylist() == ["ok"] * len(solutions)
    sample = range(0, len(solutions), 7)  # the reference is slow
    assert graded.take(list(sample)).to_pylist() == [reference.grade(solutions[i], golds[i])._asdict() for i in sample]
