"""Grading columns of texts: answers, equations, keys. docs/semantics.md says what is decided."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from qrft.data.schema import GRADED, SOUNDNESS_FIELD
from qrft.grading.columns import Texts, as_chunked, check, named, names_of, pieces, pointer, same_length, threads
from qrft.grading.native import enumerator, ffi, lib
from qrft.grading.reference import paper
from qrft.grading.rules import DEFAULT_FORMAT, DEFAULT_RULES, Rules
from qrft.grading.traces import Traces
from qrft.grading.undecided import settle_answers, settle_grades

GRADER_VERSION = 6
"""Raised whenever docs/semantics.md changes a result; it enters the digests of the stages that grade."""

KEY_BYTES = 16
VALUE_BYTES = 32

ANSWER_STATUSES = names_of(lib.qrft_answer_status_name)
EQUATION_STATUSES = names_of(lib.qrft_equation_status_name)
PATH_SOURCES = names_of(lib.qrft_path_source_name)
SOUNDNESS = names_of(lib.qrft_soundness_name)

# For each C function that reads answers: what settles the rows that it leaves undecided.
_READERS = {
    lib.qrft_answers_extract: paper.find_answer,
    lib.qrft_numbers_parse: paper.parse_number,
}


class _Options:
    """A qrft_options, with the memory of the marker and the tags."""

    def __init__(self, rules: Rules) -> None:
        # A command line's bytes that are not UTF-8 are surrogates in Python's text.
        self._marker = (rules.marker or "").encode("utf-8", "surrogateescape")
        marker = ffi.from_buffer("uint8_t[]", self._marker)
        traces = rules.traces or Traces("", "")
        self._tags = [tag.encode("utf-8", "surrogateescape") for tag in (traces.opening, traces.closing)]
        opening, closing = (ffi.from_buffer("uint8_t[]", tag) for tag in self._tags)
        answer_format = "marker" if rules.marker is not None else rules.answer_format or DEFAULT_FORMAT
        fields = {
            "paper_mode": rules.mode == "paper",
            "answer_format": enumerator("FORMAT", answer_format),
            "equation_source": enumerator("EQUATIONS", rules.equations),
            "key_order": enumerator("ORDER", rules.order),
            "marker": marker,
            "marker_length": len(marker),
            "trace_opening": opening,
            "trace_opening_length": len(opening),
            "trace_closing": closing,
            "trace_closing_length": len(closing),
            "trace_is_open": traces.is_open,
            "trace_equations": traces.with_equations,
        }
        self.pointer = ffi.new("qrft_options *", fields)


class Answers(NamedTuple):
    """One entry per text. Spans are in bytes, -1 for none. Equal values are equal bytes; zero bytes stand for none."""

    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    statuses: pa.DictionaryArray
    values: npt.NDArray[np.void]


class _AnswerArrays:
    def __init__(self, num_rows: int) -> None:
        self.starts = np.empty(num_rows, np.int64)
        self.ends = np.empty(num_rows, np.int64)
        self.statuses = np.empty(num_rows, np.uint8)
        self.values = np.empty((num_rows, VALUE_BYTES), np.uint8)

    def struct(self, rows: slice) -> Any:
        fields = {
            "starts": pointer(self.starts[rows], "int64_t *"),
            "ends": pointer(self.ends[rows], "int64_t *"),
            "statuses": pointer(self.statuses[rows], "uint8_t *"),
            "values": pointer(self.values[rows], "qrft_value *"),
        }
        return ffi.new("qrft_answers *", fields)

    def public(self) -> Answers:
        values = self.values.view(f"V{VALUE_BYTES}").reshape(-1)
        return Answers(self.starts, self.ends, named(self.statuses, ANSWER_STATUSES), values)


def _read_answers(function: Any, texts: pa.ChunkedArray, rules: Rules, num_threads: int | None) -> _AnswerArrays:
    arrays, options = _AnswerArrays(len(texts)), _Options(rules)
    for column, rows in pieces(texts):
        check(function(column.pointer, options.pointer, threads(num_threads), arrays.struct(rows)))
    if rules.mode == "paper":
        settle_answers(texts, arrays, _READERS[function])
    return arrays


def extract_answers(completions: Texts, *, rules: Rules = DEFAULT_RULES, num_threads: int | None = None) -> Answers:
    """Return the answer of each text."""
    return _read_answers(lib.qrft_answers_extract, as_chunked(completions), rules, num_threads).public()


def parse_numbers(texts: Texts, *, rules: Rules = DEFAULT_RULES, num_threads: int | None = None) -> Answers:
    """Read each text as if it followed a marker, such as the gold answers "72" or "$1,000"."""
    return _read_answers(lib.qrft_numbers_parse, as_chunked(texts), rules, num_threads).public()


# -------------------------------------------------------------------------------------------------------- grade ----


class _GradeArrays:
    def __init__(self, num_rows: int, has_questions: bool = False) -> None:
        self.starts = np.empty(num_rows, np.int64)
        self.ends = np.empty(num_rows, np.int64)
        self.answer_statuses = np.empty(num_rows, np.uint8)
        self.is_correct = np.empty(num_rows, np.uint8)
        self.num_equations = np.empty(num_rows, np.int32)
        self.equation_statuses = np.empty(num_rows, np.uint8)
        self.keys = np.empty((num_rows, KEY_BYTES), np.uint8)
        self.path_sources = np.empty(num_rows, np.uint8)
        self.soundness = np.empty(num_rows, np.uint8) if has_questions else None

    def struct(self, rows: slice) -> Any:
        fields = {
            "answer_starts": pointer(self.starts[rows], "int64_t *"),
            "answer_ends": pointer(self.ends[rows], "int64_t *"),
            "answer_statuses": pointer(self.answer_statuses[rows], "uint8_t *"),
            "is_correct": pointer(self.is_correct[rows], "uint8_t *"),
            "num_equations": pointer(self.num_equations[rows], "int32_t *"),
            "equation_statuses": pointer(self.equation_statuses[rows], "uint8_t *"),
            "equation_keys": pointer(self.keys[rows], "uint8_t *"),
            "path_sources": pointer(self.path_sources[rows], "uint8_t *"),
            "soundness": pointer(None if self.soundness is None else self.soundness[rows], "uint8_t *"),
        }
        return ffi.new("qrft_grades *", fields)

    def table(self) -> pa.Table:
        keys = pa.Array.from_buffers(pa.binary(KEY_BYTES), len(self.keys), [None, pa.py_buffer(self.keys)])
        columns = [
            pa.array(self.starts),
            pa.array(self.ends),
            named(self.answer_statuses, ANSWER_STATUSES),
            pa.array(self.is_correct.astype(np.bool_)),
            pa.array(self.num_equations),
            named(self.equation_statuses, EQUATION_STATUSES),
            keys,
            named(self.path_sources, PATH_SOURCES),
        ]
        graded = pa.table(columns, schema=GRADED)
        if self.soundness is None:
            return graded
        return graded.append_column(SOUNDNESS_FIELD, named(self.soundness, SOUNDNESS))


class _Questions:
    """What the questions of a column say, each of them read once, and which text answers which."""

    def __init__(self, questions: Texts, num_threads: int | None) -> None:
        texts, self._index = _distinct(as_chunked(questions))
        self._known = np.empty(len(texts), np.dtype((np.void, ffi.sizeof("qrft_known"))))
        for column, rows in pieces(texts):
            known = pointer(self._known[rows], "qrft_known *")
            check(lib.qrft_questions_read(column.pointer, threads(num_threads), known))

    def struct(self, rows: slice) -> Any:
        known = self._known[rows] if self._index is None else self._known
        index = None if self._index is None else self._index[rows]
        fields = {"known": pointer(known, "qrft_known *"), "index": pointer(index, "int64_t *")}
        return ffi.new("qrft_questions *", fields)


def _distinct(texts: pa.ChunkedArray) -> tuple[pa.ChunkedArray, npt.NDArray[np.int64] | None]:
    """Return the distinct texts and each row's place among them; None: one text per row, in order."""
    if not pa.types.is_dictionary(texts.type):
        return texts, None
    whole = texts.unify_dictionaries().combine_chunks()
    if isinstance(whole, pa.ChunkedArray):  # what older pyarrow returns for dictionaries
        whole = pa.concat_arrays(whole.chunks) if whole.num_chunks else pa.array([], texts.type)
    index = whole.indices.cast(pa.int64()).fill_null(-1)
    return pa.chunked_array([whole.dictionary]), index.to_numpy(zero_copy_only=False)


