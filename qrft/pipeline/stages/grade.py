"""Grade samples in the C core: the answer against the gold answer, every equation, the key of the equation list.

Answers that are expressions go to Math-Verify where it is installed.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from qrft import grading
from qrft.config.section import Section
from qrft.grading import latex
from qrft.grading.rules import Rules
from qrft.pipeline.stages import Inputs, Job, Progress, Report

VERSION = grading.GRADER_VERSION


class Settings(Section):
    rules: Rules
    judges_expressions: bool  # whether Math-Verify compares answers that are expressions


def run(inputs: Inputs, out: Path, settings: Settings, job: Job) -> Report:
    """Writes graded.parquet, row-aligned with the samples."""
    samples = pq.read_table(inputs["samples"] / "samples.parquet", columns=["problem_id", "completion"])
    problems = pq.read_table(inputs["problems"] / "problems.parquet", columns=["problem_id", "answer"])
    place = pc.index_in(samples["problem_id"], problems["problem_id"].combine_chunks())
    gold = pa.chunked_array(
        [pa.DictionaryArray.from_arrays(chunk, problems["answer"].combine_chunks()) for chunk in place.chunks],
        pa.dictionary(pa.int32(), pa.string()),
    )
    rules = settings.rules
    graded = grading.grade(samples["completion"], gold, rules=rules, num_threads=job.num_threads)
    if settings.judges_expressions:
        graded = _judged(samples["completion"], gold, graded, rules, job.num_threads, job.progress)
    pq.write_table(graded, out / "graded.parquet")
    num_correct = pc.sum(graded["is_correct"]).as_py() or 0
    job.progress(graded.num_rows, graded.num_rows, f"{num_correct} correct{_hint(graded, settings)}")
    return {"num_samples": graded.num_rows, "num_correct": num_correct}


def _hint(graded: pa.Table, settings: Settings) -> str:
    num_expressions = pc.sum(pc.equal(graded["status"], "expression")).as_py() or 0
    if settings.judges_expressions or not num_expressions:
        return ""
    return f", {num_expressions} expressions not judged (pip install 'qrft[latex]')"


def _judged(
    completions: pa.ChunkedArray,
    gold: pa.ChunkedArray,
    graded: pa.Table,
    rules: Rules,
    num_threads: int | None,
    progress: Progress,
) -> pa.Table:
    with latex.Judges(num_threads) as judges:
        return latex.resolve(
            completions,
            gold,
            graded,
            judges,
            rules=rules,
            progress=lambda num_judged: progress(0, graded.num_rows, f"{num_judged:,} expressions compared"),
        )
