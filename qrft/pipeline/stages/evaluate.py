"""What each model scores on each test set, with intervals, and whether RFT beats SFT by more than chance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from qrft.config.section import Count, Section
from qrft.data.disk import write_atomic
from qrft.data.schema import EVALUATION
from qrft.evaluation import stats
from qrft.evaluation.stats import Floats
from qrft.evaluation.votes import Ballots, correct_share
from qrft.grading.rules import Rules
from qrft.pipeline.stages import Inputs, Job, Report

VERSION = 2
GREEDY = "greedy"


class Answers(Section):
    """One model's answers to one test set: what the tables call them, and the names of the inputs that hold them.

    `rules` are those that graded them: each test set has its own answer format.
    """

    model: str
    problems: str
    few_shot: int
    rules: Rules
    is_greedy: bool
    asked: str
    samples: str
    graded: str


class Settings(Section):
    maj_at: tuple[Count, ...]
    pass_at: tuple[Count, ...]
    entries: tuple[Answers, ...]


def run(inputs: Inputs, out: Path, settings: Settings, job: Job) -> Report:
    """Write evaluation.parquet, a value per problem and measure, and evaluation.json, their means with 95% intervals.

    The first of a model's answers give its headline.
    """
    tables, measures = [], []
    headline: dict[str, Floats] = {}
    for number, entry in enumerate(settings.entries):
        problems = pq.read_table(inputs[entry.asked] / "problems.parquet")
        for measure, scores in _measured(inputs, entry, problems, settings, job.num_threads).items():
            labels = {**entry.model_dump(include={"model", "problems", "few_shot"}), "measure": measure}
            measures.append({**labels, **stats.summary(scores), "num_problems": len(scores)})
            tables.append(_table(problems, labels, scores))
            # The first answers of a model: on problems.test, greedy if that is asked for.
            headline.setdefault(entry.model, scores)
        job.progress(number + 1, len(settings.entries), "")
    pq.write_table(pa.concat_tables(tables), out / "evaluation.parquet", compression="zstd")
    result = {**evaluate(headline), "measures": measures}
    write_atomic(out / "evaluation.json", json.dumps(result, indent=1))
    return {"num_measures": len(measures)}


def _measured(
    inputs: Inputs, entry: Answers, problems: pa.Table, settings: Settings, num_threads: int | None
) -> dict[str, Floats]:
    """Return the value of each measure for each problem, in the order of the problems, by the measure's name."""
    graded = pq.read_table(inputs[entry.graded] / "graded.parquet")
    columns = ["problem_id"] if entry.is_greedy else ["problem_id", "completion"]
    samples = pq.read_table(inputs[entry.samples] / "samples.parquet", columns=columns)
    problem = pc.index_in(samples["problem_id"], problems["problem_id"].combine_chunks()).to_numpy()
    if entry.is_greedy:
        return {GREEDY: correct_share(problems.num_rows, problem, graded)}
    ballots = Ballots(problems.num_rows, entry.rules)
    ballots.add(problem, graded, ballots.read(samples["completion"], graded, num_threads))
    return ballots.votes().measures(settings.maj_at, settings.pass_at)


def _table(problems: pa.Table, labels: Mapping[str, Any], found: Floats) -> pa.Table:
    same = {key: pa.array([value] * problems.num_rows) for key, value in labels.items()}
    columns = {"problem_id": problems["problem_id"], "question": problems["question"], **same, "value": found}
    return pa.table({name: columns[name] for name in EVALUATION.names}).cast(EVALUATION)


def evaluate(headline: Mapping[str, Floats]) -> dict[str, Any]:
    """Return each model's accuracy from its value for each problem, and RFT's gain with its paired interval: over SFT,
    or over the base where there was no SFT.

    p_value: exact McNemar between the two; null where a problem's value is a share and not right or wrong.
    """
    result: dict[str, Any] = {"num_test": len(next(iter(headline.values())))}
    if "rft" in headline:
        paired = stats.compare(headline["sft" if "sft" in headline else "base"], headline["rft"])
        result["p_value"] = paired["p_value"]
        result["gain"] = {key: paired[key] for key in ("difference", "low", "high")}
    for model, found in headline.items():
        low, high = stats.interval(found)
        result[model] = {"accuracy": float(found.mean()), "low": low, "high": high}
    return result