def _grade(
    completions: pa.ChunkedArray,
    gold: _AnswerArrays,
    index: npt.NDArray[np.int64] | None,
    rules: Rules,
    num_threads: int | None,
    questions: _Questions | None = None,
) -> _GradeArrays:
    arrays, options = _GradeArrays(len(completions), questions is not None), _Options(rules)
    for column, rows in pieces(completions):
        golds = gold.struct(rows if index is None else slice(None))
        places = pointer(None if index is None else index[rows], "int64_t *")
        asked = ffi.NULL if questions is None else questions.struct(rows)
        out, workers = arrays.struct(rows), threads(num_threads)
        check(lib.qrft_texts_grade(column.pointer, golds, places, asked, options.pointer, workers, out))
    if rules.mode == "paper":
        settle_grades(completions, arrays, gold, index)
    return arrays


def grade(
    completions: Texts,
    gold_answers: Texts,
    *,
    questions: Texts | None = None,
    rules: Rules = DEFAULT_RULES,
    num_threads: int | None = None,
) -> pa.Table:
    """Grade each completion against the gold answer of its row; the table follows schema.GRADED.

    A gold answer is what stands after the gold solution's ####. A dictionary column of them is parsed once per value.
    questions: that of each row; then the table has the column `soundness` too. A dictionary column is read once per
    value.
    """
    texts = as_chunked(completions)
    gold_texts = as_chunked(gold_answers)
    same_length(len(texts), gold_answers=gold_texts)
    values, index = _distinct(gold_texts)
    gold = _read_answers(lib.qrft_numbers_parse, values, rules, num_threads)
    asked = None
    if questions is not None:
        same_length(len(texts), questions=questions)
        asked = _Questions(questions, num_threads)
    return _grade(texts, gold, index, rules, num_threads, asked).table()


def own_soundness(
    completions: Texts, questions: Texts, *, rules: Rules = DEFAULT_RULES, num_threads: int | None = None
) -> pa.DictionaryArray:
    """Return whether each path is sound, or why not, if its own answer is the right one."""
    texts = as_chunked(completions)
    same_length(len(texts), questions=questions)
    own = _read_answers(lib.qrft_answers_extract, texts, rules, num_threads)
    graded = _grade(texts, own, None, rules, num_threads, _Questions(questions, num_threads))
    assert graded.soundness is not None
    return named(graded.soundness, SOUNDNESS)


def equation_keys(
    texts: Texts, *, rules: Rules = DEFAULT_RULES, num_threads: int | None = None
) -> npt.NDArray[np.uint8]:
    """Return the keys of the texts' paths, shape (n, 16)."""
    column = as_chunked(texts)
    nothing_gold = np.full(len(column), -1, np.int64)
    return _grade(column, _AnswerArrays(0), nothing_gold, rules, num_threads).keys
