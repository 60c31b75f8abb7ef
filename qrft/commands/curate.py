"""`qrft curate`: from samples to a training set, the correct and distinct paths of each problem."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from qrft.commands.grading import Graded, Problems, Task, Totals, graded
from qrft.commands.spool import Part, Spool
from qrft.data.disk import whole_file
from qrft.data.files import check_output
from qrft.data.jsonl import write_jsonl
from qrft.data.samples import Batch, ahead
from qrft.data.schema import GRADED, JUDGED_BY_FIELD, TRAINING
from qrft.errors import UsageError
from qrft.grading.pairing import DEFAULT_PAIRING, Pairing
from qrft.grading.pairs import pairs_schema, preference_pairs
from qrft.grading.paths import gold_keys, is_cut_off, is_right_path, is_sound, is_wrong
from qrft.grading.rules import Selection
from qrft.grading.training_table import one_chunk, training_table

Key = tuple[int, bytes]

_OK = pa.scalar("ok")
SPOOLED = pa.schema(
    [
        ("problem", pa.int32()),
        ("model", pa.int32()),
        ("sample_index", pa.int32()),
        ("is_right", pa.bool_()),  # a right path; otherwise its answer is wrong, which only pairs need
        ("equation_key", pa.binary(16)),
        ("completion", pa.large_string()),
        JUDGED_BY_FIELD,  # null where no verdicts are read
    ]
)


class Output(NamedTuple):
    """Where the training set goes, and the pairs where they are wanted.

    with_gold: write the gold solutions too, and keep no path that has the same equations as its problem's.
    """

    training: Path
    with_gold: bool = True
    pairs: Path | None = None
    pairing: Pairing = DEFAULT_PAIRING


def run(task: Task, output: Output, selection: Selection) -> dict[str, Any]:
    """Write JSONL or Parquet with the columns of schema.TRAINING and of pairs_schema, problem by problem.

    Returns the facts. Raises DataError and UsageError for what can't be read or written; then neither file is there.
    """
    for path in filter(None, [output.training, output.pairs]):
        check_output(path, [".jsonl", ".parquet"], [*task.samples, Path(task.problems)])
    if output.pairs == output.training:
        raise UsageError(f"--pairs {output.pairs}: is the training set's file. Name another one.")
    problems = Problems(task)
    totals = Totals(len(problems))
    curator = _Curator(task, problems, selection.model_copy(update={"sound": "off"}), output)  # left out before it
    num_left_out: Counter[str] = Counter()
    with ExitStack() as stack:
        schema = TRAINING.append(JUDGED_BY_FIELD) if task.tells_judges else TRAINING
        write = stack.enter_context(_writer(output.training, schema))
        write_pairs = output.pairs and stack.enter_context(_writer(output.pairs, pairs_schema(output.pairing)))
        spool = stack.enter_context(Spool(output.training.parent, SPOOLED, len(problems)))
        with closing(graded(task, problems, totals, partial(_rows_of_use, selection, bool(write_pairs)))) as parts:
            for part in parts:
                spool.add(_spooled(part))
                num_left_out.update(part.extra.num_left_out)
        tasks = (partial(curator.tables, whole, totals.models) for whole in spool.parts())
        for training, pairs in ahead(tasks, task.num_threads):
            write(training)
            if write_pairs:
                write_pairs(pairs)
    return totals.facts() | problems.facts() | curator.facts() | num_left_out


class _OfUse(NamedTuple):
    """The rows of a batch that may be chosen, with their columns of SPOOLED, and how many right ones may not be, by
    the facts that say why."""

    rows: npt.NDArray[np.int64]
    columns: list[pa.Array]
    num_left_out: dict[str, int]


def _rows_of_use(selection: Selection, with_wrong: bool, batch: Batch, grades: pa.Table) -> _OfUse:
    is_right = is_right_path(grades)
    nothing = np.zeros(len(is_right), np.bool_)
    drops_cut_off = selection.cut_off == "drop"
    cut_off = is_cut_off(pa.table({"finish_reason": batch.finish_reason})) if drops_cut_off else nothing
    unsound = is_right & ~cut_off & ~is_sound(grades) if selection.sound == "require" else nothing
    rows = np.flatnonzero((is_right | is_wrong(grades) if with_wrong else is_right) & ~cut_off & ~unsound)
    places = pa.array(rows)
    keys = grades["equation_key"].combine_chunks().take(places)
    has_verdicts = JUDGED_BY_FIELD.name in grades.column_names
    judged_by = (
        one_chunk(grades[JUDGED_BY_FIELD.name]).take(places) if has_verdicts else pa.nulls(len(rows), pa.string())
    )
    columns = [pa.array(is_right[rows]), keys, batch.completion.take(places), judged_by]
    num_left_out = {"num_right_cut_off": int(np.count_nonzero(is_right & cut_off))}
    if selection.sound == "require":
        num_left_out["num_unsound"] = int(np.count_nonzero(unsound))
    return _OfUse(rows, columns, num_left_out)


def _spooled(part: Graded) -> pa.Table:
    found: _OfUse = part.extra
    numbers = [pa.array(column[found.rows]) for column in (part.batch.problem, part.models, part.sample_index)]
    return pa.table([*numbers, *found.columns], schema=SPOOLED)


class _Curator:
    """Selects part by part, in any thread, and counts."""

    def __init__(self, task: Task, problems: Problems, selection: Selection, output: Output) -> None:
        self._task, self._problems, self._selection, self._output = task, problems, selection, output
        self._counts: list[tuple[int, int, int]] = []  # kept, distinct, distinct with the gold ones
        self._num_pairs: list[int] = []

    def tables(self, part: Part, models: list[str]) -> tuple[pa.Table, pa.Table | None]:
        """Return the part's training rows, and its pairs where they are wanted."""
        problems = self._problems.table.slice(part.first, part.end - part.first)
        rows = _with_names(part.rows, models)
        training = self._training(problems, rows.filter(rows["is_right"]), part.first)
        return training, self._pairs(problems, rows, part.first) if self._output.pairs else None

    def _training(self, problems: pa.Table, rows: pa.Table, first: int) -> pa.Table:
        problem = rows["problem"].to_numpy().astype(np.int64) - first
        training = training_table(
            problems,
            problem,
            rows,
            _as_graded(rows, self._task.tells_judges),
            selection=self._selection,
            with_gold=self._output.with_gold,
            rules=self._task.rules,
            num_threads=1,
        )
        self._count(problems, problem[training.kept], rows["equation_key"].take(pa.array(training.kept)))
        return training.rows

    def _pairs(self, problems: pa.Table, rows: pa.Table, first: int) -> pa.Table:
        problem = rows["problem"].to_numpy().astype(np.int64) - first
        given = problems, problem, rows, _as_graded(rows), self._output.pairing, self._selection
        pairs = preference_pairs(*given, rules=self._task.rules, num_threads=1)
        self._num_pairs.append(pairs.num_rows)
        return pairs

    def _count(self, problems: pa.Table, problem: npt.NDArray[np.int64], keys: pa.ChunkedArray) -> None:
        pairs: set[Key] = set(zip(problem.tolist(), keys.to_pylist(), strict=True))
        golds = enumerate(gold_keys(problems, self._task.rules, num_threads=1).to_pylist())
        with_gold = pairs | {(row, key) for row, key in golds if key is not None}
        self._counts.append((len(keys), len(pairs), len(with_gold)))

    def facts(self) -> dict[str, Any]:
        num_kept, num_distinct, num_with_gold = map(sum, zip(*self._counts, strict=True))
        pairs = {"num_pairs": sum(self._num_pairs)} if self._output.pairs else {}
        return {
            **pairs,
            "num_kept": num_kept,
            "distinct_per_problem": num_distinct / len(self._problems),
            "distinct_per_problem_with_gold": num_with_gold / len(self._problems),
        }


