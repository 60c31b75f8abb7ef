"""What a problem set is: where its problems come from, how they are read, and where solutions give the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from qrft.data.problems.own_files import read_file
from qrft.grading.rules import AnswerFormat


class Hub(NamedTuple):
    """Where problems are on the Hugging Face hub: a data set, its files, and one revision of it (None: the newest)."""

    name: str
    files: tuple[str, ...]
    revision: str | None = None


@dataclass(frozen=True)
class ProblemSet:
    """A published set has a `file`, a generated one `draw`.

    file: as it was published, inside the folder that QRFT_DATA names; a file or folder, where "{split}" is the split.
    read: makes schema.PROBLEMS of it; raises DataError for what can't be read. Where `hub` has several files for a
    split, it gets a folder of them.
    answer_format: where solutions of these problems give the answer, unless other rules are asked for.
    split_of: tells which split a problem is in by its id, where the file holds those of all splits.
    draw: the first so many problems of an endless split, from a seed, as rows of schema.PROBLEMS, which may have a
    `cluster`.
    """

    splits: tuple[str, ...]
    file: str | None = None
    read: Callable[[Path], pa.Table] = read_file
    answer_format: AnswerFormat = "gsm8k"
    hub: Mapping[str, Hub] = field(default_factory=dict)
    split_of: Callable[[str], str] | None = None
    draw: Callable[[str, int, int], Iterator[dict[str, str]]] | None = None
