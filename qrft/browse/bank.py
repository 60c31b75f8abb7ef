"""All samples of a run or of files, with their verdicts. Only the texts are large: they lie in a temporary file."""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from qrft.commands.grading import Problems, Task, Totals, graded
from qrft.data.disk import disk_errors
from qrft.data.files import read_errors
from qrft.data.schema import JUDGED_BY_FIELD, SOUNDNESS_FIELD
from qrft.errors import DataError
from qrft.grading.paths import COMPARED, CUT_OFF, NOTHING, is_right_path, is_sound
from qrft.grading.rules import Rules
from qrft.pipeline.store import verify

# What became of a sample, as a reader would say it; the first that holds counts, from the last to the first.
VERDICTS = (
    "wrong",
    "nothing to compare with",
    "no answer",
    "cut off",
    "right answer, wrong equation",
    "right",
    "right, but unsound",
)
BATCH = 50_000  # rows of a Parquet file that are in memory at once
TEXTS = pa.schema([("completion", pa.large_string())])


class Rows(NamedTuple):
    """What is known of each sample beside its text: arrays with one entry per sample."""

    part: npt.NDArray[np.int8]  # number in Bank.parts
    problem: npt.NDArray[np.int32]  # row of Bank.problems
    model: npt.NDArray[np.int16]  # number in Bank.models
    sample_index: npt.NDArray[np.int32]
    verdict: npt.NDArray[np.int8]  # number in VERDICTS
    answer_start: npt.NDArray[np.int64]  # bytes of the text; -1 for none
    answer_end: npt.NDArray[np.int64]


class Part(NamedTuple):
    """Where some of the samples are from."""

    name: str  # the place in the run, such as "round-1/graded"; "" for files
    rules: Rules  # by which they were graded


class Texts(NamedTuple):
    """The completions, in a file that is mapped into memory."""

    column: pa.ChunkedArray
    mapped: mmap.mmap

    def forget(self) -> None:
        """Give the memory of what was read back to the system, which still has the file's pages."""
        self.mapped.madvise(mmap.MADV_DONTNEED)


class Bank(NamedTuple):
    """Samples in the order of their files."""

    parts: list[Part]
    models: list[str]
    problems: pa.Table  # schema.PROBLEMS
    rows: Rows
    texts: Texts

    def __len__(self) -> int:
        return len(self.texts.column)

    def text(self, row: int) -> str:
        found: str = self.texts.column[row].as_py()
        return found


Piece = tuple[Rows, pa.Array]  # some of the rows, and their texts


def of_files(task: Task) -> Bank:
    """Grade the samples of files. Raises DataError for bad files, StoreError for a full disk."""
    problems = Problems(task)
    totals = Totals(len(problems))
    with closing(graded(task, problems, totals)) as batches:
        pieces = (
            (
                _rows(0, one.batch.problem, one.models, one.sample_index, one.grades, one.batch.finish_reason),
                one.batch.completion,
            )
            for one in batches
        )
        rows, texts = _collect(pieces)
    return Bank([Part("", task.rules)], totals.models, problems.table, rows, texts)


def of_run(run: Path) -> Bank:
    """Read the samples of a run folder, with the verdicts that the run came to.

    Raises DataError for a folder without any, DamagedError for files that are not as the run wrote them.
    """
    places = sorted(found.parent for found in run.glob("*/*graded/graded.parquet"))
    if not places:
        raise DataError(f"{run}: holds no graded samples. Name the folder of a run that has got so far, or samples.")
    store, tables, models = _Problems(), [], _Numbers()
    parts = []
    for place in places:
        manifest = verify(place.resolve())
        parts.append(Part(str(place.relative_to(run)), Rules(**manifest["config"]["rules"])))
        tables.append((place.resolve(), manifest["inputs"]))
    rows, texts = _collect(
        piece for number, table in enumerate(tables) for piece in _of_artifact(number, *table, store, models)
    )
    return Bank(parts, list(models), store.table(), rows, texts)


