"""What the C core must decide, in slow and plain Python: docs/semantics.md, executable. The tests compare both.

Texts are bytes (str is encoded); all spans are in bytes. Nothing here is used where speed matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from qrft.core.oracle_equations import Equation, check_equation, equations_status, find_equations
from qrft.core.oracle_key import key_text
from qrft.core.oracle_numbers import (
    CURRENCIES,
    DIGITS,
    DIVIDE,
    MINUS,
    PLUS,
    SPACES,
    TIMES,
    Literal,
    add,
    as_bytes,
    is_in,
    literal_starts,
    read_literal,
    sign_at,
    skip,
    skip_blanks,
)

__all__ = [
    "Answer",
    "Equation",
    "Grade",
    "as_bytes",
    "check_equation",
    "curate",
    "distance",
    "equation_key",
    "equations_status",
    "find_answer",
    "find_equations",
    "grade",
    "murmur3",
    "parse_number",
]

DISTANCE_LIMIT = 16384

# ------------------------------------------------------------------------------------------------------ answers ----


class Answer(NamedTuple):
    status: str
    start: int = -1
    end: int = -1
    value: Fraction | None = None


def after_markers(text: bytes) -> list[int]:
    """The positions after each run of four or more #."""
    positions, at = [], text.find(b"#")
    while at >= 0:
        end = skip(text, at, b"#")
        if end - at >= 4:
            positions.append(end)
        at = text.find(b"#", end)
    return positions


def skip_prefixes(text: bytes, at: int) -> tuple[int, bool]:
    """Over blanks, at most one sign and at most one currency; and whether the sign negates."""
    negative = sign_seen = currency_seen = False
    while True:
        at = skip_blanks(text, at)
        if not sign_seen and (length := sign_at(text, at, PLUS + MINUS)):
            sign_seen, negative = True, text[at] != ord("+")
        elif not currency_seen and (length := sign_at(text, at, CURRENCIES)):
            currency_seen = True
        else:
            return at, negative
        at += length


def read_whole(text: bytes, at: int) -> Literal | None:
    if not is_in(text, at, DIGITS):
        return None
    literal = read_literal(text, at)
    return literal if literal.places == 0 else None


def read_denominator(text: bytes, at: int) -> Literal | None:
    at = skip_blanks(text, at)
    return read_whole(text, skip_blanks(text, at + 1)) if is_in(text, at, b"/") else None


def quotient(whole: Fraction | None, n: Fraction | None, d: Fraction | None) -> tuple[str, Fraction | None]:
    if whole is None or n is None or d is None:
        return "too_big", None
    if d == 0:
        return "not_a_number", None
    value = add(whole, Fraction(n, d))
    return ("ok", value) if value is not None else ("too_big", None)


def read_mixed(text: bytes, at: int) -> tuple[Literal, Literal] | None:
    """The 1/2 of "1 1/2", which must be a proper fraction."""
    start = skip_blanks(text, at)
    n = read_whole(text, start)
    if start == at or n is None or (d := read_denominator(text, n.end)) is None:
        return None
    if n.value is not None and d.value is not None and n.value >= d.value:
        return None
    return n, d


def read_number(text: bytes, at: int) -> tuple[str, Fraction | None, int]:
    literal = read_literal(text, at)
    if literal.places == 0:
        if (d := read_denominator(text, literal.end)) is not None:
            return *quotient(Fraction(0), literal.value, d.value), d.end
        if (mixed := read_mixed(text, literal.end)) is not None:
            return *quotient(literal.value, mixed[0].value, mixed[1].value), mixed[1].end
    return "ok" if literal.value is not None else "too_big", literal.value, literal.end


def is_part_of_more(text: bytes, end: int) -> bool:
    """Whether what follows makes the number a part of something else: 1.2.3, 1,00, 1e5, 10 - 3, 10:30."""
    if is_in(text, end, b".,"):
        return is_in(text, end + 1, DIGITS)
    if is_in(text, end, b"eE") and is_in(text, end + 1 + sign_at(text, end + 1, PLUS + MINUS), DIGITS):
        return True
    at = skip_blanks(text, end)
    length = sign_at(text, at, ("^", ":", *PLUS, *MINUS, *TIMES, *DIVIDE))
    return length > 0 and literal_starts(text, skip_blanks(text, at + length))


