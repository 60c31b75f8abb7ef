"""The reference's selection: which of a problem's right paths are kept, and the distance that decides between them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from qrft.grading.reference.keys import murmur3
from qrft.grading.reference.numbers import as_bytes

MAX_CELLS = 2**40


def code_points(text: str | bytes) -> str:
    """Return the text as code points; an invalid byte of UTF-8 becomes a lone surrogate."""
    return as_bytes(text).decode("utf-8", "surrogateescape")


@lru_cache(maxsize=10_000)  # what is kept meets every row of its problem
def distance(a: str | bytes, b: str | bytes) -> int:
    """Return the Levenshtein distance in code points, by the textbook's table."""
    left, right = code_points(a), code_points(b)
    above = list(range(len(right) + 1))
    for row, x in enumerate(left, 1):
        current = [row]
        for column, y in enumerate(right, 1):
            current.append(min(above[column] + 1, current[-1] + 1, above[column - 1] + (x != y)))
        above = current
    return above[-1]


def curate(
    completions: Sequence[bytes],
    keys: Sequence[bytes],
    gold_key: bytes | None = None,
    keep: str = "farthest",
    max_per_problem: int | None = None,
    dedup: bool = True,
    max_cells: int | None = MAX_CELLS,
) -> list[str]:
    """Return the verdicts on a problem's eligible rows, in sample order. Mode paper: no gold key, no max_cells."""
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
    """Return the cost of a row: the sizes of the tables of distances for both sums."""
    lengths = {other_key: counted_length(completions[other]) for other_key, other in kept.items()}
    own = lengths.pop(key, 0)
    return (counted_length(completions[row]) + own) * sum(lengths.values())


def counted_length(text: bytes) -> int:
    """Return the length that counts: a comparison with a short text takes as long as with one of 64."""
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
