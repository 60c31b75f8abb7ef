"""Samples that were made elsewhere, as samples of the run's problems."""

from __future__ import annotations

import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from qrft.data.samples.outside import read_outside
from qrft.grading.rules import Verdicts
from qrft.pipeline.stages import Inputs, Job, Report

VERSION = 1
log = logging.getLogger(__name__)


class Settings(Verdicts):
    """`names`: what the samples of each file are called that name no model; the input of its number is the file.

    `skips_unknown`: the run has only a part of its problems, so samples of the others are left out.
    """

    names: tuple[str, ...]
    skips_unknown: bool = False


def run(inputs: Inputs, out: Path, settings: Settings, job: Job) -> Report:
    """Write samples.parquet, in the order of the files, and, where they are read, verdicts.parquet: whether each is
    right by its file. Raises DataError for samples of unknown problems."""
    problems = pq.read_table(inputs["problems"] / "problems.parquet", columns=["problem_id"])
    ids = problems["problem_id"].combine_chunks().cast(pa.large_string())
    names = {inputs[str(number)]: name for number, name in enumerate(settings.names)}
    found = read_outside(names, ids, job.progress, skips_unknown=settings.skips_unknown, verdicts=settings)
    for fault in found.faults.first:
        log.warning("Skipped: %s", fault)
    pq.write_table(found.samples, out / "samples.parquet", compression="zstd")
    if found.is_right is not None:
        pq.write_table(pa.table({"is_right": found.is_right}), out / "verdicts.parquet")
    return {
        "num_samples": found.samples.num_rows,
        "num_malformed": found.faults.count,
        "num_of_other_problems": found.num_unknown,
    }
