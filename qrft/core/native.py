"""Arrow columns in, Arrow columns and numpy arrays out: the only module that knows cffi.

A column of texts may be a `pa.Array` or `pa.ChunkedArray` of any string, binary or dictionary type, sliced or not, or
a list of str, bytes and None. Arrow memory is read where it lies. A null counts as an empty text.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from qrft.schema import GRADED

try:
    from qrft.core._native import ffi, lib
except ImportError as error:
    raise ImportError(
        f"The C core of qrft can't be loaded ({error}). Build and install it: run `pip install .` in the root of the "
        "repository (for development: `pip install -e . --no-build-isolation`)."
    ) from error

GRADER_VERSION = 1
"""Raised whenever docs/semantics.md changes a result; it enters the digests of the stages that grade."""

Texts: TypeAlias = "pa.Array | pa.ChunkedArray | Sequence[str | bytes | None]"
Keep: TypeAlias = Literal["farthest", "first"]

KEY_BYTES = 16
VALUE_BYTES = 32

_OK = lib.QRFT_EQUATION_OK
_KEEP = {"first": lib.QRFT_KEEP_FIRST, "farthest": lib.QRFT_KEEP_FARTHEST}

# Rows that C does not look at get the numbers after its own.
_VERDICTS = ("kept", "duplicate", "duplicate_of_gold", "incorrect", "bad_equation")
_INCORRECT, _BAD_EQUATION = 3, 4


class Answers(NamedTuple):
    """One entry a text. Spans are in bytes, -1 for none. Equal values are equal bytes; zero bytes stand for none."""

    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    statuses: pa.StringArray
    values: npt.NDArray[np.void]


# ------------------------------------------------------------------------------------------------------ columns ----


def _names(name_of: Callable[[int], Any]) -> list[str]:
    names: list[str] = []
    while (name := name_of(len(names))) != ffi.NULL:
        names.append(ffi.string(name).decode())
    return names


ANSWER_STATUSES = tuple(_names(lib.qrft_answer_status_name))
EQUATION_STATUSES = tuple(_names(lib.qrft_equation_status_name))


def _named(codes: npt.NDArray[np.uint8], names: Sequence[str]) -> pa.StringArray:
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int8)), pa.array(names)).cast(pa.string())


def _as_bytes(text: str | bytes | None) -> bytes:
    return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text or b""


def _as_chunked(texts: Texts) -> pa.ChunkedArray:
    if isinstance(texts, pa.ChunkedArray):
        return texts
    if isinstance(texts, pa.Array):
        return pa.chunked_array([texts])
    if isinstance(texts, str | bytes):
        raise TypeError("expected a column of texts, found a single one; put it into a list")
    return pa.chunked_array([pa.array([_as_bytes(text) for text in texts], pa.large_binary())])


def _as_plain(texts: pa.Array) -> pa.Array:
    """The same texts as one of the four types whose offsets C reads."""
    if pa.types.is_dictionary(texts.type):
        texts = texts.dictionary_decode()
    if pa.types.is_null(texts.type) or texts.type in (pa.string_view(), pa.binary_view()):
        texts = texts.cast(pa.large_binary())
    if texts.type not in (pa.string(), pa.large_string(), pa.binary(), pa.large_binary()):
        raise TypeError(f"expected a column of strings, found {texts.type}")
    return texts.fill_null(b"" if "binary" in str(texts.type) else "") if texts.null_count else texts


class _Column:
    """A qrft_texts over an Arrow array, with what keeps its memory alive."""

    def __init__(self, texts: pa.Array) -> None:
        self._texts = _as_plain(texts)
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


def _pieces(texts: pa.ChunkedArray) -> Iterator[tuple[_Column, slice]]:
    row = 0
    for chunk in texts.chunks:
        yield _Column(chunk), slice(row, row + len(chunk))
        row += len(chunk)


def _pointer(array: npt.NDArray[Any] | None, c_type: str) -> Any:
    if array is None:
        return ffi.NULL
    return ffi.cast(c_type, array.ctypes.data)


def _threads(num_threads: int | None) -> int:
    if num_threads is not None:
        return num_threads
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check(result: int) -> None:
    if result == lib.QRFT_NO_MEMORY:
        raise MemoryError("the C core could not get the memory that it needs; pass fewer rows at once")


def _same_length(num_rows: int, **columns: Any) -> None:
    for name, column in columns.items():
        if len(column) != num_rows:
            raise ValueError(f"{name} has {len(column)} rows, but completions has {num_rows}; they must be row-aligned")


# ------------------------------------------------------------------------------------------------------ answers ----


class _AnswerArrays:
    def __init__(self, num_rows: int) -> None:
        self.starts = np.empty(num_rows, np.int64)
        self.ends = np.empty(num_rows, np.int64)
        self.statuses = np.empty(num_rows, np.uint8)
        self.values = np.empty((num_rows, VALUE_BYTES), np.uint8)

    def struct(self, rows: slice) -> Any:
        fields = {
            "starts": _pointer(self.starts[rows], "int64_t *"),
            "ends": _pointer(self.ends[rows], "int64_t *"),
            "statuses": _pointer(self.statuses[rows], "uint8_t *"),
            "values": _pointer(self.values[rows], "qrft_value *"),
        }
        return ffi.new("qrft_answers *", fields)

    def public(self) -> Answers:
        values = self.values.view(f"V{VALUE_BYTES}").reshape(-1)
        return Answers(self.starts, self.ends, _named(self.statuses, ANSWER_STATUSES), values)


def _read_answers(function: Any, texts: pa.ChunkedArray, num_threads: int | None) -> _AnswerArrays:
    arrays = _AnswerArrays(len(texts))
    for column, rows in _pieces(texts):
        _check(function(column.pointer, _threads(num_threads), arrays.struct(rows)))
    return arrays


def extract_answers(completions: Texts, *, num_threads: int | None = None) -> Answers:
    """The answer of each text: the number after the first #### that is followed by one."""
    return _read_answers(lib.qrft_answers_extract, _as_chunked(completions), num_threads).public()


