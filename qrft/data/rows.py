"""Rows of people's own files, JSONL or Parquet, each a dict with its place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from qrft.data import jsonl
from qrft.data.files import is_parquet, read_errors


def read_rows(path: Path, keys: Sequence[str], columns: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each row with its place, "file:line" or in Parquet "file:row", from 1.

    keys: what each row should have, which only the messages use. columns: those of a Parquet file that are read, where
    it has any of them. Raises DataError, with the file and the line, for what can't be read.
    """
    return _parquet(path, columns) if is_parquet(path) else jsonl.objects(path, *keys)


def _parquet(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    with read_errors(path), pq.ParquetFile(path) as file:
        known = [name for name in file.schema_arrow.names if name in columns]
        number = 0
        for batch in file.iter_batches(columns=known or None):
            for fields in batch.to_pylist():
                number += 1
                yield f"{path}:{number}", fields
