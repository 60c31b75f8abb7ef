"""`qrft evaluate RUN_A RUN_B`: two runs' evaluations, problem by problem."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from qrft.data.files import read_errors
from qrft.data.problems.table import CLUSTER
from qrft.data.schema import EVALUATION
from qrft.errors import DataError, UsageError
from qrft.evaluation import stats
from qrft.pipeline.store import verify_around

TABLE = Path("evaluation") / "evaluation.parquet"
LABELS = ("model", "problems", "few_shot", "measure")

Labels = tuple[str, str, int, str]
Key = tuple[str, str]  # problem_id and question: row numbers are ids in many files
Values = dict[Key, float]


def is_run(path: Path) -> bool:
    return (path / TABLE).is_file()


def runs_within(path: Path) -> list[Path]:
    """Return the run folders within a sweep's folder, or within that of a recipe with several models."""
    return sorted(found.parent.parent for depth in ("*", "*/*") for found in path.glob(f"{depth}/{TABLE}"))


def run(paths: tuple[Path, ...]) -> dict[str, Any]:
    """Return `comparisons`: a row per model, test set, number of examples and measure that both runs have.

    A row holds `first` and `second`, each a value with its 95% interval. Over the problems that both runs have, it
    holds their `difference`, its paired interval and `p_value` (stats.compare), over the clusters of problems if these
    are known, and the problem_ids that `only_first` and `only_second` solved. The last three are null except for greedy
    answers.
    Raises UsageError unless two runs are named, DataError when they have nothing in common.
    """
    if len(paths) != 2 or not all(map(is_run, paths)):
        others = [str(path) for path in dict.fromkeys(paths) if not is_run(path)]
        found = (
            f"{' and '.join(others)}: not a run folder"
            if others
            else f"found {len(paths)} run folder{'s' * (len(paths) > 1)}"
        )
        within = [str(run) for path in dict.fromkeys(paths) if not is_run(path) for run in runs_within(path)]
        hint = f" Run folders inside it: {', '.join(within[:4])}{' ...' if len(within) > 4 else ''}" if within else ""
        raise UsageError(f"{found}. Expected two run folders, or samples alone. A run folder holds {TABLE}.{hint}")
    (first, clusters), (second, _) = (_read(path / TABLE) for path in paths)
    rows = [_compare(labels, first[labels], second[labels], clusters) for labels in first if labels in second]
    rows = [row for row in rows if row["num_problems"]]
    if not rows:
        names = " and ".join(map(str, paths))
        raise DataError(
            f"{names}: no model was measured in both on the same problems. Found {_told(first)} in the first, and "
            f"{_told(second)} in the second. Name two runs that share a model and a test set."
        )
    return {"first": str(paths[0]), "second": str(paths[1]), "comparisons": rows}


def _read(path: Path) -> tuple[dict[Labels, Values], dict[Key, str | None]]:
    """Return the values by their labels, and the clusters of the problems, as far as they are known."""
    verify_around(path)
    with read_errors(path):
        table = pq.read_table(path)
    if table.schema.names not in (EVALUATION.names, [*EVALUATION.names, CLUSTER]):
        raise DataError(
            f"{path}: was written by another version of qrft. Run its recipe again: only the evaluation is repeated."
        )
    scores: dict[Labels, Values] = {}
    columns = [table[name].to_pylist() for name in EVALUATION.names]
    for problem_id, question, *labels, value in zip(*columns, strict=True):
        scores.setdefault(tuple(labels), {})[problem_id, question] = value
    clusters = table[CLUSTER].to_pylist() if CLUSTER in table.column_names else []
    return scores, dict(zip(zip(*columns[:2], strict=True), clusters, strict=False))


def _compare(labels: Labels, first: Values, second: Values, clusters: Mapping[Key, str | None]) -> dict[str, Any]:
    both = [key for key in first if key in second]
    a, b = (np.array([values[key] for key in both], np.float64) for values in (first, second))
    row: dict[str, Any] = {**dict(zip(LABELS, labels, strict=True)), "num_problems": len(both)}
    row["num_unpaired"] = len(first) + len(second) - 2 * len(both)
    if not both:
        return row
    own = np.array([clusters[key] for key in both]) if all(clusters.get(key) is not None for key in both) else None
    row |= {
        "num_clusters": None if own is None else len(np.unique(own)),
        "first": stats.summary(a, own),
        "second": stats.summary(b, own),
        **stats.compare(a, b, own),
        "only_first": None,
        "only_second": None,
    }
    if row["p_value"] is not None:
        ids = np.array([problem_id for problem_id, _ in both], object)
        row |= {"only_first": ids[a > b].tolist(), "only_second": ids[b > a].tolist()}
    return row


def _told(measured: Mapping[Labels, Values]) -> str:
    return ", ".join(dict.fromkeys(f"{model} on {problems}" for model, problems, _, _ in measured))
