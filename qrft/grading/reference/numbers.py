"""The reference's basis: signs, decimal literals, and arithmetic in fractions of bounded size."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from math import gcd
from typing import NamedTuple

SPACES = b" \t\n\v\f\r"
WIDE_SPACES = tuple(map(chr, (0xA0, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000)))
BLANKS = (" ", "\t", *WIDE_SPACES)
DIGITS = b"0123456789"
MINUS = ("-", "\u2212")
PLUS = ("+",)
CURRENCIES = ("$", "\u20ac", "\u00a3", "\u00a5")
TIMES = ("*", "x", "X", "\u00d7")
DIVIDE = ("//", "/", "\u00f7")
POWER = ("**", "^")
SEPARATORS = (",\\!", "\\!,", "\\,", "{,}", ",")
WIDE_SEPARATORS = ("'", "\u2019", *WIDE_SPACES, *SEPARATORS)

LIMIT = 2**127
MAX_PLACES = 38


def as_bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")


def is_in(text: bytes, at: int, characters: bytes) -> bool:
    return at < len(text) and text[at] in characters


def skip(text: bytes, at: int, characters: bytes) -> int:
    while is_in(text, at, characters):
        at += 1
    return at


def sign_at(text: bytes, at: int, signs: Iterable[str]) -> int:
    """Return the length in bytes of the one of `signs` that stands at `at`, or 0."""
    for sign in signs:
        encoded = sign.encode()
        if text.startswith(encoded, at):
            return len(encoded)
    return 0


# ---- literals ----


class Literal(NamedTuple):
    """An unsigned decimal such as 1,234.50; `value` is None when it is too big."""

    end: int
    value: Fraction | None
    places: int
    last_digit: int


def skip_blanks(text: bytes, at: int) -> int:
    while length := sign_at(text, at, BLANKS):
        at += length
    return at


def literal_starts(text: bytes, at: int) -> bool:
    return is_in(text, at, DIGITS) or (is_in(text, at, b".") and is_in(text, at + 1, DIGITS))


def separator_at(text: bytes, at: int, separators: Iterable[str]) -> int:
    """Return the length of the thousands separator at `at` with exactly three digits after it, or 0."""
    length = sign_at(text, at, separators)
    return length if length and skip(text, at + length, DIGITS) == at + length + 3 else 0


def read_literal(text: bytes, at: int, separators: Iterable[str] = SEPARATORS) -> Literal:
    end = skip(text, at, DIGITS)
    whole, decimals = text[at:end], b""
    if 1 <= end - at <= 3 and not whole.startswith(b"0"):
        while length := separator_at(text, end, separators):
            end += length + 3
            whole += text[end - 3 : end]
    if is_in(text, end, b".") and is_in(text, end + 1, DIGITS):
        start, end = end + 1, skip(text, end + 1, DIGITS)
        decimals = text[start:end]
    return Literal(end, value_of(whole, decimals.rstrip(b"0")), len(decimals), text[end - 1] - ord("0"))


def value_of(whole: bytes, decimals: bytes) -> Fraction | None:
    digits = (whole + decimals).lstrip(b"0")
    if len(decimals) > MAX_PLACES or len(digits) > MAX_PLACES + 1:  # 10^39 > 2^127
        return None
    mantissa = int(digits or b"0")
    return Fraction(mantissa, 10 ** len(decimals)) if mantissa < LIMIT else None


# ---- bounded arithmetic ----


def bounded(*numbers: int) -> bool:
    return all(abs(number) < LIMIT for number in numbers)


def add(a: Fraction, b: Fraction) -> Fraction | None:
    """Return the sum over the least common denominator; None when an intermediate number reaches the limit."""
    common = a.denominator * b.denominator // gcd(a.denominator, b.denominator)
    left = a.numerator * (common // a.denominator)
    right = b.numerator * (common // b.denominator)
    return Fraction(left + right, common) if bounded(left, right, left + right, common) else None


def subtract(a: Fraction, b: Fraction) -> Fraction | None:
    return add(a, -b)


def multiply(a: Fraction, b: Fraction) -> Fraction | None:
    product = a * b
    return product if bounded(product.numerator, product.denominator) else None


def divide(a: Fraction, b: Fraction) -> Fraction | None:
    return multiply(a, 1 / b)


def power(base: Fraction, exponent: int) -> Fraction | None:
    if abs(exponent) >= LIMIT.bit_length() - 1 and base not in (-1, 0, 1):
        return None  # 2^127 or more, or 1 over that
    result = base**exponent
    return result if bounded(result.numerator, result.denominator) else None
