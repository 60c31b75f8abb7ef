"""Problems in files of people's own, JSONL or Parquet, and in published files of the same form."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from qrft.data import jsonl
from qrft.data.files import is_parquet, read_errors
from qrft.data.problems.table import COLUMNS, make_table


def read_file(path: Path, num_problems: int | None = None) -> pa.Table:
    """Return the first problems of a file (None: all) as schema.PROBLEMS; qrft's own problems.parquet is such a file.

    Rows have "question" (or "problem") and "answer": a worked solution that ends in the answer as `gold.read_gold`
    finds it, or the bare answer, with the worked solution under "solution" where there is one. `problem_id`, `id` or
    `unique_id` names a problem; without any, its number among the rows, from 0. Raises DataError, with the file and
    the line, for what can't be read.
    """
    rows = _parquet_rows(path) if is_parquet(path) else jsonl.objects(path, "question", "answer")
    return make_table(rows, path, num_problems)


def _parquet_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with read_errors(path):
        table = pq.read_table(path)
    kept = table.select([name for name in COLUMNS if name in table.column_names])
    for number, row in enumerate(kept.to_pylist(), 1):
        yield f"{path}:{number}", row
