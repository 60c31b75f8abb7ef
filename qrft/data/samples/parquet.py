"""Samples from Parquet, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from qrft.data.files import read_errors
from qrft.data.samples.rows import Faults, Rows, as_scores
from qrft.data.samples.spellings import Names, find_names
from qrft.data.whole_numbers import whole_column
from qrft.errors import DataError
from qrft.grading.rules import NO_VERDICTS, Verdicts

BATCH_ROWS = 16_384  # some MB of text, as in a block of JSONL
BATCH_LISTS = 256  # of up to hundreds of texts


def read(path: Path, verdicts: Verdicts = NO_VERDICTS) -> Iterator[tuple[Callable[[], tuple[Rows, Faults]], int]]:
    """Yield how to read each batch, and about the bytes up to its end. Raises DataError for a wrong column."""
    with (
        read_errors(path),
        pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20, page_checksum_verification=True) as file,
    ):
        names = find_names(file.schema_arrow.names, str(path), verdicts)
        _check(file.schema_arrow, names, path)
        num_rows, row, size = file.metadata.num_rows, 0, path.stat().st_size
        wanted = [name for name in names if name]
        is_list = _is_list(file.schema_arrow.field(names.completion).type)
        for batch in file.iter_batches(BATCH_LISTS if is_list else BATCH_ROWS, columns=wanted, use_threads=False):
            yield partial(_rows, batch, names, row + 1), size * (row + len(batch)) // num_rows
            row += len(batch)


def _check(schema: pa.Schema, names: Names, path: Path) -> None:
    expected = {
        "problem_id": (_is_id, "whole numbers or texts"),
        "completion": (_is_completion, "texts or lists of texts"),
        "sample_index": (_is_number, "whole numbers"),
        "model": (_is_text, "texts"),
        "ending": (_is_completion, "texts or lists of texts"),
        "verdict": (_is_verdict, "true and false or numbers, or lists of them"),
    }
    for name, (is_right, words) in zip(names, expected.values(), strict=True):
        if name and not is_right(schema.field(name).type):
            raise DataError(f"{path}: column {name} is {schema.field(name).type}, expected {words}.")


def _is_text(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    known = (pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view())
    return kind in known or pa.types.is_null(kind)


def _is_number(kind: Any) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _is_id(kind: Any) -> bool:
    return _is_number(kind) or _is_text(kind)


def _is_list(kind: Any) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _is_completion(kind: Any) -> bool:
    return _is_text(kind.value_type if _is_list(kind) else kind)


def _is_verdict(kind: Any) -> bool:
    kind = kind.value_type if _is_list(kind) else kind
    return _is_number(kind) or bool(pa.types.is_boolean(kind) or pa.types.is_null(kind))


def _rows(batch: pa.RecordBatch, names: Names, first: int) -> tuple[Rows, Faults]:
    ids, completions = batch[names.problem_id], batch[names.completion]
    nothing = pa.nulls(len(batch))
    rows = Rows(
        _texts(whole_column(ids)),
        _listed_or_plain(completions),
        _indexes(batch[names.sample_index] if names.sample_index else nothing),
        _texts(batch[names.model] if names.model else nothing),
        _listed_or_plain(batch[names.ending] if names.ending else nothing),
        as_scores(batch[names.verdict] if names.verdict else nothing),
        range(first, first + len(batch)),
    )
    return rows, Faults()


def _indexes(column: pa.Array) -> pa.Array:
    """Return the indexes as int64. A float that is no whole number becomes -1, which is out of INDEXES."""
    if not pa.types.is_floating(column.type):
        return column.cast(pa.int64(), safe=False)
    lacks = pc.or_kleene(column.is_null(), pc.is_nan(column))
    return pc.if_else(lacks, pa.scalar(None, pa.int64()), whole_column(column).fill_null(-1))


def _texts(column: pa.Array) -> pa.Array:
    """Return a column as large_string in valid UTF-8: an invalid byte becomes U+FFFD."""
    column = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
    texts = _cast(column, pa.large_string())
    if texts is None:
        texts = pa.array([_decoded(text) for text in column.cast(pa.large_binary()).to_pylist()], pa.large_string())
    return texts


def _listed_or_plain(column: pa.Array) -> pa.Array:
    return _lists(column) if _is_list(column.type) else _texts(column)


def _lists(column: pa.Array) -> pa.Array:
    """Do the same as `_texts` inside lists."""
    kind = pa.list_(pa.large_string())
    lists = _cast(column, kind)
    if lists is None:
        raw = column.cast(pa.list_(pa.large_binary())).to_pylist()
        lists = pa.array([texts if texts is None else [_decoded(text) for text in texts] for texts in raw], kind)
    return lists


def _cast(column: pa.Array, kind: Any) -> pa.Array | None:
    """Return None for invalid UTF-8. Arrow trusts columns of strings, so they are checked too."""
    try:
        texts = column.cast(kind)
        texts.validate(full=True)
        return texts
    except pa.ArrowInvalid:
        return None


def _decoded(text: bytes | None) -> str | None:
    return None if text is None else text.decode(errors="replace")
