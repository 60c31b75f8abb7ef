"""What a reader passes on: rows as they are in the file, and those that could not be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

SHOWN_FAULTS = 5
INDEXES = range(2**31)  # what a sample_index may be: the tables hold 32 bits


@dataclass
class Faults:
    """Rows that could not be read: how many, and what is wrong with the first ones."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, message: str) -> None:
        self.count += 1
        if len(self.first) < SHOWN_FAULTS:
            self.first.append(message)

    def extend(self, other: Faults) -> None:
        self.count += other.count
        self.first.extend(other.first[: SHOWN_FAULTS - len(self.first)])


class Rows(NamedTuple):
    """What a reader found, row-aligned. A null id or completion, or an index out of INDEXES, is a fault of that row."""

    ids: pa.Array  # int64 or large_string
    completions: pa.Array  # large_string, or lists of them: the samples of one problem
    indexes: pa.Array  # int64; null where there is none
    models: pa.Array  # large_string; null where there is none
    endings: pa.Array  # large_string, or lists of them beside lists of completions; null where none is told
    verdicts: pa.Array  # float64: 1 or 0 of is_correct, or a score; or lists of them; null where none is told
    numbers: range | npt.NDArray[np.int64]  # the row's line (JSONL) or row (Parquet), from 1


Pieces = Iterator[tuple[Callable[[], tuple[Rows, Faults]], int]]  # how to read each, and the bytes up to its end


def as_scores(column: pa.Array) -> pa.Array:
    """Return verdicts as float64, or as lists of them."""
    is_list = pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
    return column.cast(pa.list_(pa.float64()) if is_list else pa.float64(), safe=False)
