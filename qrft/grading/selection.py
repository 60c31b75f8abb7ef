"""Which of the correct samples become training rows: one per problem and equation list."""

from __future__ import annotations

from typing import Any, NamedTuple, TypedDict, Unpack

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from qrft.grading.columns import (
    Column,
    Texts,
    as_bytes,
    as_chunked,
    as_plain,
    check,
    named,
    pointer,
    same_length,
    threads,
)
from qrft.grading.grader import KEY_BYTES, equation_keys
from qrft.grading.native import enumerator, ffi, lib
from qrft.grading.paths import Flags, as_flags, is_right_path, is_sound
from qrft.grading.rules import DEFAULT_RULES, DEFAULT_SELECTION, Rules, Selection

# By number: those of C, and then those of the rows that C does not look at.
_FROM_C = ("kept", "duplicate", "duplicate_of_gold", "over_limit")
VERDICTS = (
    *sorted(_FROM_C, key=lambda name: enumerator("VERDICT", name)),
    "incorrect",
    "bad_equation",
    "cut_off",
    "unsound",
)
_INCORRECT, _BAD_EQUATION, _CUT_OFF, _UNSOUND = map(VERDICTS.index, ("incorrect", "bad_equation", "cut_off", "unsound"))

# Stands for the gold text of a problem that has none. No eligible row has its key: an empty equation is not right.
NO_PATH = b"<<>>"

# Cells that the comparisons of a problem may cost in the default mode; docs/semantics.md says how they count.
MAX_CELLS = 1 << 40


def _one_chunk(texts: pa.ChunkedArray) -> pa.Array:
    """Return the column in one piece, since the rows of a problem may be anywhere in it; several chunks are copied."""
    if texts.num_chunks == 1:
        return texts.chunk(0)
    plain = [as_plain(chunk).cast(pa.large_binary()) for chunk in texts.chunks]
    return pa.concat_arrays(plain) if plain else pa.array([], pa.large_binary())


def _key_rows(column: pa.ChunkedArray) -> npt.NDArray[np.uint8]:
    keys = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], pa.binary(KEY_BYTES))
    if len(keys) == 0:
        return np.empty((0, KEY_BYTES), np.uint8)
    flat = np.frombuffer(keys.buffers()[1], np.uint8).reshape(-1, KEY_BYTES)
    return np.ascontiguousarray(flat[keys.offset : keys.offset + len(keys)])


class _Groups:
    """The rows by problem, each problem's in the order of the table."""

    def __init__(self, problem_ids: Any, gold_texts: Texts | None, rules: Rules, num_threads: int | None) -> None:
        ids = problem_ids if isinstance(problem_ids, pa.ChunkedArray) else pa.chunked_array([pa.array(problem_ids)])
        codes = _codes(ids)
        counts = np.bincount(codes)
        self.order = np.argsort(codes, kind="stable").astype(np.int64)
        self.offsets = np.concatenate([[0], np.cumsum(counts[counts > 0])]).astype(np.int64)
        self.gold_keys = None if gold_texts is None else self._keys_of(gold_texts, rules, num_threads)

    def _keys_of(self, gold_texts: Texts, rules: Rules, num_threads: int | None) -> npt.NDArray[np.uint8]:
        first_rows = self.order[self.offsets[:-1]]
        if isinstance(gold_texts, pa.Array | pa.ChunkedArray):
            taken = as_chunked(gold_texts).take(pa.array(first_rows)).cast(pa.large_binary())
            return equation_keys(taken.fill_null(NO_PATH), rules=rules, num_threads=num_threads)
        texts = [NO_PATH if gold_texts[row] is None else gold_texts[row] for row in first_rows.tolist()]
        return equation_keys(texts, rules=rules, num_threads=num_threads)

    def struct(self) -> Any:
        fields = {
            "order": pointer(self.order, "int64_t *"),
            "group_offsets": pointer(self.offsets, "int64_t *"),
            "gold_keys": pointer(self.gold_keys, "uint8_t *"),
            "num_groups": len(self.offsets) - 1,
        }
        return ffi.new("qrft_groups *", fields)


