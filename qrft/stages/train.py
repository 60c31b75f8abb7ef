"""Fine-tune the base model with QLoRA on a training table."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq

from qrft import prompts
from qrft.stages import Config, Inputs, Progress, Report
from qrft.store import write_atomic
from qrft.training import qlora

VERSION = 1


def run(inputs: Inputs, out: Path, config: Config, progress: Progress) -> Report:
    """Writes adapter/ (peft) and loss.jsonl; goes on from the adapter of the input `start`, where there is one.
    An example longer than `max_length` is left out, and counted."""
    import torch

    progress(0, 1, "loading the model")
    if config["num_threads"]:
        torch.set_num_threads(config["num_threads"])
    tokenizer = prompts.load_tokenizer(inputs["model"])
    rows = pq.read_table(inputs["training"] / "training.parquet", columns=["question", "completion"]).to_pylist()
    examples = [prompts.example(tokenizer, row["question"], row["completion"], config["prompt"]) for row in rows]
    short = [e for e in examples if len(e.token_ids) <= config["max_length"]]
    losses = qlora.train(
        inputs["model"],
        short,
        tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
        {**config, "start": inputs["start"] / "adapter" if "start" in inputs else None},
        out / "adapter",
        out / "partial",
        progress,
    )
    write_atomic(out / "loss.jsonl", "".join(json.dumps(entry) + "\n" for entry in losses))
    return {
        "num_examples": len(short),
        "num_too_long": len(rows) - len(short),
        "num_tokens": sum(len(e.token_ids) for e in short),
        "final_loss": losses[-1]["loss"] if losses else None,
    }
