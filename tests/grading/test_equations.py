"""Equations beyond the marked, exact default: powers, equations in running text, keys without operand order."""

from __future__ import annotations

import math
import random
import re
import time
from fractions import Fraction

import pytest
from helpers.texts import NUMBERS, QUICK, WIDE, gsm8k, piece
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from qrft import grading
from qrft.grading import reference


def statuses(equations: list[bytes]) -> list[str]:
    texts = [b"<<" + equation + b">>" for equation in equations]
    found: list[str] = grading.grade(texts, [b"0"] * len(texts))["equations_status"].to_pylist()
    return found


# ---------------------------------------------------------------------------------------------------------- powers ----

BASES = piece(NUMBERS, NUMBERS, ["2", "-1", "(1/2)", "(0-3)", "$2", "10%", "1.05"], WIDE)
EXPONENTS = piece(["0", "1", "2", "3", "-1", "-2", "126", "127", "-127", "0.5", "(1/2)", "50%", "(6/3)", "99999999999"])
POWER = st.recursive(
    st.tuples(BASES, piece(["^", "**", " ^ ", " **"]), EXPONENTS).map(b"".join),
    lambda inner: st.one_of(
        st.tuples(inner, piece(["+", "*", "-", "/", "^", "**", " x "]), st.one_of(inner, BASES)).map(b"".join),
        st.tuples(piece(["-", "$", "2*", "("]), inner, piece(["", "%", ")"])).map(b"".join),
    ),
    max_leaves=4,
)


@QUICK
@given(st.lists(st.tuples(POWER, st.one_of(POWER, BASES)).map(b"=".join), min_size=10, max_size=10))
def test_powers(equations: list[bytes]) -> None:
    assert statuses(equations) == [reference.check_equation(equation) for equation in equations]


def test_power_at_the_limit() -> None:
    """Every base with its largest exponent that fits, and the next."""
    for base in range(2, 300):
        exponent = max(n for n in range(1, 127) if base**n < 2**127)
        fits = f"{base}^{exponent}={base**exponent}".encode()
        inverse = f"{base}^-{exponent}=1/{base**exponent}".encode()
        over, under = (f"{base}^{sign}{exponent + 1}=1".encode() for sign in ("", "-"))
        assert statuses([fits, inverse, over, under]) == ["ok", "ok", "overflow", "overflow"]


def test_sums_are_in_lowest_terms() -> None:
    """Of denominators with and without a common divisor, small ones and such of more than 64 bits."""
    numbers = [Fraction(n, d * scale) for n in (0, 1, 5, 9) for d in (1, 2, 3, 4, 6, 9) for scale in (1, 37**15)]
    sums = [(a, sign, b, a + b if sign == "+" else a - b) for a in numbers for b in numbers for sign in "+-"]
    assert statuses([f"({a}){sign}({b})=({total})".encode() for a, sign, b, total in sums]) == ["ok"] * len(sums)


@pytest.mark.parametrize("unit", ["9**", "2^", "2^-", "2^(", "(2)^"])
def test_endless_powers(unit: str) -> None:
    start = time.perf_counter()
    assert statuses([unit.encode() * 500_000 + b"1=1"]) == ["too_deep"]
    assert time.perf_counter() - start < 2
    assert reference.check_equation(unit.encode() * 70 + b"1=1") == "too_deep"


# -------------------------------------------------------------------------------------- running text and key order ----

RULES = [
    grading.Rules(equations="anywhere"),
    grading.Rules(order="commutative"),
    grading.Rules(equations="anywhere", order="commutative"),
]
SIGNS = ["+", "-", "*", "/", "x", "×", "÷", "−", "^", "**", "(", ")", "%", "$", "€", ",", ".", ":", "=", "=", "="]
MARKS = [
    "<<",
    ">>",
    "<",
    " ",
    " ",
    " ",
    "\t",
    "\n",
    "\u00a0",
    "\\times ",
    "\\(",
    "x ",
    "apples",
    "_",
    "e5",
    "é",
    "–",
    "{,}000",
    "\\,",
    "\0",
    "\udcff",
]
CHAIN = st.recursive(
    piece(["1", "2", "3", "12", "1,000", ".5", "$5", "7%", "2.", "(2)", "-3", "3^2"]),
    lambda inner: st.one_of(
        st.tuples(inner, piece(["+", " + ", "-", "*", "/", " x ", "x", "÷", "^", " - "]), inner).map(b"".join),
        inner.map(lambda text: b"(" + text + b")"),
    ),
    max_leaves=6,
)
RUNNING = st.one_of(
    st.lists(piece(NUMBERS, SIGNS, MARKS, SIGNS, NUMBERS), max_size=25).map(b"".join),
    st.lists(st.one_of(CHAIN, piece(SIGNS, MARKS, [" = ", "=", "=", "="])), max_size=9).map(b"".join),
    st.lists(CHAIN, min_size=2, max_size=3).map(b" = ".join),
    st.lists(CHAIN, min_size=2, max_size=3).map(lambda parts: b"so <<" + b"=".join(parts) + b">> " + b"=".join(parts)),
)


