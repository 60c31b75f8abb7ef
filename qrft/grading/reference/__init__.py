"""What the C core must decide, in slow and plain Python: docs/semantics.md, executable. The tests compare both.

Texts are bytes (str is encoded); all spans are in bytes. Nothing here is used where speed matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from qrft.grading.reference.answers import Answer, find_answer, parse_number
from qrft.grading.reference.equations import Equation, check_equation, equations_status, find_equations
from qrft.grading.reference.keys import key_text
from qrft.grading.reference.numbers import as_bytes

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


def grade(
    completion: str | bytes,
    gold_answer: str | bytes,
    answer_format: str = "gsm8k",
    marker: str | bytes | None = None,
    equations: str = "marked",
    order: str = "exact",
) -> Grade:
    """In mode "default"; for mode "paper" see oracle_paper."""
    answer = find_answer(completion, answer_format, marker)
    gold = parse_number(gold_answer, answer_format, marker)
    is_correct = answer.value is not None and answer.value == gold.value
    found = find_equations(completion, equations)
    return Grade(
        answer.start,
        answer.end,
        answer.status,
        is_correct,
        len(found),
        equations_status(found),
        equation_key(completion, equations, order),
    )


# ------------------------------------------------------------------------------------------------------- curate ----


def code_points(text: str | bytes) -> str:
    """A byte that is no part of valid UTF-8 becomes a lone surrogate, so a code point of its own."""
    return as_bytes(text).decode("utf-8", "surrogateescape")


@lru_cache(maxsize=10_000)  # what is kept meets every row of its problem
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


MAX_CELLS = 2**40


def curate(
    completions: Sequence[bytes],
    keys: Sequence[bytes],
    gold_key: bytes | None = None,
    keep: str = "farthest",
    max_per_problem: int | None = None,
    dedup: bool = True,
    max_cells: int | None = MAX_CELLS,
) -> list[str]:
    """The verdicts on the eligible rows of one problem, in sample order. Mode paper: no gold key, no max_cells."""
    chosen = range(len(keys)) if not dedup else choose(completions, keys, gold_key, keep, max_cells)
    verdicts = ["duplicate_of_gold" if dedup and key == gold_key else "duplicate" for key in keys]
    for place, row in enumerate(sorted(chosen)):
        verdicts[row] = "kept" if max_per_problem is None or place < max_per_problem else "over_limit"
    return verdicts


def choose(
    completions: Sequence[bytes], keys: Sequence[bytes], gold_key: bytes | None, keep: str, max_cells: int | None
) -> list[int]:
    kept: dict[bytes, int] = {}
    num_cells = 0
    for row, key in enumerate(keys):
        if key == gold_key:
            continue
        if keep == "farthest":
            num_cells += num_cells_of(completions, row, kept, key)
        if key not in kept:
            kept[key] = row
        elif max_cells is not None and num_cells > max_cells:
            continue
        elif is_better(completions, row, kept, key, keep):
            kept[key] = row
    return list(kept.values())


def num_cells_of(completions: Sequence[bytes], row: int, kept: dict[bytes, int], key: bytes) -> int:
    """What the row costs: the sizes of the tables of distances for both sums."""
    lengths = {other_key: counted_length(completions[other]) for other_key, other in kept.items()}
    own = lengths.pop(key, 0)
    return (counted_length(completions[row]) + own) * sum(lengths.values())


def counted_length(text: bytes) -> int:
    """A comparison with a short text takes as long as with one of 64."""
    return max(64, len(code_points(text)))


def is_better(completions: Sequence[bytes], row: int, kept: dict[bytes, int], key: bytes, keep: str) -> bool:
    new, old = completions[row], completions[kept[key]]
    if keep == "farthest":
        others = [completions[other] for other_key, other in kept.items() if other_key != key]
        return sum(distance(new, other) for other in others) > sum(distance(old, other) for other in others)
    if keep == "random":
        return first_word(murmur3(new)) < first_word(murmur3(old))
    return (keep == "shortest" and len(new) < len(old)) or (keep == "longest" and len(new) > len(old))


def first_word(hashed: bytes) -> int:
    return int.from_bytes(hashed[:8], "little")
