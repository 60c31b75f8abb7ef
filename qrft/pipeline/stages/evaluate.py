"""What each model scores on each test set, with intervals, and whether RFT beats SFT by more than chance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from qrft.config.section import Count, Section
from qrft.data.disk import write_atomic
from qrft.data.problems.table import CLUSTER, clusters_of
from qrft.data.schema import CLUSTER_FIELD, EVALUATION
from qrft.evaluation import forms, stats
from qrft.evaluation.stats import Clusters, Floats
from qrft.evaluation.votes import Ballots, correct_share
from qrft.grading.batch import of_samples
from qrft.grading.rules import Rules
from qrft.pipeline.stages import Inputs, Job, Report

VERSION = 4
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
    judges_expressions: bool = False  # whether Math-Verify compares expressions in other forms, too


class Settings(Section):
    maj_at: tuple[Count, ...]
    pass_at: tuple[Count, ...]
    entries: tuple[Answers, ...]


class _Answered(NamedTuple):
    """The answers of an entry, read once: row-aligned samples, each with the row of its problem."""

    problems: pa.Table
    problem: npt.NDArray[Any]
    completions: pa.ChunkedArray
    graded: pa.Table


def run(inputs: Inputs, out: Path, settings: Settings, job: Job) -> Report:
    """Write evaluation.parquet, a value per problem and measure, and evaluation.json, their means with 95% intervals.

    The first of a model's answers give its headline. `forms` has the accuracies by the form in which answers are looked
    for: of the greedy answers, or where there are none, of all. The flexible ones are in the table, too.
    """
    tables, measures, found_in = [], [], []
    headline: dict[str, Floats] = {}
    flexible: dict[str, Floats] = {}
    clusters: Clusters = None
    has_greedy = any(entry.is_greedy for entry in settings.entries)
    for number, entry in enumerate(settings.entries):
        answered = _read(inputs, entry)
        problems, own = answered.problems, clusters_of(answered.problems)
        names = entry.model_dump(include={"model", "problems", "few_shot"})
        by_form = _by_form(answered, entry, job.num_threads) if entry.is_greedy or not has_greedy else {}
        if by_form:
            summaries = {name: stats.summary(shares, own) for name, shares in by_form.items()}
            found_in.append({**names, "num_problems": problems.num_rows, **summaries})
        for measure, scores in _measured(answered, entry, settings, job.num_threads).items():
            labels = {**names, "measure": measure}
            measures.append({**labels, **stats.summary(scores, own), "num_problems": len(scores)})
            tables.append(_table(problems, labels, scores))
            # The first answers of a model: on problems.test, greedy if that is asked for.
            if entry.model not in headline:
                headline[entry.model], flexible[entry.model], clusters = scores, by_form["flexible"], own
            if by_form and measure in (GREEDY, "maj@1"):  # the accuracy, of which the forms are
                in_any_form = {**labels, "measure": f"{measure}, flexible"}
                tables.append(_table(problems, in_any_form, by_form["flexible"]))
        job.progress(number + 1, len(settings.entries), "")
    whole = pa.concat_tables(tables, promote_options="default")  # some sets have clusters
    pq.write_table(whole, out / "evaluation.parquet", compression="zstd")
    result = {**evaluate(headline, flexible, clusters), "measures": measures, "forms": found_in}
    write_atomic(out / "evaluation.json", json.dumps(result, indent=1))
    return {"num_measures": len(measures)}


def _read(inputs: Inputs, entry: Answers) -> _Answered:
    problems = pq.read_table(inputs[entry.asked] / "problems.parquet")
    graded = pq.read_table(inputs[entry.graded] / "graded.parquet")
    samples = pq.read_table(inputs[entry.samples] / "samples.parquet", columns=["problem_id", "completion"])
    problem = pc.index_in(samples["problem_id"], problems["problem_id"].combine_chunks()).to_numpy()
    return _Answered(problems, problem, samples["completion"], graded)


def _measured(answered: _Answered, entry: Answers, settings: Settings, num_threads: int | None) -> dict[str, Floats]:
    """Return the value of each measure for each problem, in the order of the problems, by the measure's name."""
    problems, problem, completions, graded = answered
    if entry.is_greedy:
        return {GREEDY: correct_share(problems.num_rows, problem, graded)}
    ballots = Ballots(problems.num_rows, entry.rules)
    ballots.add(problem, graded, ballots.read(completions, graded, num_threads))
    return ballots.votes().measures(settings.maj_at, settings.pass_at)