def rest_of_line(text: bytes, at: int) -> Answer:
    end = text.find(b"\n", at)
    end = len(text) if end < 0 else end
    start = min(skip(text, at, SPACES), end)
    while end > start and text[end - 1] in SPACES:
        end -= 1
    return Answer("not_a_number", start, end)


def read_after_marker(text: bytes, at: int) -> Answer | None:
    digits, negative = skip_prefixes(text, at)
    if not literal_starts(text, digits):
        return None
    status, value, end = read_number(text, digits)
    if status == "not_a_number" or is_part_of_more(text, end):
        return rest_of_line(text, at)
    if value is not None and negative:
        value = -value
    return Answer(status, skip_blanks(text, at), end, value)


def find_answer(text: str | bytes) -> Answer:
    text = as_bytes(text)
    markers = after_markers(text)
    for at in markers:
        if (answer := read_after_marker(text, at)) is not None:
            return answer
    return rest_of_line(text, markers[0]) if markers else Answer("no_marker")


def parse_number(text: str | bytes) -> Answer:
    text = as_bytes(text)
    at = skip(text, 0, SPACES)
    return read_after_marker(text, at) or rest_of_line(text, at)


# --------------------------------------------------------------------------------------------------------- keys ----

MASK = 2**64 - 1
C1, C2 = 0x87C37B91114253D5, 0x4CF5AD432745937F


def rotate(value: int, bits: int) -> int:
    return (value << bits | value >> (64 - bits)) & MASK


def finish(h: int) -> int:
    h = (h ^ h >> 33) * 0xFF51AFD7ED558CCD & MASK
    h = (h ^ h >> 33) * 0xC4CEB9FE1A85EC53 & MASK
    return h ^ h >> 33


def murmur3(data: bytes) -> bytes:
    """MurmurHash3, x64, 128 bits, seed 0."""
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


def equation_key(text: str | bytes, source: str = "marked", order: str = "exact") -> bytes:
    text = as_bytes(text)
    closed = [e for e in find_equations(text, source) if e.status != "unclosed"]
    parts = [key_text(text[e.start : e.end], e.status, order) + b"\n" for e in closed]
    return murmur3(b"".join(parts))


# -------------------------------------------------------------------------------------------------------- grade ----


class Grade(NamedTuple):
    """The columns of schema.GRADED."""

    answer_start: int
    answer_end: int
    status: str
    is_correct: bool
    num_equations: int
    equations_status: str
    equation_key: bytes


def grade(completion: str | bytes, gold_answer: str | bytes) -> Grade:
    answer, gold = find_answer(completion), parse_number(gold_answer)
    is_correct = answer.value is not None and answer.value == gold.value
    equations = find_equations(completion)
    return Grade(
        answer.start,
        answer.end,
        answer.status,
        is_correct,
        len(equations),
        equations_status(equations),
        equation_key(completion),
    )


# ------------------------------------------------------------------------------------------------------- curate ----


def code_points(text: str | bytes) -> str:
    """A byte that is no part of valid UTF-8 becomes a lone surrogate, so a code point of its own."""
    return as_bytes(text).decode("utf-8", "surrogateescape")[:DISTANCE_LIMIT]


def distance(a: str | bytes, b: str | bytes) -> int:
    """The Levenshtein distance, by the textbook's table."""
    left, right = code_points(a), code_points(b)
    above = list(range(len(right) + 1))
    for row, x in enumerate(left, 1):
        current = [row]
        for column, y in enumerate(right, 1):
            current.append(min(above[column] + 1, current[-1] + 1, above[column - 1] + (x != y)))
        above = current
    return above[-1]


def curate(
    completions: Sequence[bytes], keys: Sequence[bytes], gold_key: bytes | None = None, keep: str = "farthest"
) -> list[str]:
    """The verdicts on the eligible rows of one problem, in sample order."""
    kept: dict[bytes, int] = {}
    verdicts = ["duplicate"] * len(completions)
    for row, key in enumerate(keys):
        if key == gold_key:
            verdicts[row] = "duplicate_of_gold"
        elif key not in kept or (keep == "farthest" and is_farther(completions, row, kept, key)):
            kept[key] = row
    for row in kept.values():
        verdicts[row] = "kept"
    return verdicts


def is_farther(completions: Sequence[bytes], row: int, kept: dict[bytes, int], key: bytes) -> bool:
    others = [completions[other] for other_key, other in kept.items() if other_key != key]
    new, old = completions[row], completions[kept[key]]
    return sum(distance(new, other) for other in others) > sum(distance(old, other) for other in others)
