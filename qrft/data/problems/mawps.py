"""MAWPS: story problems of primary school, with bare answers (Koncel-Kedziorski et al. 2016).

Rows in its forms: as published, and as CSV, whose questions have places for their numbers:

    [{"iIndex": 1, "sQuestion": "Ann has 3.0 pears and buys 4.0 . How many has she ?", "lEquations": ["X=(3.0+4.0)"],
      "lSolutions": [7.0]}, ...]

    Question,Numbers,Equation,Answer
    Ann has N_00 pears and buys N_01 . How many has she ?,3.0 4.0,+ N_00 N_01,7.0
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from qrft.data.problems.problem_set import Hub, ProblemSet
from qrft.data.problems.table import Fields, make_table
from qrft.data.rows import read_rows
from qrft.errors import DataError

COLUMNS = ("sQuestion", "lSolutions", "Question", "Numbers", "Answer", "question", "final_ans")
PLACE = re.compile(r"\b(?:N_|number)(\d{1,2})\b")


def read(path: Path) -> pa.Table:
    """Return the problems of a file, or of the files of a folder one after the other, with bare answers."""
    return make_table(_rows(path), path)


def _rows(path: Path) -> Iterator[tuple[str, Fields]]:
    files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
    for file in files:
        for place, row in read_rows(file, ("sQuestion", "lSolutions"), COLUMNS):
            yield place, _fields(row, place)


def _fields(row: dict[str, Any], place: str) -> Fields:
    if "sQuestion" in row and row.get("lSolutions"):
        return {"question": row["sQuestion"], "answer": _plain(row["lSolutions"][0])}
    if "Numbers" in row and "Question" in row:
        numbers = [_plain(number) for number in row["Numbers"].split()]
        return {"question": _filled(row["Question"], numbers, place), "answer": _plain(row.get("Answer"))}
    if "final_ans" in row:
        return {"question": row.get("question"), "answer": row["final_ans"]}
    found = f"the keys {', '.join(row)}"[:80]
    raise DataError(f"{place}: found {found}, expected sQuestion and lSolutions. Put the file there as published.")


def _filled(question: str, numbers: list[str], place: str) -> str:
    try:
        return PLACE.sub(lambda found: numbers[int(found[1])], question)
    except IndexError:
        raise DataError(f"{place}: the question names more numbers than it has ({len(numbers)}).") from None


def _plain(number: Any) -> str:
    """Return 7.0 as 7."""
    return str(number).removesuffix(".0")


SET = ProblemSet(
    splits=("test",),
    file="mawps/MAWPS.json",
    read=read,
    hub={"test": Hub("mwpt5/MAWPS", ("MAWPS.csv",), "5769dc9a31ea36eaeaab1f1e0aa1a54b6c08d804")},
)
