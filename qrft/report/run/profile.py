"""What the report of a sweep needs from a run beyond its headline: its base, its paths and its test problems."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from qrft import grading
from qrft.data.problems.table import clusters_of
from qrft.evaluation import stats
from qrft.models.any_shape import read_shape
from qrft.report.run.measures import Run, as_ints

CURVE_POINTS = 16  # of the distinct paths over k, evenly on a log axis


def base_model(folder: Path) -> dict[str, Any]:
    """Return a base's parameters (the matrices of all blocks), and what pretraining.json says about held-out text."""
    facts: dict[str, Any] = {"num_parameters": read_shape(folder).num_linear}
    if (card := folder / "pretraining.json").exists():
        held_out = json.loads(card.read_text(encoding="utf-8")).get("held_out", {})
        facts |= {key: held_out.get(name) for key, name in CARD.items()}
    return {key: value for key, value in facts.items() if value is not None}


CARD = {"loss": "nats_per_token", "loss_error": "nats_per_token_error", "bits_per_byte": "bits_per_byte"}


def paths(run: Run, samples: pa.Table, graded: pa.Table) -> dict[str, Any]:
    """Return the distinct paths per problem in these samples, with gold's counted, as in the paper's tables.

    That is their mean, its bootstrap interval over problems, and their number over k.
    """
    per_problem = run.new_paths(samples, graded).astype(np.float64)
    low, high = stats.interval(per_problem)
    curve = dict(run.curve(samples, graded, beside_gold=True))
    at = np.geomspace(1, max(curve, default=1), CURVE_POINTS)
    wanted = {min(curve, key=lambda known: abs(known - k)) for k in at} if curve else set()
    return {
        "distinct_paths": 1 + float(stats.mean(per_problem)),
        "distinct_paths_low": 1 + low,
        "distinct_paths_high": 1 + high,
        "distinct_curve": [[k, 1 + curve[k]] for k in sorted(wanted)],
    }


def own_paths(run: Run) -> dict[str, Any]:
    """Return `paths` of the model's own samples, and how many a problem has; {} where RFT chose from only those."""
    if run.own is None:
        return {}
    samples, graded = run.own
    most = int(np.bincount(run.codes_of(samples)).max(initial=0))
    return {"own_paths": {"samples_per_problem": most, **paths(run, samples, graded)}}


def overlap(run: Run) -> list[dict[str, Any]]:
    """Count, for each set of sources, the paths that exactly these found: `{"sources": [...], "count": n}`.

    Empty where the samples have a single source.
    """
    if len(run.sources) < 2:
        return []
    columns = {"problem": run.problem_codes, "key": run.graded["equation_key"], "source": run.samples["model"]}
    found = pa.table(columns).filter(pa.array(run.may_be_kept(run.samples, run.graded)))
    members: dict[tuple[int, bytes], set[str]] = {}
    for problem, key, source in zip(*(found[name].to_pylist() for name in found.column_names), strict=True):
        members.setdefault((problem, key), set()).add(source)
    names = run.samples["model"].unique().to_pylist()
    counts = Counter(tuple(name for name in names if name in sources) for sources in members.values())
    return [{"sources": list(sources), "count": count} for sources, count in counts.most_common()]


def by_source(run: Run) -> dict[str, dict[str, Any]]:
    """Count the samples of each source, its right ones and its kept paths, and the share of all kept paths; the largest
    first. Empty where the samples have a single source."""
    columns = {"source": run.samples["model"], "num_correct": run.graded["is_correct"].cast(pa.int64())}
    found = pa.table(columns).group_by("source").aggregate([([], "count_all"), ("num_correct", "sum")]).to_pylist()
    if len(found) < 2:
        return {}
    kept = Counter(run.table(run.training, "training.parquet", ["source"])["source"].to_pylist())
    in_all = max(1, sum(kept[row["source"]] for row in found))
    return {
        row["source"]: {
            "num_samples": row["count_all"],
            "num_correct": row["num_correct_sum"],
            "num_kept": kept[row["source"]],
            "kept_share": kept[row["source"]] / in_all,
        }
        for row in sorted(found, key=lambda row: -kept[row["source"]])[:MAX_SOURCES]
    }


MAX_SOURCES = 20  # that are told one by one


def by_steps(run: Run) -> list[dict[str, Any]]:
    """Return the accuracy on test problems with 1, 2, .. equations in the gold solution; the last counts all above.

    Each is `{"steps": 2, "num_problems": 40, "sft": {"accuracy", "low", "high"}, ...}`, by the headline of each model:
    its first measure, which only the base may have taken with examples.
    """
    problems = run.table(run.step("problems", part="test"), "problems.parquet", ["problem_id", "solution", "answer"])
    graded = grading.grade(problems["solution"], problems["answer"], rules=run.settings.test_rules)
    steps = np.minimum(as_ints(graded["num_equations"]), MAX_STEPS)
    rows = pq.read_table(run.inputs[run.step("evaluation")] / "evaluation.parquet")
    headlines = {model: _headline(rows, run.headlines[model]) for model in run.models}
    values = {model: found["value"].to_numpy() for model, found in headlines.items()}
    clusters = clusters_of(headlines["base"])
    if not steps.any() or any(len(found) != len(steps) for found in values.values()):
        return []
    return [_accuracy(int(step), steps == step, values, clusters) for step in np.unique(steps)]


def by_cluster(run: Run) -> list[dict[str, Any]]:
    """Return, for each cluster of test problems, its size and each model's share of right answers; [] without clusters.

    Each is `{"cluster": "ages-0", "num_problems": 33, "sft": {"accuracy": 0.5, "pass@1": 0.4}, ...}`: of the headline,
    and of all samples where there are any.
    """
    rows = pq.read_table(run.inputs[run.step("evaluation")] / "evaluation.parquet")
    found: dict[str, dict[str, Any]] = {}
    if clusters_of(rows) is None:
        return []
    for model in run.models:
        first = run.headlines[model]
        for name, measure in (("accuracy", first["measure"]), ("pass@1", "pass@1")):
            own = _headline(rows, {**first, "measure": measure}).group_by("cluster", use_threads=False)
            for row in own.aggregate([("value", "mean"), ("value", "count")]).to_pylist():
                entry = {"cluster": row["cluster"], "num_problems": row["value_count"]}
                found.setdefault(row["cluster"], entry).setdefault(model, {})[name] = row["value_mean"]
    return list(found.values())


def _headline(rows: pa.Table, first: Mapping[str, Any]) -> pa.Table:
    """Return the rows of one measure, one per problem."""
    for key in ("model", "problems", "few_shot", "measure"):
        rows = rows.filter(pc.equal(rows[key], pa.scalar(first[key], rows[key].type)))
    return rows


MAX_STEPS = 8  # more are rare in GSM8K


def _accuracy(step: int, chosen: Any, values: Mapping[str, Any], clusters: stats.Clusters) -> dict[str, Any]:
    entry: dict[str, Any] = {"steps": step, "num_problems": int(chosen.sum())}
    for model, found in values.items():
        low, high = stats.interval(found[chosen], None if clusters is None else clusters[chosen])
        entry[model] = {"accuracy": float(found[chosen].mean()), "low": low, "high": high}
    return entry