def parse_numbers(texts: Texts, *, num_threads: int | None = None) -> Answers:
    """Each text as what would follow a ####, such as the gold answers "72" or "$1,000"."""
    return _read_answers(lib.qrft_numbers_parse, _as_chunked(texts), num_threads).public()


# -------------------------------------------------------------------------------------------------------- grade ----


class _GradeArrays:
    def __init__(self, num_rows: int) -> None:
        self.starts = np.empty(num_rows, np.int64)
        self.ends = np.empty(num_rows, np.int64)
        self.answer_statuses = np.empty(num_rows, np.uint8)
        self.is_correct = np.empty(num_rows, np.uint8)
        self.num_equations = np.empty(num_rows, np.int32)
        self.equation_statuses = np.empty(num_rows, np.uint8)
        self.keys = np.empty((num_rows, KEY_BYTES), np.uint8)

    def struct(self, rows: slice) -> Any:
        fields = {
            "answer_starts": _pointer(self.starts[rows], "int64_t *"),
            "answer_ends": _pointer(self.ends[rows], "int64_t *"),
            "answer_statuses": _pointer(self.answer_statuses[rows], "uint8_t *"),
            "is_correct": _pointer(self.is_correct[rows], "uint8_t *"),
            "num_equations": _pointer(self.num_equations[rows], "int32_t *"),
            "equation_statuses": _pointer(self.equation_statuses[rows], "uint8_t *"),
            "equation_keys": _pointer(self.keys[rows], "uint8_t *"),
        }
        return ffi.new("qrft_grades *", fields)

    def table(self) -> pa.Table:
        keys = pa.Array.from_buffers(pa.binary(KEY_BYTES), len(self.keys), [None, pa.py_buffer(self.keys)])
        columns = [
            pa.array(self.starts),
            pa.array(self.ends),
            _named(self.answer_statuses, ANSWER_STATUSES),
            pa.array(self.is_correct.astype(np.bool_)),
            pa.array(self.num_equations),
            _named(self.equation_statuses, EQUATION_STATUSES),
            keys,
        ]
        return pa.table(columns, schema=GRADED)


