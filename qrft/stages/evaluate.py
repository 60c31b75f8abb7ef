"""Accuracy of each model on the test problems, with intervals, and whether RFT beats SFT by more than luck."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from qrft.schema import EVALUATION
from qrft.stages import Config, Inputs, Progress, Report
from qrft.stats import mcnemar, wilson
from qrft.store import write_atomic

VERSION = 1


def run(inputs: Inputs, out: Path, config: Config, progress: Progress) -> Report:
    """Reads `<model>` (samples) and `<model>-graded` of each model in config["models"]; writes evaluation.parquet
    and evaluation.json."""
    correct: dict[str, list[bool]] = {}
    tables = []
    for model in config["models"]:
        ids = pq.read_table(inputs[model] / "samples.parquet", columns=["problem_id"])["problem_id"]
        graded = pq.read_table(inputs[f"{model}-graded"] / "graded.parquet", columns=["is_correct"])["is_correct"]
        correct[model] = graded.to_pylist()
        tables.append(pa.table([ids, pa.array([model] * len(ids)), graded], schema=EVALUATION))
    pq.write_table(pa.concat_tables(tables), out / "evaluation.parquet")
    result = evaluate(correct)
    write_atomic(out / "evaluation.json", json.dumps(result, indent=1))
    progress(1, 1, "")
    return result


def evaluate(correct: dict[str, list[bool]]) -> dict[str, Any]:
    """Per model accuracy and its 95% Wilson interval; p_value: exact McNemar between sft and rft, where both are."""
    num_test = len(next(iter(correct.values())))
    result: dict[str, Any] = {"num_test": num_test}
    if {"sft", "rft"} <= correct.keys():
        result["p_value"] = mcnemar(correct["sft"], correct["rft"])
    for model, verdicts in correct.items():
        low, high = wilson(sum(verdicts), num_test)
        result[model] = {"accuracy": sum(verdicts) / num_test, "low": low, "high": high}
    return result
