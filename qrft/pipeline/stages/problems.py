"""Draw a generated problem set, or read a published one or a person's own."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from qrft.data.problems import registry
from qrft.data.problems.own_files import read_file
from qrft.data.problems.table import share
from qrft.data.problems.tiny_math import TINY_MATH_VERSION
from qrft.pipeline.stages import Config, Inputs, Progress, Report

READERS_VERSION = 1  # raise it when the same file would give another table
VERSION = TINY_MATH_VERSION + READERS_VERSION


def run(inputs: Inputs, out: Path, config: Config, progress: Progress) -> Report:
    """Write problems.parquet, which follows schema.PROBLEMS."""
    table = _table(inputs, config)
    if "fraction" in config:
        table = share(table, config["fraction"], config["fraction_seed"])
    pq.write_table(table, out / "problems.parquet")
    progress(1, 1, f"{table.num_rows} problems")
    return {"num_problems": table.num_rows}


def _table(inputs: Inputs, config: Config) -> pa.Table:
    if "file" not in inputs:
        return registry.draw(config["set"], config["seed"], config["num_problems"])
    if "set" in config:
        return registry.read(inputs["file"], config["set"]).slice(0, config["num_problems"])
    return read_file(inputs["file"], config["num_problems"])
