"""Samples from Parquet, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from qrft.errors import DataError
from qrft.files import read_errors
from qrft.samples.rows import Faults, Rows
from qrft.samples.spellings import Names, find_names

BATCH_ROWS = 16_384  # about as much text as a block of JSONL


def read(path: Path) -> Iterator[tuple[Callable[[], tuple[Rows, Faults]], int]]:
    """How to read each batch, and about the bytes of the file up to its end. Raises DataError for a wrong column."""
    with read_errors(path), pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
        names = find_names(file.schema_arrow.names, str(path))
        _check(file.schema_arrow, names, path)
        num_rows, row, size = file.metadata.num_rows, 0, path.stat().st_size
        wanted = [name for name in names if name]
        for batch in file.iter_batches(BATCH_ROWS, columns=wanted, use_threads=False):
            yield partial(_rows, batch, names, row + 1), size * (row + len(batch)) // num_rows
            row += len(batch)


def _check(schema: pa.Schema, names: Names, path: Path) -> None:
    expected = {
        "problem_id": (_is_id, "whole numbers or texts"),
        "completion": (_is_completion, "texts or lists of texts"),
        "sample_index": (pa.types.is_integer, "whole numbers"),
        "model": (_is_text, "texts"),
    }
    for name, (is_right, words) in zip(names, expected.values(), strict=True):
        if name and not is_right(schema.field(name).type):
            raise DataError(f"{path}: column {name} is {schema.field(name).type}, expected {words}.")


def _is_text(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    known = (pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view())
    return kind in known or pa.types.is_null(kind)


def _is_id(kind: Any) -> bool:
    return bool(pa.types.is_integer(kind)) or _is_text(kind)


def _is_list(kind: Any) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _is_completion(kind: Any) -> bool:
    return _is_text(kind.value_type if _is_list(kind) else kind)


def _rows(batch: pa.RecordBatch, names: Names, first: int) -> tuple[Rows, Faults]:
    ids, completions = batch[names.problem_id], batch[names.completion]
    nothing = pa.nulls(len(batch))
    rows = Rows(
        ids.cast(pa.int64()) if pa.types.is_integer(ids.type) else _texts(ids),
        _lists(completions) if _is_list(completions.type) else _texts(completions),
        (batch[names.sample_index] if names.sample_index else nothing).cast(pa.int64()),
        _texts(batch[names.model] if names.model else nothing),
        range(first, first + len(batch)),
    )
    return rows, Faults()


def _lists(column: pa.Array) -> pa.Array:
    """As lists with 32-bit offsets, of texts."""
    lists = column.cast(pa.list_(column.type.value_type))
    texts = _texts(lists.values)
    return pa.ListArray.from_arrays(lists.offsets, texts, mask=lists.is_null() if lists.null_count else None)


def _texts(column: pa.Array) -> pa.Array:
    """As large_string in valid UTF-8: a byte that is no part of it becomes U+FFFD, as everywhere in Python."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    try:
        texts = column.cast(pa.large_string())
        texts.validate(full=True)
        return texts
    except pa.ArrowException:
        raw = column.cast(pa.large_binary()).to_pylist()
        return pa.array([text if text is None else text.decode(errors="replace") for text in raw], pa.large_string())
