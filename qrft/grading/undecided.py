"""Mode "paper": the reference decides the few rows whose equations or numbers need Python itself.

C marks them as undecided. `arrays` are the outputs that C has filled; these functions overwrite the marked rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from qrft.grading.columns import as_plain
from qrft.grading.native import lib
from qrft.grading.reference import paper

_ANSWERS = {
    "ok": lib.QRFT_ANSWER_OK,
    "no_marker": lib.QRFT_ANSWER_NO_MARKER,
    "not_a_number": lib.QRFT_ANSWER_NOT_A_NUMBER,
}
_EQUATIONS = {"ok": lib.QRFT_EQUATION_OK, "wrong": lib.QRFT_EQUATION_WRONG}


def _texts_of(texts: pa.ChunkedArray, rows: npt.NDArray[np.int64]) -> list[bytes]:
    taken = texts.take(pa.array(rows))
    return [text for chunk in taken.chunks for text in as_plain(chunk).cast(pa.large_binary()).to_pylist()]


def settle_answers(texts: pa.ChunkedArray, arrays: Any, read: Callable[[bytes], paper.Answer]) -> None:
    rows = np.flatnonzero(arrays.statuses == lib.QRFT_ANSWER_UNDECIDED)
    for row, text in zip(rows, _texts_of(texts, rows), strict=True):
        answer = read(text)
        arrays.statuses[row] = _ANSWERS[answer.status]
        arrays.starts[row], arrays.ends[row] = answer.start, answer.end
        arrays.values[row] = np.frombuffer(paper.value_bytes(answer.value), np.uint8)


def settle_grades(texts: pa.ChunkedArray, arrays: Any, gold: Any, index: npt.NDArray[np.int64] | None) -> None:
    """Decide the marked rows; `gold` and `index` are as qrft_texts_grade reads them, every gold value settled."""
    undecided = arrays.answer_statuses == lib.QRFT_ANSWER_UNDECIDED
    undecided |= arrays.equation_statuses == lib.QRFT_EQUATION_UNDECIDED
    rows = np.flatnonzero(undecided)
    for row, text in zip(rows, _texts_of(texts, rows), strict=True):
        answer = paper.find_answer(text)
        place = row if index is None else index[row]
        value = paper.value_bytes(answer.value)
        arrays.answer_statuses[row] = _ANSWERS[answer.status]
        arrays.starts[row], arrays.ends[row] = answer.start, answer.end
        arrays.is_correct[row] = place >= 0 and answer.value is not None and gold.values[place].tobytes() == value
        arrays.equation_statuses[row] = _EQUATIONS[paper.equations_status(paper.find_equations(text))]
