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

from qrft import grading
from qrft.commands.grading import Graded, Problems, Task, Totals, graded, is_eligible
from qrft.commands.spool import Part, Spool
from qrft.data.files import check_output, new_file
from qrft.data.problems import MARKER
from qrft.data.samples import Batch, ahead
from qrft.data.schema import GRADED, TRAINING
from qrft.grading.grader import equation_keys
from qrft.grading.rules import Selection

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

# A gold text whose key no path can have, for a problem with a bare answer: an eligible path has no empty equation.
NO_PATH = "<<>>"


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
    rows = np.flatnonzero(is_eligible(grades))
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
        solutions = problems.solutions.to_pylist()
        self._is_worked = np.array([bool(text.partition(MARKER)[0].strip()) for text in solutions])
        paths = [text if is_worked else NO_PATH for text, is_worked in zip(solutions, self._is_worked, strict=True)]
        self._gold_paths = pa.array(paths, pa.large_string())
        self._counts: list[tuple[int, int, int]] = []  # a part: kept paths, distinct ones, with the gold ones

    def training(self, part: Part, models: list[str]) -> pa.Table:
        """The part's rows of schema.TRAINING: each problem's worked solution, then its kept paths in sample order."""
        kept = part.rows.take(pa.array(self._kept(part)))
        self._count(kept, part)
        problem = kept["problem"].to_numpy()
        gold = np.flatnonzero(self._is_worked[part.first : part.end]) + part.first
        gold = gold if self._with_gold else gold[:0]
        problem = np.concatenate([gold, problem])
        sources = pa.DictionaryArray.from_arrays(kept["model"].combine_chunks(), pa.array(models, pa.string()))
        columns = [
            self._problems.ids.take(pa.array(problem)).cast(pa.string()),
            self._problems.table["question"].take(pa.array(problem)),
            pa.concat_arrays([self._problems.solutions.take(pa.array(gold)), *kept["completion"].chunks]),
            pa.concat_arrays([pa.array(["gold"] * len(gold), pa.string()), sources.cast(pa.string())]),
            pa.concat_arrays([pa.nulls(len(gold), pa.int32()), *kept["sample_index"].chunks]),
        ]
        return pa.table(columns, schema=TRAINING).take(pa.array(np.argsort(problem, kind="stable")))

    def _kept(self, part: Part) -> npt.NDArray[np.int64]:
        rows = part.rows
        if not rows.num_rows:
            return np.zeros(0, np.int64)
        problem = rows["problem"].combine_chunks()
        return grading.curate(
            rows["completion"],
            problem,
            _all_eligible(rows["equation_key"]),
            gold_texts=pa.DictionaryArray.from_arrays(problem, self._gold_paths) if self._takes_gold_keys() else None,
            selection=self._selection,
            rules=self._task.rules,
            num_threads=1,
        )

    def _takes_gold_keys(self) -> bool:
        """Not when the gold paths are left out, and not in the paper's mode, whose script never looks at them."""
        return self._with_gold and self._task.rules.mode != "paper"

    def _count(self, kept: pa.Table, part: Part) -> None:
        pairs = set(zip(kept["problem"].to_pylist(), kept["equation_key"].to_pylist(), strict=True))
        self._counts.append((kept.num_rows, len(pairs), len(pairs | self._gold_pairs(part))))

    def _gold_pairs(self, part: Part) -> set[Key]:
        problems = range(part.first, part.end)
        texts = self._gold_paths.slice(part.first, part.end - part.first)
        keys = equation_keys(texts, rules=self._task.rules, num_threads=1)
        return {
            (problem, key.tobytes()) for problem, key in zip(problems, keys, strict=True) if self._is_worked[problem]
        }

    def facts(self) -> dict[str, Any]:
        num_kept, num_distinct, num_with_gold = map(sum, zip(*self._counts, strict=True))
        return {
            "num_kept": num_kept,
            "distinct_per_problem": num_distinct / len(self._problems),
            "distinct_per_problem_with_gold": num_with_gold / len(self._problems),
        }


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