def check_by_rules(texts: list[bytes]) -> None:
    for rules in RULES:
        columns = grading.grade(texts, [b"0"] * len(texts), rules=rules)
        found = [reference.find_equations(text, rules.equations) for text in texts]
        assert columns["num_equations"].to_pylist() == [len(equations) for equations in found]
        assert columns["equations_status"].to_pylist() == [reference.equations_status(equations) for equations in found]
        running = [e for text, equations in zip(texts, found, strict=True) if b"<<" not in text for e in equations]
        assert "malformed" not in {equation.status for equation in running}
        keys = [reference.equation_key(text, rules.equations, rules.order) for text in texts]
        assert columns["equation_key"].to_pylist() == keys
        paths = [reference.path_of(text, rules.equations, rules.order) for text in texts]
        assert columns["path_source"].to_pylist() == [path.source for path in paths]


@QUICK
@given(st.lists(RUNNING, min_size=8, max_size=8))
def test_rules(texts: list[bytes]) -> None:
    check_by_rules(texts)


@pytest.mark.slow
@settings(QUICK, max_examples=20_000)
@given(st.lists(RUNNING, min_size=8, max_size=8))
def test_rules_at_length(texts: list[bytes]) -> None:
    check_by_rules(texts)


@pytest.mark.parametrize("seed", range(3))
def test_rules_on_random_pieces(seed: int) -> None:
    rng = random.Random(seed)
    pieces = [reference.as_bytes(text) for text in NUMBERS * 3 + SIGNS * 2 + MARKS + [" = ", " + "] * 9]
    check_by_rules([b"".join(rng.choices(pieces, k=rng.randrange(40))) for _ in range(1500)])


@QUICK
@given(st.lists(CHAIN, min_size=2, max_size=3))
def test_what_runs_is_judged_as_what_is_marked(parts: list[bytes]) -> None:
    """An equation that is found in running text gets the status and the key that it would have between marks."""
    text = b" = ".join(parts)
    marks = [b"<<" + text[found.start : found.end] + b">>" for found in reference.find_equations(text, "anywhere")]
    assume(marks)  # without any, the key is that of the words
    running, marked = grading.grade([text, b"".join(marks)], ["0"] * 2, rules=RULES[2]).to_pylist()
    assert running == marked and running["equations_status"] != "malformed"


# Sums of products of small numbers, of which every order of the operands is written.
TERM = st.lists(st.integers(1, 30).map(str), min_size=1, max_size=3)


@QUICK
@given(st.lists(TERM, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_order_of_operands_leaves_the_key(terms: list[list[str]], rng: random.Random) -> None:
    total = sum(math.prod(int(factor) for factor in term) for term in terms)

    def shuffled() -> str:
        products = ["*".join(rng.sample(term, len(term))) for term in terms]
        return f"<<({'+'.join(rng.sample(products, len(products)))})/2={total}/2>>"

    texts = [shuffled(), shuffled(), f"<<({total}+1)/2={total + 1}/2>>"]
    one, other, different = grading.grade(texts, ["0"] * 3, rules=RULES[1]).to_pylist()
    assert one["equations_status"] == "ok"
    assert one["equation_key"] == other["equation_key"] != different["equation_key"]


@pytest.mark.parametrize("length", [255, 256, 257, 5000])
def test_long_equations_keep_their_order(length: int) -> None:
    """More than 256 bytes without white space: the key takes the text as it is."""
    texts = [f"<<{text}{'0' * (length - 6)}=5>>" for text in ("3+2+", "2 + 3 + ")]
    keys = grading.grade(texts, ["0"] * 2, rules=RULES[1])["equation_key"].to_pylist()
    assert keys == [reference.equation_key(text, order="commutative") for text in texts]
    assert (keys[0] == keys[1]) == (length <= 256)


HUGE = 3_000_000
UNITS = [
    "(",
    "1+",
    "(1+",
    "1=",
    "(1=",
    "x ",
    "$ ",
    "1 ",
    "1+1=2 ",
    "1+1=2<<",
    "=",
    "\\a",
    "-",
    "1x",
    "1^",
    " ",
    "\n",
    ".",
    "9",
]


@pytest.mark.parametrize("unit", UNITS)
def test_huge_texts(unit: str) -> None:
    """Linear by every rule: what stands open, dangles or never ends is read once."""
    body = (unit * HUGE)[:HUGE]
    start = time.perf_counter()
    for rules in RULES:
        graded = grading.grade([body, f"<<{body}>>", f"2 + {body}"], ["0"] * 3, rules=rules)
    assert time.perf_counter() - start < 10
    assert graded.num_rows == 3


# ----------------------------------------------------------------------------------------------------------- GSM8K ----


@pytest.mark.parametrize("split", ["train", "test"])
def test_gsm8k_by_rules(split: str) -> None:
    solutions = gsm8k(split)
    check_by_rules([solution.encode() for solution in solutions[::50]])
    default = grading.grade(solutions, ["0"] * len(solutions))
    swapped = grading.grade([swap(text) for text in solutions], ["0"] * len(solutions), rules=RULES[1])
    sorted_keys = grading.grade(solutions, ["0"] * len(solutions), rules=RULES[1])["equation_key"]
    assert swapped["equation_key"].equals(sorted_keys)
    assert not swapped["equation_key"].equals(default["equation_key"])


def swap(solution: str) -> str:
    """Every equation of two operands with them changed about."""
    return re.sub(r"<<([\d.]+)([+*])([\d.]+)=", r"<<\3\2\1=", solution)
