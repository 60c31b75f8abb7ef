"""SVAMP: story problems that are simple variations of others, with bare answers (Patel et al. 2021, arXiv 2103.07191).

A row in its form:

    [{"ID": "chal-1", "Body": "Ann had 7 pears. She ate 3 pears", "Question": "How many pears does Ann have left?",
      "Equation": "( 7.0 - 3.0 )", "Answer": 4.0, "Type": "Subtraction"}, ...]
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from qrft.data.problems.problem_set import ProblemSet
from qrft.data.problems.table import joined, make_table
from qrft.data.rows import read_rows
from qrft.errors import DataError

KEYS = ("ID", "Body", "Question", "Answer")
WAY_OUT = "Put SVAMP.json there as it was published."


def read(path: Path) -> pa.Table:
    """Return the problems of SVAMP.json, which may also have one object per line, as some projects ship it."""
    return make_table(((place, _fields(row, place)) for place, row in read_rows(path, KEYS, KEYS)), path)


def _fields(row: dict[str, Any], place: str) -> dict[str, Any]:
    if not all(key in row for key in KEYS):
        found = f"the keys {', '.join(row)}"[:80]
        raise DataError(f"{place}: found {found}, expected {', '.join(KEYS)}. {WAY_OUT}")
    return {"id": row["ID"], "question": joined(str(row["Body"]), str(row["Question"])), "answer": row["Answer"]}


SET = ProblemSet(splits=("test",), file="svamp/SVAMP.json", read=read)
