"""Shares of the problems, and pools of several models' samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qrft import grading
from qrft.data import schema
from qrft.data.problems.registry import draw
from qrft.data.problems.table import share
from qrft.pipeline.stages import Job, curate


def test_shares_of_the_problems_are_nested_and_keep_their_order() -> None:
    problems = draw("tiny-math/train", 0, 64)
    ids = problems["problem_id"].to_pylist()
    before = set(ids)
    for fraction in (1 / 2, 1 / 4, 1 / 8, 1 / 1000):
        found = share(problems, fraction, 0)["problem_id"].to_pylist()
        assert len(found) == max(1, round(64 * fraction)) and set(found) <= before
        assert found == sorted(found, key=ids.index)
        before = set(found)
    assert share(problems, 1 / 2, 0) != share(problems, 1 / 2, 1)


GOLD = "It is 6*7=<<6*7=42>>42.\n#### 42"
PATHS = [f"It is {n}+{42 - n}=<<{n}+{42 - n}=42>>42.\n#### 42" for n in range(6)]


def samples_of(folder: Path, name: str, completions: Sequence[str]) -> dict[str, Path]:
    count = len(completions)
    columns = [["0"] * count, ["sft"] * count, range(count), completions, ["stop"] * count, [9] * count, [-1.0] * count]
    (folder / name).mkdir()
    pq.write_table(pa.table([list(c) for c in columns], schema=schema.SAMPLES), folder / name / "samples.parquet")
    pq.write_table(grading.grade(completions, ["42"] * count), folder / name / "graded.parquet")
    return {f"{name}-sft/samples": folder / name, f"{name}-sft/graded": folder / name}


@pytest.mark.parametrize(
    ("first_samples", "kept"),
    [
        (None, [("a-sft", 0), ("a-sft", 1), ("a-sft", 2), ("b-sft", 2)]),
        (2, [("a-sft", 0), ("a-sft", 1)]),
    ],
)
def test_a_pool_keeps_each_path_once_and_says_whose_it_is(
    tmp_path: Path, first_samples: int | None, kept: list[tuple[str, int]]
) -> None:
    problems = pa.table([["0"], ["Six times seven?"], [GOLD], ["42"]], schema=schema.PROBLEMS)
    pq.write_table(problems, tmp_path / "problems.parquet")
    inputs = {
        "problems": tmp_path,
        **samples_of(tmp_path, "a", [PATHS[0], PATHS[1], PATHS[2]]),
        **samples_of(tmp_path, "b", [PATHS[1], PATHS[0], PATHS[5], GOLD]),
    }
    settings = curate.Settings(keep="first", sources=("a-sft", "b-sft"), first_samples=first_samples)
    curate.run(inputs, tmp_path, settings, Job(num_threads=1))
    rows = pq.read_table(tmp_path / "training.parquet").to_pylist()
    assert [(row["source"], row["sample_index"]) for row in rows[1:]] == kept
    num_verdicts = pq.read_table(tmp_path / "verdicts.parquet").num_rows
    assert num_verdicts == (7 if first_samples is None else 4)
