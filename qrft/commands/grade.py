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
from qrft.data.schema import GRADED, SOUNDNESS_FIELD

WRITTEN = pa.schema(
    [("problem_id", pa.string()), ("sample_index", pa.int32()), ("model", pa.string()), *GRADED],
)
JUDGED = WRITTEN.append(SOUNDNESS_FIELD)


def run(task: Task, output: Path) -> dict[str, Any]:
    """Write a row per sample, in the order of the files; a row that could not be read has none. Returns the facts."""
    check_output(output, [".parquet"], [*task.samples, Path(task.problems)])
    problems = Problems(task)
    totals = Totals(len(problems))
    with (
        closing(graded(task, problems, totals)) as parts,
        whole_file(output) as path,
        pq.ParquetWriter(path, JUDGED if task.judges_paths else WRITTEN) as writer,
    ):
        for part in parts:
            writer.write_table(_rows(part, problems, totals))
    return totals.facts()


def _rows(part: Graded, problems: Problems, totals: Totals) -> pa.Table:
    models = pa.DictionaryArray.from_arrays(pa.array(part.models), pa.array(totals.models, pa.string()))
    ids = problems.ids.take(pa.array(part.batch.problem)).cast(pa.string())
    columns = [ids, pa.array(part.sample_index), models.cast(pa.string()), *part.grades.columns]
    return pa.table(columns, schema=JUDGED if SOUNDNESS_FIELD.name in part.grades.column_names else WRITTEN)
