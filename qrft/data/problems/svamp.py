"""SVAMP: story problems that are simple variations of others, with bare answers (Patel et al. 2021, arXiv 2103.07191).

A row in its form:

    [{"ID": "chal-1", "Body": "Ann had 7 pears. She ate 3 pears", "Question": "How many pears does Ann have left?",
      "Equation": "( 7.0 - 3.0 )", "Answer": 4.0, "Type": "Subtraction"}, ...]
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from qrft.data import jsonl
from qrft.data.files import read_errors
from qrft.data.problems.problem_set import ProblemSet
from qrft.data.problems.table import joined, make_table
from qrft.errors import DataError

KEYS = ("ID", "Body", "Question", "Answer")
WAY_OUT = "Put SVAMP.json there as it was published."


def read(path: Path) -> pa.Table:
    """Return the problems of SVAMP.json, which may also have one object per line, as some projects ship it."""
    return make_table(((place, _fields(row, place)) for place, row in _rows(path)), path)


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    with read_errors(path):
        text = path.read_bytes()
    if not text.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
        yield from jsonl.objects(path, *KEYS)
        return
    try:
        rows = json.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not JSON in UTF-8 ({error}), expected a list of problems. {WAY_OUT}") from None
    for number, row in enumerate(rows, 1):
        yield f"{path}:{number}", row


def _fields(row: Any, place: str) -> dict[str, Any]:
    if not isinstance(row, dict) or not all(key in row for key in KEYS):
        found = f"the keys {', '.join(row)}" if isinstance(row, dict) else f"a {type(row).__name__}"
        raise DataError(f"{place}: found {found[:80]}, expected {', '.join(KEYS)}. {WAY_OUT}")
    return {"id": row["ID"], "question": joined(str(row["Body"]), str(row["Question"])), "answer": row["Answer"]}


SET = ProblemSet(splits=("test",), file="svamp/SVAMP.json", read=read)
