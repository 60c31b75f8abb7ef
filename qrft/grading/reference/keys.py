"""The oracle's equation texts in keys: without white space and, by rule, with the operands of + and * in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from qrft.grading.reference.numbers import CURRENCIES, DIGITS, DIVIDE, MINUS, PLUS, POWER, SPACES, TIMES, sign_at

CAPACITY = 256
NOT_IN_GRAMMAR = ("malformed", "too_deep", "empty", "unclosed")


def split(text: bytes, signs: Iterable[str]) -> list[bytes]:
    """Operands and the binary operators between them, in turn; only `signs` outside of brackets divide."""
    pieces, start, at, depth, after_operand = [], 0, 0, 0, False
    while at < len(text):
        power = sign_at(text, at, POWER)
        length = 0 if power or depth or not after_operand else sign_at(text, at, signs)
        if length:
            pieces += [text[start:at], text[at : at + length]]
            start = at + length
        depth += (text[at] == ord("(")) - (text[at] == ord(")"))
        length = length or power or sign_at(text, at, CURRENCIES) or 1
        if not sign_at(text, at, CURRENCIES):  # a currency before a number or behind it changes nothing
            after_operand = text[at] in DIGITS + b".,)%"
        at += length
    return [*pieces, text[start:]]


def arrange(text: bytes, signs: Iterable[str], swapping: Iterable[str], inner: Callable[[bytes], bytes]) -> bytes:
    """The operands after a sign of `swapping`, and the first, sorted among their places."""
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
    """A factor, with what stands in its brackets sorted."""
    opening = text.find(b"(")
    if opening < 0:
        return text
    at, depth = opening + 1, 1
    while depth:
        depth += (text[at] == ord("(")) - (text[at] == ord(")"))
        at += 1
    inside = sorted_sum(text[opening + 1 : at - 1])
    return text[: opening + 1] + inside + b")" + sorted_brackets(text[at:])


def key_text(equation: bytes, status: str, order: str) -> bytes:
    text = equation.translate(None, SPACES)
    if order == "exact" or status in NOT_IN_GRAMMAR or len(text) > CAPACITY:
        return text
    return b"=".join(sorted_sum(part) for part in text.split(b"="))
