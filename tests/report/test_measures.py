"""The numbers behind a run's plots, and the plots of little or much."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.runs import Made, solve

from qrft import grading
from qrft.data.problems.tiny_math import Story, write_solution
from qrft.report import svg
from qrft.report.run import charts, measures
from qrft.report.run.settings import Input, Pooled


def test_curve_ends_at_what_was_kept(made: Made) -> None:
    run = measures.Run(made.inputs, made.settings)
    curve = run.curve(run.samples, run.graded, beside_gold=True)
    assert [k for k, _ in curve] == list(range(1, 13))
    assert curve[-1][1] == pytest.approx(made.summary()["paths_per_problem"])
    assert all(a <= b + 1e-9 for (_, a), (_, b) in pairwise(curve))


def test_problems_that_stopped_early_count_by_the_first_samples_of_all(tmp_path: Path) -> None:
    """As with sample.until: who has two right ones among four or more gets no more."""
    made = Made(tmp_path, 40, 5, 12, solve)
    samples = pq.read_table(made.inputs["round-1/samples"] / "samples.parquet")
    graded = pq.read_table(made.inputs["round-1/graded"] / "graded.parquet")
    is_right = np.array(graded["is_correct"].to_pylist()).reshape(40, 12)
    before = np.cumsum(is_right, axis=1) - is_right
    taken = ((before < 2) | (np.arange(12) < 4)).reshape(-1)
    for step, name, table in (("samples", "samples", samples), ("graded", "graded", graded)):
        pq.write_table(table.filter(pa.array(taken)), made.inputs[f"round-1/{step}"] / f"{name}.parquet")
    verdicts = made.inputs["round-1/training"] / "verdicts.parquet"
    pq.write_table(pq.read_table(verdicts).filter(pa.array(taken)), verdicts)
    sizes = taken.reshape(40, 12).sum(axis=1)
    assert sizes.min() == 4 < sizes.max()

    gold = grading.grade(made.train["solution"], made.train["answer"], rules=made.rules)["equation_key"].to_pylist()
    rows = list(zip(samples["sample_index"].to_pylist(), graded.to_pylist(), strict=True))
    first = [
        {row["equation_key"] for index, row in rows[12 * n : 12 * n + 12]
         if index < 4 and row["is_correct"] and row["equations_status"] == "ok"} - {gold[n]}
        for n in range(40)
    ]  # fmt: skip
    summary = made.summary()
    assert [k for k, _ in summary["distinct_curve"]] == [1, 2, 3, 4]
    assert summary["distinct_curve"][-1][1] == pytest.approx(1 + np.mean([len(paths) for paths in first]))
    assert summary["distinct_paths"] > summary["distinct_curve"][-1][1] and summary["samples_per_problem"] > 4


def one_way(r: random.Random, problem: dict[str, str], story: Story) -> str:
    return write_solution(story.paths[0])


def without_rft(made: Made) -> None:
    """Leave what the report of a model gets that lends its samples and is not fine-tuned again."""
    out = made.inputs["evaluation"]
    facts = json.loads((out / "evaluation.json").read_text())
    facts = {key: facts[key] for key in ("num_test", "num_clusters", "base", "sft", "measures", "forms")}
    (out / "evaluation.json").write_text(json.dumps(facts))
    for name in [name for name in made.inputs if name.startswith("rft") or name == "round-1/training"]:
        del made.inputs[name]
    made.told["pool"] = ()


def test_who_lends_paths_and_who_learns_from_a_pool_have_curves_of_their_own(tmp_path: Path) -> None:
    lender = Made(tmp_path / "lender", 12, 5, 6, solve)
    alone = lender.summary()
    assert "own_paths" not in alone, "its curve is that of its own samples"
    curve = alone["distinct_curve"]
    without_rft(lender)
    found = lender.summary()
    assert found["own_paths"]["distinct_curve"] == curve and found["own_paths"]["samples_per_problem"] == 6
    assert found["own_paths"]["distinct_paths"] == pytest.approx(curve[-1][1]) and "distinct_curve" not in found

    made = Made(tmp_path / "pool", 12, 5, 6, one_way)
    before = made.summary()["distinct_curve"]
    others = []
    for kind in ("samples", "graded"):
        made.inputs[f"large/round-1/{kind}"] = lender.inputs[f"round-1/{kind}"].rename(tmp_path / f"large-{kind}")
        others.append(Input(name=f"large/round-1/{kind}", kind=kind, phase="round-1", model="large"))
    made.told["steps"] = (*made.settings.steps, *others)
    places = (("small/sft", "round-1"), ("large/sft", "large/round-1"))
    made.told["pool"] = tuple(
        Pooled(name=name, samples=f"{place}/samples", graded=f"{place}/graded") for name, place in places
    )
    pooled = made.summary()
    assert pooled["own_paths"]["distinct_curve"] == before
    assert pooled["distinct_curve"][-1][0] == 12 and pooled["distinct_paths"] > pooled["own_paths"]["distinct_paths"]


def test_correct_per_problem_adds_up(made: Made) -> None:
    run = measures.Run(made.inputs, made.settings)
    assert run.correct_per_problem.sum() == made.summary()["num_correct"]
    assert len(run.correct_per_problem) == 40


@pytest.mark.parametrize("high", [0.0, 1e-9, 0.07, 0.5, 1, 9, 10, 11, 99.9, 1234567, float("nan")])
def test_ticks_cover_the_range_with_few_steps(high: float) -> None:
    marks = svg.ticks(high)
    assert marks[0] == 0 and 2 <= len(marks) <= 7
    assert not marks[-1] < high


def test_pictures_of_little_or_much() -> None:
    assert "No loss was logged" in charts.losses({"sft": [], "rft": []})
    assert "<svg" in charts.losses({"sft": [{"step": 1, "loss": 0.5}], "rft": []})
    assert charts.losses({"sft": [{"step": i, "loss": 1.0} for i in range(10_000)], "rft": []}).count("<circle") == 300
    assert charts.histogram(np.array([0, 500, 1000]), 1000).count("<rect") <= 61
    assert "<svg" in charts.histogram(np.array([], np.int64), 30)
    assert "no path" in charts.distinct_paths([], [])
    assert "no path" in charts.distinct_paths([(1, 0.0)], [(1, 0.0)])
