"""Draw a built-in problem set, or read a published one or a person's own."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from qrft.data.problems import draw, read_jsonl, share
from qrft.data.problems import registry as find
from qrft.data.problems.tiny_math import TINY_MATH_VERSION
from qrft.pipeline.stages import Config, Inputs, Progress, Report

VERSION = TINY_MATH_VERSION


def run(inputs: Inputs, out: Path, config: Config, progress: Progress) -> Report:
    if "file" in inputs and "set" in config:
        table = find.read(inputs["file"], config["set"]).slice(0, config["num_problems"])
    elif "file" in inputs:
        table = read_jsonl(inputs["file"], config["num_problems"])
    else:
        table = draw(config["set"], config["seed"], config["num_problems"])
    if "fraction" in config:
        table = share(table, config["fraction"], config["fraction_seed"])
    pq.write_table(table, out / "problems.parquet")
    progress(1, 1, f"{table.num_rows} problems")
    return {"num_problems": table.num_rows}
