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
from qrft.grading.batch import BatchGrader, of_samples
from qrft.grading.judges import decided
from qrft.grading.paths import answered_by
from qrft.grading.rules import Rules
from qrft.pipeline.stages import Inputs, Job, Report

VERSION = grading.GRADER_VERSION


class Settings(Section):
    rules: Rules
    judges_expressions: bool  # whether Math-Verify compares answers that are expressions
    judges_paths: bool = False  # whether the grades say which right paths are sound

    @property
    def runtime_keys(self) -> frozenset[str]:
        """A setting that is off changes nothing of what is made, so digests stay as they were without it."""
        return frozenset() if self.judges_paths else frozenset({"judges_paths"})


def run(inputs: Inputs, out: Path, settings: Settings, job: Job) -> Report:
    """Write graded.parquet, row-aligned with the samples."""
    samples = pq.read_table(inputs["samples"] / "samples.parquet", columns=["problem_id", "completion"])
    problems = pq.read_table(inputs["problems"] / "problems.parquet", columns=["problem_id", "question", "answer"])
    problem = pc.index_in(samples["problem_id"], problems["problem_id"].combine_chunks()).to_numpy()
    gold, questions = (of_samples(problems[name].combine_chunks(), problem) for name in ("answer", "question"))
    asked = questions if settings.judges_paths else None
    with BatchGrader(settings.rules, job.num_threads, settings.judges_expressions) as grader:
        graded = grader.grade(
            samples["completion"],
            gold,
            lambda num_judged: job.progress(0, samples.num_rows, f"{num_judged:,} expressions compared"),
            questions=asked,
        )
    verdicts = _table(inputs["samples"] / "verdicts.parquet")  # of samples made elsewhere
    is_right = None if verdicts is None else verdicts["is_right"]
    by = answered_by(problems, _table(inputs["problems"] / "votes.parquet"))
    by = None if by is None else by.take(pa.array(problem))
    rules, num_threads = settings.rules, job.num_threads
    graded = decided(samples["completion"], graded, is_right, by, asked, rules=rules, num_threads=num_threads)
    pq.write_table(graded, out / "graded.parquet")
    num_correct = pc.sum(graded["is_correct"]).as_py() or 0
    job.progress(graded.num_rows, graded.num_rows, f"{num_correct} correct{_hint(graded, settings)}")
    return {"num_samples": graded.num_rows, "num_correct": num_correct}


def _table(path: Path) -> pa.Table | None:
    return pq.read_table(path) if path.exists() else None


def _hint(graded: pa.Table, settings: Settings) -> str:
    num_expressions = pc.sum(pc.equal(graded["status"], "expression")).as_py() or 0
    if settings.judges_expressions or not num_expressions:
        return ""
    return f", {num_expressions} expressions not judged (pip install 'qrft[latex]')"
