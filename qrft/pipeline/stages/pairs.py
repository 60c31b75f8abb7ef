"""Preference pairs of a right and a wrong path, for trainers that learn from both."""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from qrft import grading
from qrft.config.section import Count
from qrft.data.jsonl import write_jsonl
from qrft.data.samples import pooled
from qrft.grading.pairing import Pairing
from qrft.grading.pairs import preference_pairs
from qrft.grading.rules import DEFAULT_RULES, Rules, Selection
from qrft.pipeline.stages import Inputs, Job, Report

PAIRS_VERSION = 2  # raise it when the same samples and grades would give other pairs
VERSION = grading.GRADER_VERSION + PAIRS_VERSION


class Settings(Pairing, Selection):
    """How the right paths are chosen and written; `sources` and `first_samples` as in the stage `curate`."""

    rules: Rules = DEFAULT_RULES
    sources: tuple[str, ...] = ()
    first_samples: Count | None = None


def run(inputs: Inputs, out: Path, settings: Settings, job: Job) -> Report:
    """Write pairs.parquet and pairs.jsonl, with the columns of `pairs_schema`."""
    problems = pq.read_table(inputs["problems"] / "problems.parquet")
    samples, graded = pooled.read_inputs(inputs, settings.sources, settings.first_samples)
    problem = pc.index_in(samples["problem_id"], problems["problem_id"].combine_chunks()).to_numpy()
    rules, num_threads = settings.rules, job.num_threads
    rows = preference_pairs(
        problems, problem, samples, graded, settings, settings, rules=rules, num_threads=num_threads
    )
    pq.write_table(rows, out / "pairs.parquet")
    with (out / "pairs.jsonl").open("w", encoding="utf-8") as file:
        write_jsonl(file, rows)
    job.progress(rows.num_rows, rows.num_rows, f"{rows.num_rows} pairs")
    return {"num_rows": rows.num_rows}
