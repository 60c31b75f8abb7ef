"""Made-up and published texts with numbers and equations, for what reads them."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from helpers.jsonl import read_jsonl
from helpers.paths import published
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from qrft.grading import reference

# Without deadlines: on a busy machine any example may take long.
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))

# Pieces that meet in real solutions, and halves of them: joined at random they reach the corners of the grammar.
NUMBERS = ["0", "1", "2", "3", "7", "10", "12", "100", "0.5", ".25", "1,000", "0.33", "0.125", "05", "3.", "1e5"]
WIDE = ["170141183460469231731687303715884105727", "1000000007", "99999999999999999999", "0.0000000000000000001"]
SIGNS = ["+", "-", "−", "*", "x", "×", "/", "//", "÷", "(", ")", "%", "$", "€", "£", ",", ".", "=", "^", ":", "e"]
LAYOUT = [" ", "\u00a0", "\t", "\n", "\v", "\0", "####", "#", "#### ", "<<", ">>", "<", ">"]
WORDS = ["apples", "so", "é", "😀", "\ud800"]
JUNK = [b"\xff", b"\xe2\x88", b"\xc2", b"\xe2\x82", b"\xf0\x9f", b"\x80", b"\xed\xa0\x80", b"\x00"]


def piece(*sources: Sequence[str | bytes]) -> st.SearchStrategy[bytes]:
    return st.sampled_from([reference.as_bytes(text) for source in sources for text in source])


ANY_TEXT = st.one_of(
    st.lists(piece(NUMBERS, WIDE, SIGNS, LAYOUT, WORDS, JUNK), max_size=30).map(b"".join),
    st.binary(max_size=60),
    st.text(max_size=60).map(reference.as_bytes),
)
ANSWER = st.lists(piece(NUMBERS, NUMBERS, WIDE, SIGNS, [" ", "/", "apples"]), min_size=1, max_size=6).map(b"".join)
EXPRESSION = st.recursive(
    piece(NUMBERS, NUMBERS, NUMBERS, WIDE),
    lambda inner: st.one_of(
        st.tuples(inner, piece(["+", "-", "*", "/", " x ", "÷"]), inner).map(b"".join),
        inner.map(lambda text: b"(" + text + b")"),
        st.tuples(piece(["-", "$", "− "]), inner).map(b"".join),
        inner.map(lambda text: text + b"%"),
    ),
    max_leaves=6,
)
EQUATION = st.lists(EXPRESSION, min_size=1, max_size=3).map(b"=".join)


@st.composite
def rounded_equation(draw: st.DrawFn) -> bytes:
    """A quotient with its value, cut or rounded to a few decimals: the comparison's edge."""
    sign, n, d = (
        draw(st.sampled_from(["", "-"])),
        draw(st.integers(0, 999)),
        draw(st.sampled_from([2, 3, 7, 8, 16, 80])),
    )
    places, shift = draw(st.integers(0, 4)), draw(st.integers(-1, 1))
    percent = draw(st.booleans())
    units = abs(round(Fraction(n, d) * 10**places * (100 if percent else 1)) + shift)
    shown = f"{units // 10**places}.{units % 10**places:0{places}d}" if places else str(units)
    return f"{sign}{n}/{d}={sign}{shown}{'%' if percent else ''}".encode()


def solution(text: bytes, equation: bytes, answer: bytes) -> bytes:
    return text + b"<<" + equation + b">> #### " + answer


SOLUTION = st.builds(solution, ANY_TEXT, st.one_of(EQUATION, rounded_equation()), ANSWER)


def gsm8k(split: str) -> list[str]:
    """Return the worked solutions of a split of GSM8K, as published; skip the test where they are not at hand."""
    return [row["answer"] for row in read_jsonl(published(f"gsm8k/{split}.jsonl"))]


def fraction_of(value: bytes) -> Fraction | None:
    """Return the exact number that the core wrote as 32 bytes; None if it is none."""
    n, d = (int.from_bytes(value[i : i + 16], "little", signed=True) for i in (0, 16))
    return Fraction(n, d) if d else None