def _gold_index(gold: pa.ChunkedArray) -> tuple[pa.ChunkedArray, npt.NDArray[np.int64] | None]:
    """The distinct gold texts and each row's place among them; None: one text a row, in order."""
    if not pa.types.is_dictionary(gold.type):
        return gold, None
    whole = gold.unify_dictionaries().combine_chunks()
    if isinstance(whole, pa.ChunkedArray):  # what older pyarrow returns for dictionaries
        whole = pa.concat_arrays(whole.chunks) if whole.num_chunks else pa.array([], gold.type)
    index = whole.indices.cast(pa.int64()).fill_null(-1)
    return pa.chunked_array([whole.dictionary]), index.to_numpy(zero_copy_only=False)


def _grade(
    completions: pa.ChunkedArray, gold: _AnswerArrays, index: npt.NDArray[np.int64] | None, num_threads: int | None
) -> _GradeArrays:
    arrays = _GradeArrays(len(completions))
    for column, rows in _pieces(completions):
        golds = gold.struct(rows if index is None else slice(None))
        places = _pointer(None if index is None else index[rows], "int64_t *")
        _check(lib.qrft_texts_grade(column.pointer, golds, places, _threads(num_threads), arrays.struct(rows)))
    return arrays


def grade(completions: Texts, gold_answers: Texts, *, num_threads: int | None = None) -> pa.Table:
    """Grades each completion against the gold answer of its row; the table follows schema.GRADED.

    A gold answer is what stands after the gold solution's ####. A dictionary column of them is parsed once a value.
    """
    texts = _as_chunked(completions)
    gold_texts = _as_chunked(gold_answers)
    _same_length(len(texts), gold_answers=gold_texts)
    values, index = _gold_index(gold_texts)
    gold = _read_answers(lib.qrft_numbers_parse, values, num_threads)
    return _grade(texts, gold, index, num_threads).table()


def equation_keys(texts: Texts, *, num_threads: int | None = None) -> npt.NDArray[np.uint8]:
    """The keys of the texts' equation lists, shape (n, 16)."""
    column = _as_chunked(texts)
    nothing_gold = np.full(len(column), -1, np.int64)
    return _grade(column, _AnswerArrays(0), nothing_gold, num_threads).keys


# ------------------------------------------------------------------------------------------------------- curate ----


def _one_chunk(texts: pa.ChunkedArray) -> pa.Array:
    """Rows of a problem lie anywhere in the column, so C needs it in one piece; several chunks are copied."""
    if texts.num_chunks == 1:
        return texts.chunk(0)
    plain = [_as_plain(chunk).cast(pa.large_binary()) for chunk in texts.chunks]
    return pa.concat_arrays(plain) if plain else pa.array([], pa.large_binary())


def _flag(column: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    flags: npt.NDArray[np.bool_] = column.combine_chunks().to_numpy(zero_copy_only=False).astype(np.bool_)
    return flags


def _key_rows(column: pa.ChunkedArray) -> npt.NDArray[np.uint8]:
    keys = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], pa.binary(KEY_BYTES))
    if len(keys) == 0:
        return np.empty((0, KEY_BYTES), np.uint8)
    flat = np.frombuffer(keys.buffers()[1], np.uint8).reshape(-1, KEY_BYTES)
    return np.ascontiguousarray(flat[keys.offset : keys.offset + len(keys)])


class _Groups:
    """The rows by problem, each problem's in the order of the table."""

    def __init__(self, problem_ids: Any, gold_texts: Texts | None, num_threads: int | None) -> None:
        ids = problem_ids if isinstance(problem_ids, pa.ChunkedArray) else pa.chunked_array([pa.array(problem_ids)])
        codes = _codes(ids)
        counts = np.bincount(codes)
        self.order = np.argsort(codes, kind="stable").astype(np.int64)
        self.offsets = np.concatenate([[0], np.cumsum(counts[counts > 0])]).astype(np.int64)
        self.gold_keys = None if gold_texts is None else self._keys_of(_as_chunked(gold_texts), num_threads)

    def _keys_of(self, gold_texts: pa.ChunkedArray, num_threads: int | None) -> npt.NDArray[np.uint8]:
        first_rows = pa.array(self.order[self.offsets[:-1]])
        return equation_keys(gold_texts.take(first_rows), num_threads=num_threads)

    def struct(self) -> Any:
        fields = {
            "order": _pointer(self.order, "int64_t *"),
            "group_offsets": _pointer(self.offsets, "int64_t *"),
            "gold_keys": _pointer(self.gold_keys, "uint8_t *"),
            "num_groups": len(self.offsets) - 1,
        }
        return ffi.new("qrft_groups *", fields)


