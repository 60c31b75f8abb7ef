"""Rows of people's own files, each a dict with its place: JSONL, JSON, CSV or Parquet, by the end of the name."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from qrft.data import jsonl
from qrft.data.files import is_parquet, line_blocks, read_errors
from qrft.errors import DataError

Rows = Iterator[tuple[str, dict[str, Any]]]

DELIMITERS = {".csv": ",", ".tsv": "\t"}
MOST_JSON = 2**30  # bytes of a .json file, which is read whole; a larger one is read line by line


def read_rows(path: Path, keys: Sequence[str], columns: Sequence[str]) -> Rows:
    """Yield each row with its place, "file:line", or in Parquet and JSON arrays "file:row", from 1.

    keys: what each row should have, which only the messages use. columns: those of a Parquet file that are read, where
    it has any of them. Raises DataError, with the file and the line, for what can't be read.
    """
    if is_parquet(path):
        return _parquet(path, columns)
    if path.suffix in DELIMITERS:
        return _csv(path)
    if ".json" in path.suffixes[-2:] and (found := _json(path)) is not None:
        return found
    return jsonl.objects(path, *keys)


def _parquet(path: Path, columns: Sequence[str]) -> Rows:
    with read_errors(path), pq.ParquetFile(path) as file:
        known = [name for name in file.schema_arrow.names if name in columns]
        number = 0
        for batch in file.iter_batches(columns=known or None):
            for fields in batch.to_pylist():
                number += 1
                yield f"{path}:{number}", fields


def _csv(path: Path) -> Rows:
    """Yield the rows under a first line of names. An empty cell is none at all."""
    text = io.TextIOWrapper(io.BytesIO(_whole(path)), encoding="utf-8-sig", newline="")
    reader = csv.DictReader(text, delimiter=DELIMITERS[path.suffix])
    try:
        for fields in reader:
            if None in fields:
                raise DataError(
                    f"{path}:{reader.line_num}: has more cells than the first line. Quote the commas in it."
                )
            yield f"{path}:{reader.line_num}", {name: cell for name, cell in fields.items() if cell}
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}:{reader.line_num + 1}: is not CSV in UTF-8 ({error}). Correct the line.") from None


def _json(path: Path) -> Rows | None:
    """Return the objects of a JSON array, or the one object of a file; None for JSONL under the name .json."""
    with read_errors(path):
        if path.stat().st_size > MOST_JSON:
            return None
    data = _whole(path)
    try:
        value = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        if not data.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
            return None  # several lines, and of a bad one their reader tells
        raise DataError(f"{path}: is not JSON in UTF-8 ({error}), expected a list of objects. Correct it.") from None
    return _objects(path, value if isinstance(value, list) else [value])


def _objects(path: Path, values: Sequence[Any]) -> Rows:
    for number, value in enumerate(values, 1):
        if not isinstance(value, dict):
            raise DataError(f"{path}:{number}: found a {type(value).__name__}, expected a list of objects.")
        yield f"{path}:{number}", value


def _whole(path: Path) -> bytes:
    return b"".join(bytes(block) for block, _ in line_blocks(path, MOST_JSON))
