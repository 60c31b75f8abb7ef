"""The stream of batches: what a batch of samples is, whatever file it comes from."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from qrft.data.files import is_parquet
from qrft.data.samples import jsonl, parquet
from qrft.data.samples.rows import INDEXES, Faults, Rows
from qrft.errors import DataError

T = TypeVar("T")
_SUFFIX = re.compile(r"(\.(jsonl|json|parquet|gz|zst))*$")


@dataclass
class Batch:
    """Samples of known problems, row-aligned, in the order of the files."""

    problem: npt.NDArray[np.int32]  # row number in the table of problems
    completion: pa.Array  # large_string, valid UTF-8
    sample_index: npt.NDArray[np.int64]  # -1 where the file gives none
    model: pa.DictionaryArray  # the names of models
    finish_reason: pa.Array  # large_string; null where the file does not tell
    place: Callable[[int], str]  # "file:line" of a row
    faults: Faults


class Unit(NamedTuple):
    """A piece of a file: how to read it, in any thread."""

    read: Callable[[], Batch]
    position: int  # bytes of all files up to its end


def units(paths: Sequence[Path], problem_ids: pa.Array) -> Iterator[Unit]:
    """Yield the pieces of all files in order. Raises DataError for a file that is missing, empty or of another kind."""
    names, before = default_models(paths), 0
    known = {problem_id: row for row, problem_id in enumerate(problem_ids.to_pylist())}
    for path in paths:
        num_units = 0
        for rows, position in (parquet if is_parquet(path) else jsonl).read(path):
            num_units += 1
            yield Unit(partial(_batch, rows, path, names[path], known), before + position)
        if num_units == 0:
            raise DataError(f"{path}: is empty. Expected samples, one per row, with problem_id and completion.")
        before += path.stat().st_size


def default_models(paths: Sequence[Path]) -> dict[Path, str]:
    """Name samples without a model by their file, so that pooled files stay apart; by its path if two share a name."""
    stems = {path: _SUFFIX.sub("", path.name) or path.name for path in paths}
    twice = {stem for stem in stems.values() if list(stems.values()).count(stem) > 1}
    return {path: str(path) if stem in twice else stem for path, stem in stems.items()}


def ahead(tasks: Iterable[Callable[[], T]], num_threads: int) -> Iterator[T]:
    """Yield the results in order, while the next `num_threads` tasks are already under way."""
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(num_threads) as pool:
        try:
            for task in tasks:
                waiting.append(pool.submit(task))
                if len(waiting) > num_threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


# ------------------------------------------------------------------------------------------------ rows to batch ----


def _batch(read: Callable[[], tuple[Rows, Faults]], path: Path, model: str, known: dict[str, int]) -> Batch:
    rows, faults = read()
    rows = _flat(_whole(rows, path, faults))
    rows = _whole(rows, path, faults)
    numbers = rows.numbers

    def place(row: int) -> str:
        return f"{path}:{int(numbers[row])}"

    indexes = rows.indexes.fill_null(-1).to_numpy()
    problem = _problems(rows.ids, known, place)
    models = rows.models.fill_null(model).dictionary_encode()
    return Batch(problem, rows.completions, indexes, models, rows.endings, place, faults)


def _whole(rows: Rows, path: Path, faults: Faults) -> Rows:
    """Return the rows without faults, and note the faults of the others."""
    indexes = rows.indexes.fill_null(0).to_numpy()
    is_whole = rows.ids.is_valid().to_numpy(False) & rows.completions.is_valid().to_numpy(False)
    is_whole &= (indexes >= INDEXES.start) & (indexes < INDEXES.stop)
    is_whole &= _has_endings(rows)
    if is_whole.all():
        return rows
    for row in np.flatnonzero(~is_whole).tolist():
        faults.add(f"{path}:{rows.numbers[row]}: {_fault(rows, row)}")
    ids, completions, indexes, models, endings = (column.filter(pa.array(is_whole)) for column in rows[:5])
    return Rows(ids, completions, indexes, models, endings, np.asarray(rows.numbers)[is_whole])


def _has_endings(rows: Rows) -> npt.NDArray[np.bool_]:
    """Return whether each row tells as many endings as it has completions, or one for all."""
    if not pa.types.is_list(rows.endings.type):
        return np.ones(len(rows.ids), np.bool_)
    if not pa.types.is_list(rows.completions.type):
        return np.zeros(len(rows.ids), np.bool_)
    lengths = [pc.list_value_length(column) for column in (rows.completions, rows.endings)]
    flags: npt.NDArray[np.bool_] = pc.equal(*lengths).fill_null(True).to_numpy(False).astype(np.bool_)
    return flags


def _fault(rows: Rows, row: int) -> str:
    if not rows.ids[row].is_valid:
        return "found no problem_id that is a whole number or a text."
    if not rows.completions[row].is_valid:
        return "found no completion."
    if not _has_endings(rows)[row]:
        return "found another number of finish reasons than of completions."
    return f"sample_index is {rows.indexes[row]}, expected a whole number from 0."


def _flat(rows: Rows) -> Rows:
    """Make a row of each completion of a list. Its place in the list is its sample_index, not the row's."""
    if not pa.types.is_list(rows.completions.type):
        return rows
    row = pc.list_parent_indices(rows.completions)
    nothing = pa.nulls(len(row), pa.int64())
    numbers = np.asarray(rows.numbers, np.int64)[row.to_numpy()]
    endings = _endings_of(rows, row)
    return Rows(rows.ids.take(row), rows.completions.flatten(), nothing, rows.models.take(row), endings, numbers)


def _endings_of(rows: Rows, row: pa.Array) -> pa.Array:
    """Return the ending of each completion. row: that of each completion."""
    if not pa.types.is_list(rows.endings.type):
        return rows.endings.take(row)
    numbers, length = row.to_numpy(), pc.list_value_length(rows.endings).fill_null(0).to_numpy()
    place = np.arange(len(numbers)) - np.searchsorted(numbers, numbers)  # within its list
    taken = pa.array((np.cumsum(length) - length)[numbers] + place, mask=length[numbers] == 0)
    return rows.endings.flatten().take(taken)


def _problems(ids: pa.Array, known: dict[str, int], place: Callable[[int], str]) -> npt.NDArray[np.int32]:
    """Return the rows of the ids among the problems. A batch has few different ids, however many are known."""
    encoded = ids.dictionary_encode()
    codes, names = encoded.indices.to_numpy(), [str(name) for name in encoded.dictionary.to_pylist()]
    rows: npt.NDArray[np.int32] = np.array([known.get(name, -1) for name in names], np.int32)[codes]
    if (rows < 0).any():
        row = int(np.flatnonzero(rows < 0)[0])
        raise DataError(_unknown(names[codes[row]], place(row), list(known)))
    return rows


def _unknown(problem_id: str, place: str, known: Sequence[str]) -> str:
    have = f"{len(known):,} problems with the ids {known[0]} to {known[-1]}"
    way_out = "Name the problems that these samples belong to"
    if problem_id == str(len(known)):
        way_out += "; did you count from 1? Row numbers count from 0"
    elif problem_id.isdecimal() and len(problem_id) < 18 and int(problem_id) < len(known):
        way_out += "; did you mean the row number? That works only for problems without ids"
    return f"{place}: problem_id {problem_id[:60]!r} is unknown: there are {have}. {way_out}."