def _codes(ids: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """A number a distinct id; rows without an id form a problem of their own, number 0."""
    encoded = ids if pa.types.is_dictionary(ids.type) else pc.dictionary_encode(ids)
    parts = [chunk.indices.cast(pa.int64()).fill_null(-1) for chunk in encoded.unify_dictionaries().chunks]
    whole = pa.concat_arrays(parts) if parts else pa.array([], pa.int64())
    codes: npt.NDArray[np.int64] = whole.to_numpy(zero_copy_only=False) + 1
    return codes


def _verdict_codes(
    texts: pa.ChunkedArray, groups: _Groups, graded: pa.Table, keep: Keep, num_threads: int | None
) -> npt.NDArray[np.uint8]:
    is_correct = _flag(graded["is_correct"])
    is_sound = _flag(pc.equal(graded["equations_status"], EQUATION_STATUSES[_OK]))
    eligible = (is_correct & is_sound).astype(np.uint8)
    codes = np.where(is_correct, _BAD_EQUATION, _INCORRECT).astype(np.uint8)
    keys = _key_rows(graded["equation_key"])
    column = _Column(_one_chunk(texts))
    pointers = [_pointer(array, "uint8_t *") for array in (eligible, keys, codes)]
    _check(
        lib.qrft_paths_curate(
            column.pointer, groups.struct(), *pointers[:2], _KEEP[keep], _threads(num_threads), pointers[2]
        )
    )
    return codes


def _curated(
    completions: Texts, problem_ids: Any, graded: pa.Table, gold: Texts | None, keep: Keep, num_threads: int | None
) -> npt.NDArray[np.uint8]:
    texts = _as_chunked(completions)
    _same_length(len(texts), problem_ids=problem_ids, graded=graded)
    if gold is not None:
        _same_length(len(texts), gold_texts=gold)
    if keep not in _KEEP:
        raise ValueError(f"keep must be one of {', '.join(map(repr, _KEEP))}, found {keep!r}")
    groups = _Groups(problem_ids, gold, num_threads)
    return _verdict_codes(texts, groups, graded, keep, num_threads)


def verdicts(
    completions: Texts,
    problem_ids: Any,
    graded: pa.Table,
    *,
    gold_texts: Texts | None = None,
    keep: Keep = "farthest",
    num_threads: int | None = None,
) -> pa.StringArray:
    """Why each row is kept or not: "kept", "duplicate", "duplicate_of_gold", "incorrect" or "bad_equation".

    All columns are row-aligned; `graded` comes from `grade`. The rows of a problem may lie anywhere, and count in the
    order of the table. `gold_texts` holds the gold solution of the row's problem (the first of its rows is read): its
    equation list then counts as taken. None: nothing is taken beforehand.
    """
    return _named(_curated(completions, problem_ids, graded, gold_texts, keep, num_threads), _VERDICTS)


def curate(
    completions: Texts,
    problem_ids: Any,
    graded: pa.Table,
    *,
    gold_texts: Texts | None = None,
    keep: Keep = "farthest",
    num_threads: int | None = None,
) -> npt.NDArray[np.int64]:
    """The kept rows, ascending: correct, every equation right, one a problem and equation list. See `verdicts`."""
    codes = _curated(completions, problem_ids, graded, gold_texts, keep, num_threads)
    return np.flatnonzero(codes == lib.QRFT_VERDICT_KEPT).astype(np.int64)


def distance(a: str | bytes, b: str | bytes) -> int:
    """The Levenshtein distance in code points, over at most the first 16,384 of each text."""
    left, right = _as_bytes(a), _as_bytes(b)
    result = int(lib.qrft_texts_distance(left, len(left), right, len(right)))
    _check(lib.QRFT_NO_MEMORY if result < 0 else lib.QRFT_DONE)
    return result