def _codes(ids: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Return a number per distinct id; rows without an id form a problem of their own, number 0."""
    encoded = ids if pa.types.is_dictionary(ids.type) else pc.dictionary_encode(ids)
    parts = [chunk.indices.cast(pa.int64()).fill_null(-1) for chunk in encoded.unify_dictionaries().chunks]
    whole = pa.concat_arrays(parts) if parts else pa.array([], pa.int64())
    codes: npt.NDArray[np.int64] = whole.to_numpy(zero_copy_only=False) + 1
    return codes


def _selection_struct(selection: Selection, rules: Rules) -> Any:
    fields = {
        "keep": enumerator("KEEP", selection.keep if selection.dedup else "all"),
        "max_per_group": selection.max_per_problem or 0,
        "max_cells": 0 if rules.mode == "paper" else MAX_CELLS,
    }
    return ffi.new("qrft_selection *", fields)


class _Chosen(NamedTuple):
    """A number of VERDICTS per row, and for chosen rows the first row with their key."""

    codes: npt.NDArray[np.uint8]
    first_rows: npt.NDArray[np.int64]


def _choose(
    texts: pa.ChunkedArray,
    groups: _Groups,
    graded: pa.Table,
    left_out: Flags | None,
    unsound: Flags | None,
    choice: Any,
    num_threads: int | None,
) -> _Chosen:
    is_right = is_right_path(graded)
    codes = np.where(as_flags(graded["is_correct"]), _BAD_EQUATION, _INCORRECT).astype(np.uint8)
    is_eligible = is_right.copy()  # C writes the codes of these
    for flags, code in ((unsound, _UNSOUND), (left_out, _CUT_OFF)):
        if flags is not None:
            is_eligible &= ~flags
            codes[is_right & flags] = code
    eligible = is_eligible.astype(np.uint8)
    keys = _key_rows(graded["equation_key"])
    column = Column(_one_chunk(texts))
    first_rows = np.empty(len(codes), np.int64)
    rows, row_keys, out = (pointer(array, "uint8_t *") for array in (eligible, keys, codes))
    arguments = (column.pointer, groups.struct(), rows, row_keys, choice, threads(num_threads), out)
    check(lib.qrft_paths_curate(*arguments, pointer(first_rows, "int64_t *")))
    return _Chosen(codes, first_rows)


class Options(TypedDict, total=False):
    """What `select`, `verdicts` and `curate` take besides the columns; see `select`."""

    cut_off: Flags | None
    gold_texts: Texts | None
    selection: Selection
    rules: Rules
    num_threads: int | None


class Selected(NamedTuple):
    """A name of VERDICTS per row, and the kept rows in ascending order.

    In mode "paper" they are in the order in which their equation lists came first, as the paper's script writes them.
    """

    verdicts: pa.StringArray
    kept: npt.NDArray[np.int64]


def select(
    completions: Texts,
    problem_ids: Any,
    graded: pa.Table,
    *,
    cut_off: Flags | None = None,
    gold_texts: Texts | None = None,
    selection: Selection = DEFAULT_SELECTION,
    rules: Rules = DEFAULT_RULES,
    num_threads: int | None = None,
) -> Selected:
    """Return why each row is kept or not, and the kept rows: right, with right equations, one per problem and path.

    All columns are row-aligned; `graded` comes from `grade` with the same `rules`. The rows of a problem may lie
    anywhere, and count in the order of the table. `gold_texts` holds the gold solution of the row's problem (the first
    of its rows is read): its equation list then counts as taken. A null there (the problem has a bare answer), None for
    all, and mode "paper": nothing is taken beforehand. `cut_off` says which samples the token limit cut off: unless
    `selection.cut_off` is "keep", none of them is chosen. With `selection.sound` "require" no unsound path is chosen,
    and the grades must say which are.

    `selection.keep` names which row of an equation list is chosen, `max_per_problem` how many of the chosen rows a
    problem keeps, and dedup=False chooses every correct row with right equations; docs/semantics.md, "Selecting paths".
    """
    texts = as_chunked(completions)
    same_length(len(texts), problem_ids=problem_ids, graded=graded)
    if gold_texts is not None:
        same_length(len(texts), gold_texts=gold_texts)
    if cut_off is not None:
        same_length(len(texts), cut_off=cut_off)
    reads_gold = selection.dedup and rules.mode != "paper"
    groups = _Groups(problem_ids, gold_texts if reads_gold else None, rules, num_threads)
    unsound = ~is_sound(graded) if selection.sound == "require" else None
    left_out = None if cut_off is None or selection.cut_off == "keep" else np.asarray(cut_off, np.bool_)
    codes, first_rows = _choose(
        texts, groups, graded, left_out, unsound, _selection_struct(selection, rules), num_threads
    )
    kept = np.flatnonzero(codes == lib.QRFT_VERDICT_KEPT).astype(np.int64)
    if rules.mode == "paper":
        kept = kept[np.argsort(first_rows[kept])]
    return Selected(named(codes, VERDICTS).cast(pa.string()), kept)


def verdicts(completions: Texts, problem_ids: Any, graded: pa.Table, **options: Unpack[Options]) -> pa.StringArray:
    """Return the verdicts of `select`."""
    return select(completions, problem_ids, graded, **options).verdicts


def curate(completions: Texts, problem_ids: Any, graded: pa.Table, **options: Unpack[Options]) -> npt.NDArray[np.int64]:
    """Return the kept rows of `select`."""
    return select(completions, problem_ids, graded, **options).kept


def distance(a: str | bytes, b: str | bytes) -> int:
    """Return the Levenshtein distance in code points, in time proportional to the product of the lengths."""
    left, right = as_bytes(a), as_bytes(b)
    result = int(lib.qrft_texts_distance(left, len(left), right, len(right)))
    check(lib.QRFT_NO_MEMORY if result < 0 else lib.QRFT_DONE)
    return result
