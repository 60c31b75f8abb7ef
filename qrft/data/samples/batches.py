"""The stream of batches: what a batch of samples is, whatever file it comes from."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from qrft.data.files import is_parquet, line_blocks, read_errors
from qrft.data.jsonl import count_lines
from qrft.data.samples import jsonl, lm_eval, parquet
from qrft.data.samples.rows import INDEXES, Faults, Pieces, Rows
from qrft.errors import DataError
from qrft.grading.rules import NO_VERDICTS, Verdicts

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
    is_right: pa.Array | None = None  # what the file says of each sample, null where it says nothing; None: not read
    num_unknown: int = 0  # rows left out, since their problems are not known


class Unit(NamedTuple):
    """A piece of a file: how to read it, in any thread."""

    read: Callable[[], Batch]
    position: int  # bytes of all files up to its end


def files_of(path: Path) -> list[Path]:
    """Return the file, or the Parquet files of a folder, as `qrft sample` writes it. Raises DataError for none."""
    if not path.is_dir():
        return [path]
    if files := sorted(path.glob("*.parquet")):
        return files
    raise DataError(f"{path}: has no Parquet file in it. Name a file of samples, or a folder of shards.")


def num_rows(path: Path) -> int:
    """Count the rows of a file: its samples, unless a row holds several."""
    if is_parquet(path):
        with read_errors(path):
            return int(pq.read_metadata(path).num_rows)
    return sum(count_lines(block) for block, _ in line_blocks(path))


def units(
    paths: Sequence[Path],
    problem_ids: pa.Array,
    names: Mapping[Path, str] | None = None,
    *,
    skips_unknown: bool = False,
    verdicts: Verdicts = NO_VERDICTS,
    questions: Sequence[str] | None = None,
) -> Iterator[Unit]:
    """Yield the pieces of all files in order. Raises DataError for a file that is missing, empty or of another kind.

    names: what samples without a model are called, by their file; None: as `default_models` has it. skips_unknown:
    leave samples of other problems out and count them; otherwise they are an error. verdicts: whether those of the
    files are read. questions: of the problems, by which the documents of lm-evaluation-harness are checked.
    """
    names, before = default_models(paths) if names is None else names, 0
    known = {problem_id: row for row, problem_id in enumerate(problem_ids.to_pylist())}
    for path in paths:
        num_units = 0
        counts = lm_eval.is_logged(path)  # its documents have numbers
        of_path = {str(row): row for row in range(len(known))} if counts else known
        for rows, position in _pieces(path, verdicts, questions):
            num_units += 1
            yield Unit(partial(_batch, rows, path, names[path], of_path, skips_unknown, verdicts), before + position)
        if num_units == 0:
            raise DataError(f"{path}: is empty. Expected samples, one per row, with problem_id and completion.")
        before += path.stat().st_size


def _pieces(path: Path, verdicts: Verdicts = NO_VERDICTS, questions: Sequence[str] | None = None) -> Pieces:
    if lm_eval.is_logged(path):
        return lm_eval.read(path, questions)
    pieces: Pieces = (parquet if is_parquet(path) else jsonl).read(path, verdicts)
    return pieces


def default_models(paths: Sequence[Path]) -> dict[Path, str]:
    """Name samples without a model by their file, so that pooled files stay apart; by its path if two share a name."""
    stems = {path: without_suffix(path.name) for path in paths}
    twice = {stem for stem in stems.values() if list(stems.values()).count(stem) > 1}
    return {path: str(path) if stem in twice else stem for path, stem in stems.items()}


def without_suffix(name: str) -> str:
    """Return the name of a file without what tells its kind."""
    return _SUFFIX.sub("", name) or name


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


def _batch(
    read: Callable[[], tuple[Rows, Faults]],
    path: Path,
    model: str,
    known: dict[str, int],
    skips_unknown: bool,
    verdicts: Verdicts,
) -> Batch:
    rows, faults = read()
    rows = _flat(_whole(rows, path, faults))
    rows = _whole(rows, path, faults)
    numbers = rows.numbers

    def place(row: int) -> str:
        return f"{path}:{int(numbers[row])}"

    indexes = rows.indexes.fill_null(-1).to_numpy()
    problem = _problems(rows.ids, known)
    models = rows.models.fill_null(model).dictionary_encode()
    batch = Batch(problem, rows.completions, indexes, models, rows.endings, place, faults, _is_right(rows, verdicts))
    if (problem >= 0).all():
        return batch
    if not skips_unknown:
        row = int(np.flatnonzero(problem < 0)[0])
        raise DataError(_unknown(str(rows.ids[row]), place(row), _count(path, known), list(known)))
    return _of_known(batch)


def _of_known(batch: Batch) -> Batch:
    """Return the rows of known problems alone."""
    rows = np.flatnonzero(batch.problem >= 0)
    taken = pa.array(rows)
    return Batch(
        batch.problem[rows],
        batch.completion.take(taken),
        batch.sample_index[rows],
        batch.model.take(taken),
        batch.finish_reason.take(taken),
        lambda row: batch.place(int(rows[row])),
        batch.faults,
        None if batch.is_right is None else batch.is_right.take(taken),
        len(batch.problem) - len(rows),
    )


def _is_right(rows: Rows, verdicts: Verdicts) -> pa.Array | None:
    """Return what the file says of each sample: is_correct is 1, or a score of at least so much."""
    if not verdicts.verdicts:
        return None
    scores = pc.if_else(pc.is_nan(rows.verdicts), pa.scalar(None, pa.float64()), rows.verdicts)
    return pc.greater_equal(scores, 1.0 if verdicts.min_score is None else verdicts.min_score)


def _whole(rows: Rows, path: Path, faults: Faults) -> Rows:
    """Return the rows without faults, and note the faults of the others."""
    indexes = rows.indexes.fill_null(0).to_numpy()
    is_whole = rows.ids.is_valid().to_numpy(False) & rows.completions.is_valid().to_numpy(False)
    is_whole &= (indexes >= INDEXES.start) & (indexes < INDEXES.stop)
    is_whole &= _has_as_many(rows, rows.endings) & _has_as_many(rows, rows.verdicts)
    if is_whole.all():
        return rows
    for row in np.flatnonzero(~is_whole).tolist():
        faults.add(f"{path}:{rows.numbers[row]}: {_fault(rows, row)}")
    columns = [column.filter(pa.array(is_whole)) for column in rows[:-1]]
    return Rows._make([*columns, np.asarray(rows.numbers)[is_whole]])


def _has_as_many(rows: Rows, told: pa.Array) -> npt.NDArray[np.bool_]:
    """Return whether each row tells as many endings, or verdicts, as it has completions, or one for all."""
    if not pa.types.is_list(told.type):
        return np.ones(len(rows.ids), np.bool_)
    if not pa.types.is_list(rows.completions.type):
        return np.zeros(len(rows.ids), np.bool_)
    lengths = [pc.list_value_length(column) for column in (rows.completions, told)]
    flags: npt.NDArray[np.bool_] = pc.equal(*lengths).fill_null(True).to_numpy(False).astype(np.bool_)
    return flags


def _fault(rows: Rows, row: int) -> str:
    if not rows.ids[row].is_valid:
        return "found no problem_id that is a whole number or a text."
    if not rows.completions[row].is_valid:
        return "found no completion."
    if not _has_as_many(rows, rows.endings)[row]:
        return "found another number of finish reasons than of completions."
    if not _has_as_many(rows, rows.verdicts)[row]:
        return "found another number of verdicts than of completions."
    return f"sample_index is {rows.indexes[row]}, expected a whole number from 0."


def _flat(rows: Rows) -> Rows:
    """Make a row of each completion of a list. Its place in the list is its sample_index, not the row's."""
    if not pa.types.is_list(rows.completions.type):
        return rows
    row = pc.list_parent_indices(rows.completions)
    nothing = pa.nulls(len(row), pa.int64())
    numbers = np.asarray(rows.numbers, np.int64)[row.to_numpy()]
    endings, verdicts = (_of_each(column, row) for column in (rows.endings, rows.verdicts))
    models = rows.models.take(row)
    return Rows(rows.ids.take(row), rows.completions.flatten(), nothing, models, endings, verdicts, numbers)


