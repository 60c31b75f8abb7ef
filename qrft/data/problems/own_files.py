"""Problems in files of people's own (JSONL, JSON, CSV, Parquet), and in published files of the same form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from qrft.data.problems.table import COLUMNS, make_table
from qrft.data.rows import read_rows
from qrft.errors import DataError

Columns = Mapping[str, str]  # by what a row is to have (question, answer, solution, id), the column that holds it


def read_file(
    path: Path, num_problems: int | None = None, columns: Columns | None = None, *, needs_answers: bool = True
) -> pa.Table:
    """Return the first problems of a file (None: all) as schema.PROBLEMS; qrft's own problems.parquet is such a file.

    Rows have "question" (or "problem") and "answer": a worked solution that ends in the answer as `gold.read_gold`
    finds it, or the bare answer, with the worked solution under "solution" where there is one. `problem_id`, `id` or
    `unique_id` names a problem; without any, its number among the rows, from 0. `cluster` names what it shares with
    others, such as the template they were made from. Unless `needs_answers`, a row may be a question alone. columns:
    other names that some of them have here. Raises DataError, with the file and the line, for what can't be read.
    """
    columns = columns or {}
    rows = read_rows(path, ("question", "answer"), (*COLUMNS, *columns.values()))
    return make_table(_renamed(rows, columns), path, num_problems, needs_answers=needs_answers)


def _renamed(rows: Iterator[tuple[str, dict[str, Any]]], columns: Columns) -> Iterator[tuple[str, dict[str, Any]]]:
    for place, row in rows:
        for name, column in columns.items():
            if column not in row:
                found = ", ".join(row)[:200] or "(none)"
                raise DataError(f"{place}: has no column {column!r}, which {name} names. It has {found}.")
        yield place, {**row, **{name: row[column] for name, column in columns.items()}}
