"""Fine-tune the base model on a training table: a QLoRA adapter, or with `adapter: none` every weight."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq

from qrft.config.training import Training
from qrft.data.disk import write_atomic
from qrft.data.training_rows import Row
from qrft.pipeline.stages import Inputs, Job, Report
from qrft.pipeline.store import manifest
from qrft.training.finetune import finetune

VERSION = 4
Settings = Training


def run(inputs: Inputs, out: Path, settings: Settings, job: Job) -> Report:
    """Write adapter/ (peft), or model/ when every weight is trained, and loss.jsonl.

    If there is an input `start`, its adapter is trained further. With an input `steps_of`, another training, this one
    takes as many steps, whatever `num_epochs` says.
    """
    table = pq.read_table(inputs["training"] / "training.parquet", columns=["problem_id", "question", "completion"])
    rows = [Row(f"problem_id {row['problem_id']!r}", row["question"], row["completion"]) for row in table.to_pylist()]
    kind = "model" if settings.adapter == "none" else "adapter"
    base, start = inputs["model"], inputs["start"] / kind if "start" in inputs else None
    if kind == "model":
        base, start = start or base, None
    num_steps = manifest(inputs["steps_of"])["report"]["num_steps"] if "steps_of" in inputs else None
    facts = finetune(
        base,
        rows,
        settings,
        out / kind,
        out / "partial",
        job.progress,
        start=start,
        num_threads=job.num_threads,
        num_steps=num_steps,
    )
    losses = facts.pop("losses")
    write_atomic(out / "loss.jsonl", "".join(json.dumps(entry) + "\n" for entry in losses))
    return facts
