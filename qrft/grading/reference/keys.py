"""The reference's keys: the MurmurHash3 of an equation list, whose texts are stripped of white space.

A text without equations has the key of those in its running text, or else of its words. If the rules say so, the
operands of + and * are sorted first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from qrft.grading.reference.equations import Equation, counted, find_equations
from qrft.grading.reference.numbers import (
    CURRENCIES,
    DIGITS,
    DIVIDE,
    MINUS,
    PLUS,
    POWER,
    SPACES,
    TIMES,
    as_bytes,
    sign_at,
)
from qrft.grading.traces import Traces

# --------------------------------------------------------------------------------------------------------- hash ----

MASK = 2**64 - 1
C1, C2 = 0x87C37B91114253D5, 0x4CF5AD432745937F


def rotate(value: int, bits: int) -> int:
    return (value << bits | value >> (64 - bits)) & MASK


def finish(h: int) -> int:
    h = (h ^ h >> 33) * 0xFF51AFD7ED558CCD & MASK
    h = (h ^ h >> 33) * 0xC4CEB9FE1A85EC53 & MASK
    return h ^ h >> 33


def murmur3(data: bytes) -> bytes:
    """Return the 16 bytes of MurmurHash3 (x64, 128 bits, seed 0), after Austin Appleby's published algorithm."""
    h1 = h2 = 0
    padded = data + bytes(16 - len(data) % 16)  # the last block is a tail, perhaps of no bytes
    for at in range(0, len(padded), 16):
        k1, k2 = (int.from_bytes(padded[i : i + 8], "little") for i in (at, at + 8))
        h1 ^= rotate(k1 * C1 & MASK, 31) * C2 & MASK
        if at + 16 < len(padded):
            h1 = ((rotate(h1, 27) + h2) * 5 + 0x52DCE729) & MASK
        h2 ^= rotate(k2 * C2 & MASK, 33) * C1 & MASK
        if at + 16 < len(padded):
            h2 = ((rotate(h2, 31) + h1) * 5 + 0x38495AB5) & MASK
    h1, h2 = h1 ^ len(data), h2 ^ len(data)
    h1 = (h1 + h2) & MASK
    h2 = (h2 + h1) & MASK
    h1, h2 = finish(h1), finish(h2)
    h1 = (h1 + h2) & MASK
    h2 = (h2 + h1) & MASK
    return h1.to_bytes(8, "little") + h2.to_bytes(8, "little")


# ------------------------------------------------------------------------------------------------- sorted operands ----

CAPACITY = 256
NOT_IN_GRAMMAR = ("malformed", "too_deep", "empty", "unclosed")


def split(text: bytes, signs: Iterable[str]) -> list[bytes]:
    """Return the operands and the binary operators between them, in turn; only `signs` outside brackets divide."""
    pieces, start, at, depth, after_operand = [], 0, 0, 0, False
    while at < len(text):
        power = sign_at(text, at, POWER)
        length = 0 if power or depth or not after_operand else sign_at(text, at, signs)
        if length:
            pieces += [text[start:at], text[at : at + length]]
            start = at + length
        depth += (text[at] == ord("(")) - (text[at] == ord(")"))
        length = length or power or sign_at(text, at, CURRENCIES) or 1
        if not sign_at(text, at, CURRENCIES):  # a currency before or after a number changes nothing
            after_operand = text[at] in DIGITS + b".,)%"
        at += length
    return [*pieces, text[start:]]


def arrange(text: bytes, signs: Iterable[str], swapping: Iterable[str], inner: Callable[[bytes], bytes]) -> bytes:
    """Return the text with its first operand and those after a sign of `swapping` sorted among their places."""
    pieces = split(text, signs)
    pieces[::2] = [inner(operand) for operand in pieces[::2]]
    places = [i for i in range(0, len(pieces), 2) if i == 0 or pieces[i - 1].decode() in swapping]
    for place, operand in zip(places, sorted(pieces[i] for i in places), strict=True):
        pieces[place] = operand
    return b"".join(pieces)


def sorted_sum(text: bytes) -> bytes:
    return arrange(text, PLUS + MINUS, PLUS, sorted_product)


def sorted_product(text: bytes) -> bytes:
    return arrange(text, TIMES + DIVIDE, TIMES, sorted_brackets)


def sorted_brackets(text: bytes) -> bytes:
    """Return a factor with what stands in its brackets sorted."""
    opening = text.find(b"(")
    if opening < 0:
        return text
    at, depth = opening + 1, 1
    while depth:
        depth += (text[at] == ord("(")) - (text[at] == ord(")"))
        at += 1
    inside = sorted_sum(text[opening + 1 : at - 1])
    return text[: opening + 1] + inside + b")" + sorted_brackets(text[at:])


# --------------------------------------------------------------------------------------------------------- keys ----


def key_text(equation: bytes, status: str, order: str) -> bytes:
    text = equation.translate(None, SPACES)
    if order == "exact" or status in NOT_IN_GRAMMAR or len(text) > CAPACITY:
        return text
    return b"=".join(sorted_sum(part) for part in text.split(b"="))


class Path(NamedTuple):
    key: bytes
    source: str  # what the key was made from


WORD = re.compile(rb"[0-9A-Za-z\x80-\xff+\-/=^%<>]+")


def path_of(text: str | bytes, source: str = "marked", order: str = "exact", traces: Traces | None = None) -> Path:
    """Return the key of the equations; of those in running text where there are none; of the words as a last resort."""
    text = as_bytes(text)
    if found := find_equations(text, source, traces):
        return Path(list_key(text, found, order), "equations")
    if found := find_equations(text, "anywhere", traces):
        return Path(list_key(text, found, order), "running_text")
    words = [word for start, end in counted(text, traces) for word in WORD.findall(text[start:end])]
    return Path(murmur3(b" ".join(words).lower()), "text")


def list_key(text: bytes, equations: Iterable[Equation], order: str) -> bytes:
    closed = [e for e in equations if e.status != "unclosed"]
    return murmur3(b"".join(key_text(text[e.start : e.end], e.status, order) + b"\n" for e in closed))


def equation_key(
    text: str | bytes, source: str = "marked", order: str = "exact", traces: Traces | None = None
) -> bytes:
    return path_of(text, source, order, traces).key
