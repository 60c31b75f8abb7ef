"""Problems in files of people's own, JSONL or Parquet, and in published files of the same form."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from qrft.data.problems.table import COLUMNS, make_table
from qrft.data.rows import read_rows


def read_file(path: Path, num_problems: int | None = None, *, needs_answers: bool = True) -> pa.Table:
    """Return the first problems of a file (None: all) as schema.PROBLEMS; qrft's own problems.parquet is such a file.

    Rows have "question" (or "problem") and "answer": a worked solution that ends in the answer as `gold.read_gold`
    finds it, or the bare answer, with the worked solution under "solution" where there is one. `problem_id`, `id` or
    `unique_id` names a problem; without any, its number among the rows, from 0. `cluster` names what it shares with
    others, such as the template they were made from. Unless `needs_answers`, a row may be a question alone. Raises
    DataError, with the file and the line, for what can't be read.
    """
    rows = read_rows(path, ("question", "answer"), COLUMNS)
    return make_table(rows, path, num_problems, needs_answers=needs_answers)
