"""Arrow columns as C sees them: the part of the core's Python that knows cffi's memory.

A column of texts may be a `pa.Array` or `pa.ChunkedArray` of any string, binary or dictionary type, sliced or not, or
a list of str, bytes and None. Arrow memory is read in place. A null counts as an empty text.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from qrft.grading.native import ffi, lib

Texts: TypeAlias = "pa.Array | pa.ChunkedArray | Sequence[str | bytes | None]"


def names_of(name_of: Callable[[int], Any]) -> tuple[str, ...]:
    names: list[str] = []
    while (name := name_of(len(names))) != ffi.NULL:
        names.append(ffi.string(name).decode())
    return tuple(names)


def named(codes: npt.NDArray[np.uint8], names: tuple[str, ...]) -> pa.DictionaryArray:
    """Return the names of the codes, each stored once."""
    return pa.DictionaryArray.from_arrays(pa.array(codes.view(np.int8)), _array(names))


@cache
def _array(names: tuple[str, ...]) -> pa.StringArray:
    return pa.array(names)


def as_bytes(text: str | bytes | None) -> bytes:
    return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text or b""


def as_chunked(texts: Texts) -> pa.ChunkedArray:
    if isinstance(texts, pa.ChunkedArray):
        return texts
    if isinstance(texts, pa.Array):
        return pa.chunked_array([texts])
    if isinstance(texts, str | bytes):
        raise TypeError("expected a column of texts, found a single text. Put it into a list")
    return pa.chunked_array([pa.array([as_bytes(text) for text in texts], pa.large_binary())])


def as_plain(texts: pa.Array) -> pa.Array:
    """Return the same texts as one of the four types whose offsets C reads."""
    if pa.types.is_dictionary(texts.type):
        texts = texts.dictionary_decode()
    if pa.types.is_null(texts.type) or texts.type in (pa.string_view(), pa.binary_view()):
        texts = texts.cast(pa.large_binary())
    if texts.type not in (pa.string(), pa.large_string(), pa.binary(), pa.large_binary()):
        raise TypeError(f"expected a column of strings, found {texts.type}")
    return texts.fill_null(b"" if "binary" in str(texts.type) else "") if texts.null_count else texts


class Column:
    """A qrft_texts over an Arrow array, with what keeps its memory alive."""

    def __init__(self, texts: pa.Array) -> None:
        self._texts = as_plain(texts)
        _, offsets, data = self._texts.buffers()
        is_large = self._texts.type in (pa.large_string(), pa.large_binary())
        self.pointer = ffi.new("qrft_texts *", {"num_texts": len(self._texts)})
        if len(self._texts) == 0:
            offsets, data = pa.py_buffer(bytes(8)), None  # Arrow may leave out the offsets of an empty array
        start = self._texts.offset * (8 if is_large else 4) if len(self._texts) else 0
        setattr(
            self.pointer,
            "offsets64" if is_large else "offsets32",
            ffi.cast("int64_t *" if is_large else "int32_t *", offsets.address + start),
        )
        self.pointer.bytes = ffi.cast("uint8_t *", data.address if data is not None else 0)
        self._keep = (offsets, data)


def pieces(texts: pa.ChunkedArray) -> Iterator[tuple[Column, slice]]:
    row = 0
    for chunk in texts.chunks:
        yield Column(chunk), slice(row, row + len(chunk))
        row += len(chunk)


def pointer(array: npt.NDArray[Any] | None, c_type: str) -> Any:
    if array is None:
        return ffi.NULL
    return ffi.cast(c_type, array.ctypes.data)


def threads(num_threads: int | None) -> int:
    if num_threads is not None:
        return num_threads
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check(result: int) -> None:
    if result == lib.QRFT_NO_MEMORY:
        raise MemoryError("the C core could not get the memory that it needs. Pass fewer rows at once")


def same_length(num_rows: int, **columns: Any) -> None:
    for name, column in columns.items():
        if len(column) != num_rows:
            raise ValueError(f"{name} has {len(column)} rows, but completions has {num_rows}; they must be row-aligned")
