"""`qrft curate`: from samples to a training set, the correct and distinct paths of each problem."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from qrft.commands.grading import Graded, Problems, Task, Totals, graded
from qrft.commands.spool import Part, Spool
from qrft.data.files import check_output, new_file
from qrft.data.samples import Batch, ahead
from qrft.data.schema import GRADED, TRAINING
from qrft.grading.paths import gold_keys, is_right_path
from qrft.grading.rules import Selection
from qrft.grading.training_table import training_table

Key = tuple[int, bytes]

SPOOLED = pa.schema(
    [
        ("problem", pa.int32()),
        ("model", pa.int32()),
        ("sample_index", pa.int32()),
        ("equation_key", pa.binary(16)),
        ("completion", pa.large_string()),
    ]
)


def run(task: Task, output: Path, selection: Selection, with_gold: bool = True) -> dict[str, Any]:
    """Writes JSONL or Parquet with the columns of schema.TRAINING, problem by problem. Returns the facts.

    with_gold: write the worked solutions too, and keep no path with the equations of its problem's own.
    """
    check_output(output, [".jsonl", ".parquet"], [*task.samples, Path(task.problems)])
    problems = Problems(task)
    totals = Totals(len(problems))
    curator = _Curator(task, problems, selection, with_gold)
    with new_file(output) as path, Spool(output.parent, SPOOLED, len(problems)) as spool:
        with closing(graded(task, problems, totals, _eligible_rows)) as parts:
            for part in parts:
                spool.add(_spooled(part))
        with _writer(path, output.suffix) as write:
            tasks = (partial(curator.training, whole, totals.models) for whole in spool.parts())
            for rows in ahead(tasks, task.num_threads):
                write(rows)
    return totals.facts() | curator.facts()


def _eligible_rows(batch: Batch, grades: pa.Table) -> tuple[npt.NDArray[np.int64], pa.Array, pa.Array]:
    rows = np.flatnonzero(is_right_path(grades))
    places = pa.array(rows)
    return rows, grades["equation_key"].combine_chunks().take(places), batch.completion.take(places)


def _spooled(part: Graded) -> pa.Table:
    rows, keys, completions = part.extra
    numbers = [pa.array(column[rows]) for column in (part.batch.problem, part.models, part.sample_index)]
    return pa.table([*numbers, keys, completions], schema=SPOOLED)


class _Curator:
    """Selects part by part, in any thread, and counts."""

    def __init__(self, task: Task, problems: Problems, selection: Selection, with_gold: bool) -> None:
        self._task, self._problems, self._selection, self._with_gold = task, problems, selection, with_gold
        self._counts: list[tuple[int, int, int]] = []  # a part: kept paths, distinct ones, with the gold ones

    def training(self, part: Part, models: list[str]) -> pa.Table:
        """Return the part's rows of schema.TRAINING."""
        problems = self._problems.table.slice(part.first, part.end - part.first)
        problem = part.rows["problem"].to_numpy().astype(np.int64) - part.first
        training = training_table(
            problems,
            problem,
            _with_names(part.rows, models),
            _all_eligible(part.rows["equation_key"]),
            selection=self._selection,
            with_gold=self._with_gold,
            rules=self._task.rules,
            num_threads=1,
        )
        self._count(problems, problem[training.kept], part.rows["equation_key"].take(pa.array(training.kept)))
        return training.rows

    def _count(self, problems: pa.Table, problem: npt.NDArray[np.int64], keys: pa.ChunkedArray) -> None:
        pairs: set[Key] = set(zip(problem.tolist(), keys.to_pylist(), strict=True))
        golds = enumerate(gold_keys(problems, self._task.rules, num_threads=1).to_pylist())
        with_gold = pairs | {(row, key) for row, key in golds if key is not None}
        self._counts.append((len(keys), len(pairs), len(with_gold)))

    def facts(self) -> dict[str, Any]:
        num_kept, num_distinct, num_with_gold = map(sum, zip(*self._counts, strict=True))
        return {
            "num_kept": num_kept,
            "distinct_per_problem": num_distinct / len(self._problems),
            "distinct_per_problem_with_gold": num_with_gold / len(self._problems),
        }


def _with_names(rows: pa.Table, models: list[str]) -> pa.Table:
    """The spooled rows with the names of their models instead of the numbers."""
    names = pa.DictionaryArray.from_arrays(rows["model"].combine_chunks(), pa.array(models, pa.string()))
    return rows.set_column(rows.schema.get_field_index("model"), "model", names)


def _all_eligible(keys: pa.ChunkedArray) -> pa.Table:
    """Rows of schema.GRADED that say no more than that each is right, and its key."""
    nothing = pa.nulls(len(keys))
    known = {"is_correct": pa.repeat(True, len(keys)), "equations_status": pa.repeat("ok", len(keys))}
    known["equation_key"] = keys
    return pa.table([known.get(field.name, nothing.cast(field.type)) for field in GRADED], schema=GRADED)


@contextmanager
def _writer(path: Path, suffix: str) -> Iterator[Callable[[pa.Table], None]]:
    if suffix == ".parquet":
        with pq.ParquetWriter(path, TRAINING) as writer:
            yield writer.write_table
    else:
        with path.open("w", encoding="utf-8") as file:
            yield partial(_write_jsonl, file)


def _write_jsonl(file: Any, rows: pa.Table) -> None:
    encode = json.JSONEncoder(ensure_ascii=False).encode
    for batch in rows.to_batches(max_chunksize=8192):
        file.writelines(encode(row) + "\n" for row in batch.to_pylist())
