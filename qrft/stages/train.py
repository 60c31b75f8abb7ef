"""Fine-tune the base model on a training table: a QLoRA adapter, or with `adapter: none` every weight."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq

from qrft.stages import Config, Inputs, Progress, Report
from qrft.store import write_atomic
from qrft.training.finetune import Row, finetune

VERSION = 2


def run(inputs: Inputs, out: Path, config: Config, progress: Progress) -> Report:
    """Writes adapter/ (peft), or model/ when every weight is trained; and loss.jsonl."""
    table = pq.read_table(inputs["training"] / "training.parquet", columns=["problem_id", "question", "completion"])
    rows = [Row(f"problem_id {row['problem_id']!r}", row["question"], row["completion"]) for row in table.to_pylist()]
    folder = out / ("model" if config["adapter"] == "none" else "adapter")
    facts = finetune(inputs["model"], rows, config, folder, out / "partial", progress)
    losses = facts.pop("losses")
    write_atomic(out / "loss.jsonl", "".join(json.dumps(entry) + "\n" for entry in losses))
    return facts