def _of_artifact(
    part: int, graded: Path, inputs: Mapping[str, str], problems: _Problems, models: _Numbers
) -> Iterator[Piece]:
    """Yield the samples of a grading, beside its rows."""
    samples = graded.parent / inputs["samples"]
    verify(samples)
    rows_of = problems.add(graded.parent / inputs["problems"])
    with read_errors(graded), read_errors(samples):
        grades = pq.read_table(graded / "graded.parquet")
        first = 0
        for batch in pq.ParquetFile(samples / "samples.parquet").iter_batches(BATCH):
            own = grades.slice(first, len(batch))
            problem = np.array([rows_of[name] for name in batch["problem_id"].to_pylist()], np.int32)
            model = np.array([models[name] for name in batch["model"].to_pylist()], np.int16)
            rows = _rows(part, problem, model, batch["sample_index"].to_numpy(), own, batch["finish_reason"])
            yield rows, batch["completion"]
            first += len(batch)


def _rows(
    part: int,
    problem: npt.NDArray[Any],
    model: npt.NDArray[Any],
    sample_index: npt.NDArray[Any],
    grades: pa.Table,
    finish_reason: pa.Array,
) -> Rows:
    return Rows(
        np.full(len(problem), part, np.int8),
        problem.astype(np.int32),
        model.astype(np.int16),
        sample_index.astype(np.int32),
        _verdicts(grades, finish_reason),
        grades["answer_start"].to_numpy(),
        grades["answer_end"].to_numpy(),
    )


def _verdicts(grades: pa.Table, finish_reason: pa.Array) -> npt.NDArray[np.int8]:
    right, path = grades["is_correct"].to_numpy(zero_copy_only=False), is_right_path(grades)
    found = np.full(grades.num_rows, VERDICTS.index("wrong"), np.int8)
    has_answer = pc.is_in(grades["status"].cast(pa.string()), pa.array(COMPARED)).to_numpy(zero_copy_only=False)
    if JUDGED_BY_FIELD.name in grades.column_names:
        by_nothing = pc.equal(grades[JUDGED_BY_FIELD.name], NOTHING).fill_null(False)
        found[by_nothing.to_numpy()] = VERDICTS.index("nothing to compare with")
    found[~has_answer] = VERDICTS.index("no answer")
    found[pc.equal(finish_reason, CUT_OFF).fill_null(False).to_numpy(zero_copy_only=False)] = VERDICTS.index("cut off")
    found[right] = VERDICTS.index("right answer, wrong equation")
    found[right & path] = VERDICTS.index("right")
    if SOUNDNESS_FIELD.name in grades.column_names:
        found[right & path & ~is_sound(grades)] = VERDICTS.index("right, but unsound")
    return found


class _Numbers(dict[str, int]):
    """Gives each name the next number."""

    def __missing__(self, name: str) -> int:
        return self.setdefault(name, len(self))


class _Problems:
    """The problem sets of a run, one below the other."""

    def __init__(self) -> None:
        self._tables: dict[Path, tuple[pa.Table, dict[str, int]]] = {}
        self._num_rows = 0

    def add(self, artifact: Path) -> dict[str, int]:
        """Return the row of each problem by its id."""
        if artifact not in self._tables:
            verify(artifact)
            with read_errors(artifact):
                table = pq.read_table(artifact / "problems.parquet")
            rows = {name: self._num_rows + row for row, name in enumerate(table["problem_id"].to_pylist())}
            self._tables[artifact] = table, rows
            self._num_rows += table.num_rows
        return self._tables[artifact][1]

    def table(self) -> pa.Table:
        return pa.concat_tables([table for table, _ in self._tables.values()])


def _collect(pieces: Iterable[Piece]) -> tuple[Rows, Texts]:
    """Keep the rows in memory, and the texts in a file without a name, which goes with the process."""
    rows = []
    folder = Path(tempfile.gettempdir())
    with disk_errors(folder), tempfile.NamedTemporaryFile(dir=folder, prefix="qrft-browse-") as file:
        with pa.ipc.new_file(file.name, TEXTS) as writer:
            for own, texts in pieces:
                rows.append(own)
                for chunk in texts.chunks if isinstance(texts, pa.ChunkedArray) else [texts]:
                    writer.write_batch(pa.record_batch([chunk.cast(pa.large_string())], schema=TEXTS))
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    texts = Texts(pa.ipc.open_file(pa.py_buffer(mapped)).read_all()["completion"], mapped)
    return Rows(*map(np.concatenate, zip(*rows, strict=True))), texts
