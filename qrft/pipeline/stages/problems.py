"""Draw a generated problem set, or read a published one or a person's own file."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from qrft.config.section import Count, Section, Seed
from qrft.data.problems import registry
from qrft.data.problems.own_files import read_file
from qrft.data.problems.table import share
from qrft.data.problems.tiny_math import TINY_MATH_VERSION
from qrft.data.problems.tiny_paths import TINY_PATHS_VERSION
from qrft.pipeline.stages import Inputs, Job, Report

READERS_VERSION = 1  # raise it when the same file would give another table
VERSION = TINY_MATH_VERSION + TINY_PATHS_VERSION + READERS_VERSION


class Settings(Section):
    """`set` is a generated or published set; None means a person's own file, whose `columns` may have other names. A
    share is drawn by its own seed."""

    set: str | None = None
    seed: Seed | None = None  # only for a generated set
    num_problems: Count | None = None
    fraction: float | None = None
    fraction_seed: Seed | None = None
    may_lack_answers: bool = False
    columns: dict[str, str] | None = None

    @property
    def runtime_keys(self) -> frozenset[str]:
        """A setting that is off, and columns under their usual names, change nothing of the table."""
        return frozenset(name for name in ("may_lack_answers", "columns") if not getattr(self, name))


def run(inputs: Inputs, out: Path, settings: Settings, job: Job) -> Report:
    """Write problems.parquet, which follows schema.PROBLEMS, with clusters where they are known."""
    table = _table(inputs, settings)
    if settings.fraction is not None:
        assert settings.fraction_seed is not None
        table = share(table, settings.fraction, settings.fraction_seed)
    pq.write_table(table, out / "problems.parquet")
    job.progress(1, 1, f"{table.num_rows} problems")
    return {"num_problems": table.num_rows}


def _table(inputs: Inputs, settings: Settings) -> pa.Table:
    if settings.set is None:
        needs_answers = not settings.may_lack_answers
        return read_file(inputs["file"], settings.num_problems, settings.columns, needs_answers=needs_answers)
    if "file" in inputs:
        return registry.read(inputs["file"], settings.set).slice(0, settings.num_problems)
    assert settings.seed is not None and settings.num_problems is not None  # a generated set has no end
    return registry.draw(settings.set, settings.seed, settings.num_problems)