def _by_form(answered: _Answered, entry: Answers, num_threads: int | None) -> dict[str, Floats]:
    """Return the value of each of forms.NAMES for each problem."""
    problems, problem, completions, graded = answered
    gold = of_samples(problems["answer"].combine_chunks(), problem)
    with forms.Shares(problems.num_rows, entry.rules, num_threads, entry.judges_expressions) as shares:
        shares.add(problem, completions, gold, graded)
        return shares.shares()


def _table(problems: pa.Table, labels: Mapping[str, Any], found: Floats) -> pa.Table:
    same = {key: pa.array([value] * problems.num_rows) for key, value in labels.items()}
    columns = {"problem_id": problems["problem_id"], "question": problems["question"], **same, "value": found}
    table = pa.table({name: columns[name] for name in EVALUATION.names}).cast(EVALUATION)
    return table.append_column(CLUSTER_FIELD, problems[CLUSTER]) if CLUSTER in problems.column_names else table


def evaluate(
    headline: Mapping[str, Floats],
    flexible: Mapping[str, Floats] = MappingProxyType({}),
    clusters: Clusters = None,
) -> dict[str, Any]:
    """Return each model's accuracy from its value for each problem, and RFT's gain with its paired interval: over SFT,
    or over the base where there was no SFT.

    p_value: that of stats.compare; null where a problem's value is a share and not right or wrong. flexible:
    the same values in whatever form the answer is; with them, `gain_by` holds the two parts of the gain. Where there is
    a control, SFT for as many steps, `gain_over_control` is RFT's gain over that. clusters: of the problems, such as
    their wordings; where they are known, all intervals count them and not the problems, and `num_clusters` tells how
    many there are.
    """
    result: dict[str, Any] = {"num_test": len(next(iter(headline.values())))}
    result["num_clusters"] = None if clusters is None else len(np.unique(clusters))
    if "rft" in headline:
        before = "sft" if "sft" in headline else "base"
        paired = stats.compare(headline[before], headline["rft"], clusters)
        result["p_value"] = paired["p_value"]
        result["gain"] = _interval(paired)
        if flexible:
            first, second = ((headline[model], flexible[model]) for model in (before, "rft"))
            result["gain_by"] = gain_by(first, second, clusters)
    if "control" in headline:
        paired = stats.compare(headline["control"], headline["rft"], clusters)
        result["gain_over_control"] = {**_interval(paired), "p_value": paired["p_value"]}
    for model, found in headline.items():
        low, high = stats.interval(found, clusters)
        result[model] = {"accuracy": float(found.mean()), "low": low, "high": high}
    return result


def gain_by(before: tuple[Floats, Floats], after: tuple[Floats, Floats], clusters: Clusters = None) -> dict[str, Any]:
    """Return the gain from more right answers, in whatever form, and the rest: from more of them in the asked form.

    before, after: a model's values for each problem, in the asked form alone, and in whatever form.
    """
    right = stats.compare(before[1], after[1], clusters)
    form = stats.compare(before[0] - before[1], after[0] - after[1], clusters)
    return {"right": _interval(right), "form": _interval(form)}


def _interval(paired: Mapping[str, float | None]) -> dict[str, float | None]:
    return {key: paired[key] for key in ("difference", "low", "high")}
