"""Equations beyond the marked, exact default: powers, equations in running text, keys without operand order."""

from __future__ import annotations

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_core import NUMBERS, WIDE, piece

from qrft import core
from qrft.core import oracle

QUICK = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))


def statuses(equations: list[bytes]) -> list[str]:
    texts = [b"<<" + equation + b">>" for equation in equations]
    found: list[str] = core.grade(texts, [b"0"] * len(texts))["equations_status"].to_pylist()
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
    assert statuses(equations) == [oracle.check_equation(equation) for equation in equations]


def test_power_at_the_limit() -> None:
    """Every base with its largest exponent that fits, and the next."""
    for base in range(2, 300):
        exponent = max(n for n in range(1, 127) if base**n < 2**127)
        fits = f"{base}^{exponent}={base**exponent}".encode()
        inverse = f"{base}^-{exponent}=1/{base**exponent}".encode()
        over, under = (f"{base}^{sign}{exponent + 1}=1".encode() for sign in ("", "-"))
        assert statuses([fits, inverse, over, under]) == ["ok", "ok", "overflow", "overflow"]


@pytest.mark.parametrize("unit", ["9**", "2^", "2^-", "2^(", "(2)^"])
def test_endless_powers(unit: str) -> None:
    start = time.perf_counter()
    assert statuses([unit.encode() * 500_000 + b"1=1"]) == ["too_deep"]
    assert time.perf_counter() - start < 2
    assert oracle.check_equation(unit.encode() * 70 + b"1=1") == "too_deep"
