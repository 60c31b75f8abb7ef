"""The table of a sweep: a row for every run and model."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np

from qrft.pipeline.stages import Job, sweep
from qrft.pipeline.stages.evaluate import evaluate


def test_the_table_has_a_row_for_every_run_and_model(tmp_path: Path) -> None:
    entries = []
    for number, models in enumerate(({"base": [0, 1], "sft": [1, 1]}, {"base": [0, 1], "sft": [1, 1], "rft": [0, 0]})):
        facts = evaluate({name: np.array(verdicts, float) for name, verdicts in models.items()})
        (tmp_path / str(number)).mkdir()
        summary = {"name": "x", **facts, "seconds": {"sft/train": 2.5, "rft/train": 1.5}, "explained": ["word, word"]}
        (tmp_path / str(number) / "summary.json").write_text(json.dumps(summary))
        values = {"seed": number, "keep": "first"}
        entries.append(sweep.Entry(variant=f"seed={number}", model="m", settings=values))
    settings = sweep.Settings(name="x", rows=tuple(entries))
    sweep.run({str(n): tmp_path / str(n) for n in (0, 1)}, tmp_path, settings, Job())
    rows = [json.loads(line) for line in (tmp_path / "sweep.jsonl").read_text().splitlines()]
    assert [(row["variant"], row["sweep.seed"], row["sft.accuracy"], row["seconds"]) for row in rows] == [
        ("seed=0", 0, 1.0, 4.0),
        ("seed=1", 1, 1.0, 4.0),
    ]
    assert "rft.accuracy" not in rows[0] and rows[1]["rft.accuracy"] == 0.0 and "explained" not in rows[1]
    with (tmp_path / "sweep.csv").open(newline="") as file:
        assert [row["rft.accuracy"] for row in csv.DictReader(file)] == ["", "0.0"]


def test_the_columns_of_in_context_learning_are_those_of_the_most_examples() -> None:
    score = {"value": 0.1, "low": 0.0, "high": 0.2}
    kinds = [
        ("base", 0, "greedy"),
        ("base", 8, "greedy"),
        ("base", 8, "maj@100"),
        ("base", 2, "greedy"),
        ("sft", 0, "x"),
    ]
    measures = [
        {"model": model, "problems": "p", "few_shot": shots, "measure": measure, **score, "value": place / 10}
        for place, (model, shots, measure) in enumerate(kinds)
    ]
    found = sweep.columns({"measures": measures, "seconds": {}})
    assert (found["icl.few_shot"], found["icl.accuracy"], found["icl.maj@100"]) == (8, 0.1, 0.2)
    assert found["icl.maj@100.high"] == 0.2 and "icl.x" not in found
