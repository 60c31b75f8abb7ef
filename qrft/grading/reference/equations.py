"""The reference's equations: the grammar of docs/semantics.md as a reader that computes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import NamedTuple

from qrft.grading.reference.numbers import (
    CURRENCIES,
    DIVIDE,
    MAX_PLACES,
    MINUS,
    PLUS,
    POWER,
    SPACES,
    TIMES,
    Literal,
    add,
    as_bytes,
    divide,
    literal_starts,
    multiply,
    power,
    read_literal,
    sign_at,
    skip,
    subtract,
)
from qrft.grading.reference.running_text import find_running
from qrft.grading.traces import Traces, stretches

MAX_DEPTH = 64

Operation = Callable[[Fraction, Fraction], Fraction | None]


class SyntaxFault(Exception):
    """Ends the reading of an equation; the argument is the status."""


class EquationReader:
    """Recursive descent over the grammar in docs/semantics.md, computing as it reads."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.at = 0
        self.depth = 0
        self.trouble = ""  # the first fault in arithmetic; after it nothing is computed
        self.num_operations = 0
        self.literal = Literal(0, None, 0, 0)
        self.is_percent = False

    def take(self, signs: Iterable[str]) -> bool:
        length = sign_at(self.text, self.at, signs)
        self.at += length
        return length > 0

    def skip_space(self) -> None:
        self.at = skip(self.text, self.at, SPACES)

    def note(self, trouble: str) -> None:
        self.trouble = self.trouble or trouble

    def compute(self, operation: Operation, a: Fraction, b: Fraction) -> Fraction:
        if self.trouble:
            return a
        if operation is divide and b == 0:
            self.note("division_by_zero")
            return a
        result = operation(a, b)
        if result is None:
            self.note("overflow")
            return a
        return result

    def compute_power(self, base: Fraction, exponent: Fraction) -> Fraction:
        if self.trouble:
            return base
        if exponent.denominator != 1:
            self.note("fractional_power")
        elif base == 0 and exponent < 0:
            self.note("division_by_zero")
        elif (result := power(base, exponent.numerator)) is not None:
            return result
        else:
            self.note("overflow")
        return base

    def read_sum(self) -> Fraction:
        value = self.read_product()
        while True:
            if self.take(PLUS):
                operation: Operation = add
            elif self.take(MINUS):
                operation = subtract
            else:
                return value
            self.num_operations += 1
            value = self.compute(operation, value, self.read_product())

    def read_product(self) -> Fraction:
        value = self.read_factor()
        while True:
            if self.take(TIMES):
                operation: Operation = multiply
            elif self.take(DIVIDE):
                operation = divide
            else:
                return value
            self.num_operations += 1
            value = self.compute(operation, value, self.read_factor())

    def read_factor(self) -> Fraction:
        negative = self.read_prefixes()
        value = self.read_primary()
        if self.take(POWER):
            value = self.compute_power(value, self.read_inside(self.read_factor))
        return -value if negative else value

    def read_primary(self) -> Fraction:
        value = self.read_operand()
        self.skip_space()
        self.is_percent = self.take("%")
        if self.is_percent:
            value = self.compute(divide, value, Fraction(100))
        else:
            self.take(CURRENCIES)
        self.skip_space()
        return value

    def read_prefixes(self) -> bool:
        negative = currency_seen = False
        while True:
            self.skip_space()
            if self.take(MINUS):
                negative = not negative
            elif not self.take(PLUS):
                if currency_seen or not self.take(CURRENCIES):
                    return negative
                currency_seen = True

    def read_operand(self) -> Fraction:
        if self.take("("):
            return self.read_brackets()
        if not literal_starts(self.text, self.at):
            raise SyntaxFault("malformed")
        self.literal = read_literal(self.text, self.at)
        self.at = self.literal.end
        if self.literal.places == 0:
            self.take(".")  # "5." is 5
        if self.literal.value is None:
            self.note("overflow")
        return self.literal.value or Fraction(0)

    def read_inside(self, read: Callable[[], Fraction]) -> Fraction:
        """Read what is inside a bracket or an exponent."""
        self.num_operations += 1
        if self.depth == MAX_DEPTH:
            raise SyntaxFault("too_deep")
        self.depth += 1
        value = read()
        self.depth -= 1
        return value

    def read_brackets(self) -> Fraction:
        value = self.read_inside(self.read_sum)
        if not self.take(")"):
            raise SyntaxFault("malformed")
        return value

    def read_part(self) -> Fraction:
        self.num_operations = 0
        return self.read_sum()

    def is_rounded(self, exact: Fraction, shown: Fraction) -> bool:
        """Return whether the number just read is `exact`, rounded to the decimals that it shows."""
        places = self.literal.places + (2 if self.is_percent else 0)
        if self.num_operations or self.literal.places == 0 or places > MAX_PLACES:
            return False
        error = subtract(exact, shown)
        if error is None:
            self.note("overflow")
            return False
        half = Fraction(1, 2 * 10**places)
        if abs(error) == half:
            return abs(shown) > abs(exact) or self.literal.last_digit % 2 == 0
        return abs(error) < half

    def read_equation(self) -> str:
        first, right, num_parts = self.read_part(), True, 1
        while self.take("="):
            part, num_parts = self.read_part(), num_parts + 1
            agrees = bool(self.trouble) or first == part or self.is_rounded(first, part)
            right = right and agrees
        if num_parts < 2 or self.at < len(self.text):
            raise SyntaxFault("malformed")
        return self.trouble or ("ok" if right else "wrong")


def check_equation(text: str | bytes) -> str:
    """Return the status of the text between << and >>."""
    text = as_bytes(text)
    if not text.strip(SPACES):
        return "empty"
    try:
        return EquationReader(text).read_equation()
    except SyntaxFault as fault:
        return str(fault.args[0])


class Equation(NamedTuple):
    """An equation: the span between << and >>, or up to the next << or the end when it is unclosed; its status."""

    start: int
    end: int
    status: str


def find_equations(text: str | bytes, source: str = "marked", traces: Traces | None = None) -> list[Equation]:
    """Return the equations in text order; with source "anywhere", those of running text too.

    Those inside traces do not count, unless `traces` says so.
    """
    text, found = as_bytes(text), []
    for start, end in counted(text, traces):
        inside = find_in_stretch(text[start:end], source)
        found += [Equation(start + one.start, start + one.end, one.status) for one in inside]
    return found


def counted(text: bytes, traces: Traces | None) -> list[tuple[int, int]]:
    """Return the spans of a text whose equations count."""
    return stretches(text, None if traces and traces.with_equations else traces).spans


def find_in_stretch(text: bytes, source: str) -> list[Equation]:
    equations: list[Equation] = []
    at, opening = 0, text.find(b"<<")
    while True:
        if source == "anywhere":
            stretch_end = opening if opening >= 0 else len(text)
            equations += [
                Equation(*span, check_equation(text[slice(*span)])) for span in find_running(text, at, stretch_end)
            ]
        if opening < 0:
            return equations
        start = opening + 2
        following, closing = text.find(b"<<", start), text.find(b">>", start)
        if closing >= 0 and (following < 0 or closing < following):
            equations.append(Equation(start, closing, check_equation(text[start:closing])))
            at, opening = closing + 2, text.find(b"<<", closing + 2)
        else:
            end = following if following >= 0 else len(text)
            equations.append(Equation(start, end, "unclosed"))
            at, opening = end, following


def equations_status(equations: Sequence[Equation]) -> str:
    return next((equation.status for equation in equations if equation.status != "ok"), "ok")