def _with_names(rows: pa.Table, models: list[str]) -> pa.Table:
    """Return the spooled rows with the names of their models instead of the numbers."""
    names = pa.DictionaryArray.from_arrays(rows["model"].combine_chunks(), pa.array(models, pa.string()))
    return rows.set_column(rows.schema.get_field_index("model"), "model", names)


def _as_graded(rows: pa.Table, with_judges: bool = False) -> pa.Table:
    """Return rows of schema.GRADED that hold only whether each sample is right, and the key of its equations."""
    nothing, ok = pa.nulls(len(rows)), pa.repeat(_OK, len(rows))
    known = {"status": ok, "is_correct": rows["is_right"], "equations_status": ok, "equation_key": rows["equation_key"]}
    graded = pa.table([known.get(field.name, nothing).cast(field.type) for field in GRADED], schema=GRADED)
    return graded.append_column(JUDGED_BY_FIELD, rows[JUDGED_BY_FIELD.name]) if with_judges else graded


@contextmanager
def _writer(output: Path, schema: pa.Schema) -> Iterator[Callable[[pa.Table], None]]:
    with whole_file(output) as path:
        if output.suffix == ".parquet":
            with pq.ParquetWriter(path, schema) as writer:
                yield writer.write_table
        else:
            with path.open("w", encoding="utf-8") as file:
                yield partial(write_jsonl, file)
