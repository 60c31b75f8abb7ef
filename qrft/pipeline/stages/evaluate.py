"""What each model scores on each test set, with intervals, and whether RFT beats SFT by more than luck."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from qrft.config.section import Count, Section
from qrft.data.disk import write_atomic
from qrft.data.schema import EVALUATION
from qrft.evaluation import stats
from qrft.evaluation.stats import Floats
from qrft.evaluation.votes import Votes, codes, values
from qrft.grading.rules import Rules
from qrft.pipeline.stages import Inputs, Job, Report

VERSION = 2
GREEDY = "greedy"


class Answers(Section):
    """One model's answers to one test set: what they are told as, and under which names they are inputs."""

    model: str
    problems: str
    few_shot: int
    is_greedy: bool
    asked: str
    samples: str
    graded: str


class Settings(Section):
    maj_at: tuple[Count, ...]
    pass_at: tuple[Count, ...]
    rules: Rules
    entries: tuple[Answers, ...]


def run(inputs: Inputs, out: Path, settings: Settings, job: Job) -> Report:
    """Writes evaluation.parquet, a value a problem and measure, and evaluation.json, their means with 95% intervals.

    The first of a model's answers give its headline.
    """
    tables, measures = [], []
    headline: dict[str, Floats] = {}
    for number, entry in enumerate(settings.entries):
        problems = pq.read_table(inputs[entry.asked] / "problems.parquet")
        for measure, scores in _measured(inputs, entry, problems, settings, job.num_threads):
            labels = {**entry.model_dump(include={"model", "problems", "few_shot"}), "measure": measure}
            low, high = stats.interval(scores)
            mean = {"value": float(scores.mean()), "low": low, "high": high, "num_problems": len(scores)}
            measures.append({**labels, **mean})
            tables.append(_table(problems, labels, scores))
            # The first of a model: on problems.test, greedy where that is asked for.
            headline.setdefault(entry.model, scores)
        job.progress(number + 1, len(settings.entries), "")
    pq.write_table(pa.concat_tables(tables), out / "evaluation.parquet", compression="zstd")
    result = {**evaluate(headline), "measures": measures}
    write_atomic(out / "evaluation.json", json.dumps(result, indent=1))
    return {"num_measures": len(measures)}


def _measured(
    inputs: Inputs, entry: Answers, problems: pa.Table, settings: Settings, num_threads: int | None
) -> Iterator[tuple[str, Floats]]:
    """The name of each measure and its value for each problem, in the order of the problems."""
    graded = pq.read_table(inputs[entry.graded] / "graded.parquet")
    samples = inputs[entry.samples] / "samples.parquet"
    problem_ids = pq.read_table(samples, columns=["problem_id"])["problem_id"]
    place = pc.index_in(problem_ids, problems["problem_id"].combine_chunks()).to_numpy()
    is_correct = graded["is_correct"].to_numpy()
    if entry.is_greedy:
        yield GREEDY, np.bincount(place[is_correct], minlength=problems.num_rows).astype(np.float64)
        return
    completions = pq.read_table(samples, columns=["completion"])["completion"]
    voted = values(completions, graded, settings.rules, num_threads)
    votes = Votes(problems.num_rows, place, is_correct, codes(voted, {}))
    for k in settings.maj_at:
        yield f"maj@{k}", votes.majority(k)
    for k in settings.pass_at:
        yield f"pass@{k}", votes.passes(k)


def _table(problems: pa.Table, labels: Mapping[str, Any], found: Floats) -> pa.Table:
    same = {key: pa.array([value] * problems.num_rows) for key, value in labels.items()}
    columns = {"problem_id": problems["problem_id"], "question": problems["question"], **same, "value": found}
    return pa.table({name: columns[name] for name in EVALUATION.names}).cast(EVALUATION)


def evaluate(headline: Mapping[str, Floats]) -> dict[str, Any]:
    """Each model's accuracy from its value for each problem, and RFT's gain over SFT with its paired interval.

    p_value: exact McNemar between sft and rft; null where a problem's value is a share and not right or wrong.
    """
    result: dict[str, Any] = {"num_test": len(next(iter(headline.values())))}
    if {"sft", "rft"} <= headline.keys():
        paired = stats.compare(headline["sft"], headline["rft"])
        result["p_value"] = paired["p_value"]
        result["gain"] = {key: paired[key] for key in ("difference", "low", "high")}
    for model, found in headline.items():
        low, high = stats.interval(found)
        result[model] = {"accuracy": float(found.mean()), "low": low, "high": high}
    return result
