"""Which samples a page shows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from qrft.browse.bank import VERDICTS, Bank, Texts

PAGE = 50  # samples


class Query(NamedTuple):
    """What is looked for; "" for anything."""

    text: str = ""  # in the completion, whatever the case of its letters
    verdict: str = ""
    problem: str = ""  # a problem_id
    model: str = ""
    part: str = ""


def find(bank: Bank, query: Query) -> npt.NDArray[np.int64]:
    """Return the rows that fit, in their order. A name that the samples do not have fits none."""
    fits = np.ones(len(bank), np.bool_)
    parts = [part.name for part in bank.parts]
    for value, names, column in (
        (query.verdict, VERDICTS, bank.rows.verdict),
        (query.model, bank.models, bank.rows.model),
        (query.part, parts, bank.rows.part),
    ):
        if value:
            fits &= column == (names.index(value) if value in names else -1)
    if query.problem:
        known = pc.equal(bank.problems["problem_id"], query.problem).to_numpy(zero_copy_only=False)
        fits &= np.isin(bank.rows.problem, np.flatnonzero(known))
    rows = np.flatnonzero(fits)
    return rows[_have(bank.texts, rows, query.text)] if query.text else rows


def _have(texts: Texts, rows: npt.NDArray[np.int64], text: str) -> npt.NDArray[np.bool_]:
    """Return which of the rows' texts have the text in them. Arrow looks without Python's lock, so in all threads."""
    column = texts.column
    starts = np.cumsum([0, *map(len, column.chunks)])
    ends = np.searchsorted(rows, starts)

    def look(number: int) -> npt.NDArray[np.bool_]:
        chunk, own = column.chunk(number), rows[ends[number] : ends[number + 1]] - starts[number]
        wanted = chunk if len(own) == len(chunk) else chunk.take(pa.array(own))
        found: npt.NDArray[np.bool_] = pc.match_substring(wanted, text, ignore_case=True).to_numpy(zero_copy_only=False)
        texts.forget()
        return found

    with ThreadPoolExecutor() as pool:
        return np.concatenate([np.zeros(0, np.bool_), *pool.map(look, range(column.num_chunks))])
