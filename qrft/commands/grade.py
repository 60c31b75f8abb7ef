"""`qrft grade`: a verdict per sample."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from qrft.commands.grading import Graded, Problems, Task, Totals, graded
from qrft.data.disk import whole_file
from qrft.data.files import check_output
from qrft.data.schema import GRADED, JUDGED_BY_FIELD, SOUNDNESS_FIELD

WRITTEN = pa.schema(
    [("problem_id", pa.string()), ("sample_index", pa.int32()), ("model", pa.string()), *GRADED],
)
EXTRA = {field.name: field for field in (SOUNDNESS_FIELD, JUDGED_BY_FIELD)}


def run(task: Task, output: Path) -> dict[str, Any]:
    """Write a row per sample, in the order of the files; a row that could not be read has none. Returns the facts."""
    check_output(output, [".parquet"], [*task.samples, Path(task.problems)])
    problems = Problems(task)
    totals = Totals(len(problems))
    with (
        closing(graded(task, problems, totals)) as parts,
        whole_file(output) as path,
        pq.ParquetWriter(path, _schema(task)) as writer,
    ):
        for part in parts:
            writer.write_table(_rows(part, problems, totals))
    return totals.facts() | problems.facts()


def _rows(part: Graded, problems: Problems, totals: Totals) -> pa.Table:
    models = pa.DictionaryArray.from_arrays(pa.array(part.models), pa.array(totals.models, pa.string()))
    ids = problems.ids.take(pa.array(part.batch.problem)).cast(pa.string())
    columns = [ids, pa.array(part.sample_index), models.cast(pa.string()), *part.grades.columns]
    extra = [EXTRA[name] for name in part.grades.column_names if name in EXTRA]
    return pa.table(columns, schema=pa.schema([*WRITTEN, *extra]))


def _schema(task: Task) -> pa.Schema:
    wanted = {SOUNDNESS_FIELD: task.judges_paths, JUDGED_BY_FIELD: task.tells_judges}
    return pa.schema([*WRITTEN, *(field for field, is_wanted in wanted.items() if is_wanted)])
