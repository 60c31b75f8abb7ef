r"""MATH: problems of mathematics competitions with worked solutions (Hendrycks et al. 2021, arXiv 2103.03874).

It was published as a folder of each split, with a folder of each subject, with a file of each problem:

    {"problem": "What is $3+4$?", "level": "Level 1", "type": "Prealgebra", "solution": "Adding, $3+4=\boxed{7}$."}

On the hub there is a Parquet file of each subject.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from qrft.data.problems.problem_set import Hub, ProblemSet
from qrft.data.problems.table import Fields, make_table
from qrft.data.rows import read_rows
from qrft.errors import DataError

KEYS = ("problem", "solution")
SPLITS = ("train", "test")
NAME = "EleutherAI/hendrycks_math"
SUBJECTS = (
    "algebra",
    "counting_and_probability",
    "geometry",
    "intermediate_algebra",
    "number_theory",
    "prealgebra",
    "precalculus",
)


def read(path: Path) -> pa.Table:
    """Return the problems of a split's folder, by subject and number. Their ids are such as algebra/12."""
    return make_table(_rows(path), path)


def _rows(path: Path) -> Iterator[tuple[str, Fields]]:
    files = [file for subject in SUBJECTS for file in sorted((path / subject).glob("*"), key=_number)]
    if not files:
        raise DataError(f"{path}: has no problems of {', '.join(SUBJECTS)}. Put the folder there as it was published.")
    for file in files:
        for number, (place, row) in enumerate(read_rows(file, KEYS, KEYS)):
            own = file.stem if file.suffix == ".json" else number
            yield place, {"id": f"{file.parent.name}/{own}", **{key: row.get(key) for key in KEYS}}


def _number(file: Path) -> tuple[int, str]:
    return (int(file.stem) if re.fullmatch(r"\d{1,9}", file.stem) else 0), file.name


SET = ProblemSet(
    splits=SPLITS,
    file="math/{split}",
    read=read,
    answer_format="boxed",
    hub={
        split: Hub(NAME, tuple(f"{subject}/{split}-00000-of-00001.parquet" for subject in SUBJECTS)) for split in SPLITS
    },
)