def _of_each(told: pa.Array, row: pa.Array) -> pa.Array:
    """Return the ending, or verdict, of each completion. row: that of each completion."""
    if not pa.types.is_list(told.type):
        return told.take(row)
    numbers, length = row.to_numpy(), pc.list_value_length(told).fill_null(0).to_numpy()
    place = np.arange(len(numbers)) - np.searchsorted(numbers, numbers)  # within its list
    taken = pa.array((np.cumsum(length) - length)[numbers] + place, mask=length[numbers] == 0)
    return told.flatten().take(taken)


def _problems(ids: pa.Array, known: dict[str, int]) -> npt.NDArray[np.int32]:
    """Return the rows of the ids among the problems, -1 for others. A batch has few different ids."""
    encoded = ids.dictionary_encode()
    names = [str(name) for name in encoded.dictionary.to_pylist()]
    rows: npt.NDArray[np.int32] = np.array([known.get(name, -1) for name in names], np.int32)
    found: npt.NDArray[np.int32] = rows[encoded.indices.to_numpy()]
    return found


def _count(path: Path, known: dict[str, int]) -> tuple[int, int]:
    """Return how many samples of a file are of problems that are not known, and how many there are."""
    num_unknown = num_samples = 0
    for read, _ in _pieces(path):
        faults = Faults()
        problem = _problems(_whole(_flat(_whole(read()[0], path, faults)), path, faults).ids, known)
        num_unknown, num_samples = num_unknown + int((problem < 0).sum()), num_samples + len(problem)
    return num_unknown, num_samples


def _unknown(problem_id: str, place: str, counts: tuple[int, int], known: Sequence[str]) -> str:
    have = f"{len(known):,} problems with the ids {known[0]} to {known[-1]}"
    way_out = "Name the problems that these samples belong to"
    if problem_id == str(len(known)):
        way_out += "; did you count from 1? Row numbers count from 0"
    elif problem_id.isdecimal() and len(problem_id) < 18 and int(problem_id) < len(known):
        way_out += "; did you mean the row number? That works only for problems without ids"
    shown, (num_unknown, num_samples) = f"{place}: problem_id {problem_id[:60]!r} is unknown", counts
    return f"{shown} ({num_unknown:,} of {num_samples:,} samples in this file): there are {have}. {way_out}."
