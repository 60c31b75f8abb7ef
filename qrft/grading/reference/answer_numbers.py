"""The reference's numbers of answers: literals, fractions, mixed numbers, powers."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from qrft.grading.reference.numbers import (
    DIGITS,
    MAX_PLACES,
    WIDE_SEPARATORS,
    Literal,
    add,
    is_in,
    literal_starts,
    multiply,
    power,
    read_literal,
    sign_at,
    skip_blanks,
)
from qrft.grading.reference.patterns import BLANKS, FRACTIONS, SIGN, SUPERSCRIPTS, TIMES, any_of, character, pattern


class Number(NamedTuple):
    """A number as it was read. Its value is None when it is too big, or when its denominator is 0."""

    end: int
    value: Fraction | None
    is_number: bool = True


class Fractional(NamedTuple):
    end: int
    numerator: Fraction | None
    denominator: Fraction | None


FRAC = pattern(r"\\(?-i: [dt]?frac )")
ARGUMENT = pattern(rf"{BLANKS} (?: (?P<digit> \d ) | \{{ {BLANKS} (?P<sign> {SIGN} )? {BLANKS} (?P<number> (?=\d) ) )")
CLOSE_ARGUMENT = pattern(rf"{BLANKS} \}}")
SUPERSCRIPT = rf"(?: (?: ⁻ )? {any_of(SUPERSCRIPTS)}+ )"
POWER = pattern(
    rf"""{BLANKS} (?: {TIMES} | \\(?-i: times | cdot )(?![a-z]) | · | ⋅ ) {BLANKS} 10
    (?: \^ (?: (?P<plain> {SIGN}?\d+ ) | \{{ (?P<braced> {SIGN}?\d+ ) \}} ) | (?P<raised> {SUPERSCRIPT} ) )"""
)
SUPERSCRIPT_HERE = pattern(SUPERSCRIPT)
EXPONENT = pattern(rf"e {SIGN}? \d+")


def read_whole(text: bytes, at: int) -> Literal | None:
    if not is_in(text, at, DIGITS):
        return None
    literal = read_literal(text, at, WIDE_SEPARATORS)
    return literal if literal.places == 0 else None


def read_argument(text: bytes, at: int, may_be_signed: bool) -> tuple[int, Fraction | None] | None:
    """Read the {3} or 3 of a \\frac: where it ends, and its value."""
    if (found := ARGUMENT.match(text, at)) is None or (found["sign"] and not may_be_signed):
        return None
    if found["digit"]:
        return found.end(), Fraction(int(found["digit"]))
    literal = read_whole(text, found.end())
    if literal is None or (close := CLOSE_ARGUMENT.match(text, literal.end)) is None:
        return None
    is_negative = found["sign"] not in (None, b"+")
    return close.end(), -literal.value if is_negative and literal.value is not None else literal.value


def read_frac(text: bytes, at: int) -> Fractional | None:
    if (found := FRAC.match(text, at)) is None:
        return None
    if (n := read_argument(text, found.end(), True)) is None or (d := read_argument(text, n[0], False)) is None:
        return None
    return Fractional(d[0], n[1], d[1])


def read_sign(text: bytes, at: int) -> Fractional | None:
    """Read a sign such as ½."""
    if (value := FRACTIONS.get(sign := character(text, at))) is None:
        return None
    return Fractional(at + len(sign.encode()), Fraction(value.numerator), Fraction(value.denominator))


def number_starts(text: bytes, at: int) -> bool:
    return literal_starts(text, at) or read_frac(text, at) is not None or read_sign(text, at) is not None


SLASHES = ("/", "⁄", "∕")


def read_slash(text: bytes, at: int) -> Fractional | None:
    """Read the 3/4 at `at`."""
    if (n := read_whole(text, at)) is None:
        return None
    slash = skip_blanks(text, n.end)
    if not (length := sign_at(text, slash, SLASHES)):
        return None
    d = read_whole(text, skip_blanks(text, slash + length))
    return Fractional(d.end, n.value, d.value) if d is not None else None


def read_proper(text: bytes, at: int) -> Fractional | None:
    """Read the 1/2 of "1 1/2", 1\\frac{1}{2} or 1½, from the end of the whole number on."""
    start = skip_blanks(text, at)
    fraction = read_frac(text, start) or read_sign(text, start)
    fraction = fraction or (read_slash(text, start) if start > at else None)
    if fraction is None or fraction.numerator is None or fraction.denominator is None:
        return fraction
    return fraction if 0 <= fraction.numerator < fraction.denominator else None


def quotient(whole: Fraction | None, fraction: Fractional) -> Number:
    if whole is None or fraction.numerator is None or fraction.denominator is None:
        return Number(fraction.end, None)
    if fraction.denominator == 0:
        return Number(fraction.end, None, False)
    return Number(fraction.end, add(whole, fraction.numerator / fraction.denominator))


def exponent_of(digits: str) -> int:
    """Return the value of a sign and digits; what is beyond 1,000 either way counts as that."""
    number = re.sub(r"\D", "", digits).lstrip("0") or "0"
    value = int(number) if len(number) <= 3 else 1000
    return value if digits[0].isdigit() or digits[0] == "+" else -value


def scale(value: Fraction | None, exponent: int) -> Fraction | None:
    if value is None or abs(exponent) > MAX_PLACES:
        return None
    return multiply(value, Fraction(10) ** exponent)


def raised(end: int, value: Fraction | None, exponent: int) -> Number:
    if value == 0 and exponent < 0:
        return Number(end, None, False)
    return Number(end, None if value is None else power(value, exponent))


def plain(superscripts: bytes) -> str:
    return superscripts.decode().translate(str.maketrans("⁻" + SUPERSCRIPTS, "-0123456789"))


def read_number(text: bytes, at: int) -> Number:
    if (frac := read_frac(text, at) or read_sign(text, at)) is not None:
        return quotient(Fraction(0), frac)
    literal = read_literal(text, at, WIDE_SEPARATORS)
    if (found := EXPONENT.match(text, literal.end)) is not None:
        return Number(found.end(), scale(literal.value, exponent_of(found[0][1:].decode())))
    if (found := POWER.match(text, literal.end)) is not None:
        digits = plain(found["plain"] or found["braced"] or found["raised"])
        return Number(found.end(), scale(literal.value, exponent_of(digits)))
    if (found := SUPERSCRIPT_HERE.match(text, literal.end)) is not None:
        return raised(found.end(), literal.value, exponent_of(plain(found[0])))
    if literal.places == 0 and (slash := read_slash(text, at)) is not None:
        return quotient(Fraction(0), slash)
    if literal.places == 0 and (proper := read_proper(text, literal.end)) is not None:
        return quotient(literal.value, proper)
    return Number(literal.end, literal.value)
