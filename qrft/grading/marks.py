"""A sample's text in pieces: which of it are equations, right or wrong, and which is the answer."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import SequenceMatcher
from itertools import pairwise
from re import findall
from typing import NamedTuple

from qrft.grading import reference
from qrft.grading.reference import paper
from qrft.grading.rules import Rules

MOST = 20_000  # bytes of a text that are shown
MOST_WORDS = 4_000  # of a text that is compared: the time grows with their square


class Piece(NamedTuple):
    """A stretch of text. kind: "" for plain text, "right" or "wrong" for an equation, "answer", "only" for words that
    the other text lacks. told: what is wrong with the equation."""

    text: str
    kind: str = ""
    told: str = ""


def pieces(completion: str, rules: Rules, answer: tuple[int, int]) -> list[Piece]:
    """Return the text's pieces in order. answer: its span in bytes; negative for none."""
    data = completion.encode()
    shown = data[:MOST]
    found, at = [], 0
    for start, end, kind, told in sorted(_spans(shown, rules, answer)):
        if at <= start < end <= len(shown):
            found += [Piece(_text(shown[at:start])), Piece(_text(shown[start:end]), kind, told)]
            at = end
    rest = f" … ({len(data):,} bytes in all)" if len(data) > MOST else ""
    return [piece for piece in (*found, Piece(_text(shown[at:]) + rest)) if piece.text]


def _spans(data: bytes, rules: Rules, answer: tuple[int, int]) -> Iterator[tuple[int, int, str, str]]:
    yield (*answer, "answer", "")
    if rules.mode == "paper":
        at = 0
        for found in paper.find_equations(data):
            at = data.index(found, at)
            yield at, at + len(found), *_paper_verdict(found)
            at += len(found)
        return
    for equation in reference.find_equations(data, rules.equations, rules.traces):
        is_right = equation.status == "ok"
        yield equation.start, equation.end, "right" if is_right else "wrong", "" if is_right else equation.status


def _paper_verdict(equation: bytes) -> tuple[str, str]:
    is_right = paper.check_equation(equation.decode(errors="surrogateescape"))
    return ("right", "") if is_right else ("wrong", "wrong")


def _text(data: bytes) -> str:
    return data.decode(errors="replace")


def compared(first: str, second: str) -> tuple[list[Piece], list[Piece]]:
    """Return both texts with the words marked that the other one lacks."""
    a, b = (findall(r"\s+|\w+|[^\w\s]", text)[:MOST_WORDS] for text in (first, second))
    same = SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks()
    return _sides(a, [(one.a, one.size) for one in same]), _sides(b, [(one.b, one.size) for one in same])


def _sides(words: list[str], same: list[tuple[int, int]]) -> list[Piece]:
    found = []
    for (start, size), (following, _) in pairwise([(0, 0), *same, (len(words), 0)]):
        found += [Piece("".join(words[start : start + size])), Piece("".join(words[start + size : following]), "only")]
    return [piece for piece in found if piece.text]
