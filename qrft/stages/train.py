"""Fine-tune the base model with QLoRA on a training table."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq

from qrft import prompts
from qrft.stages import Config, Inputs, Progress, Report
from qrft.store import write_atomic
from qrft.training import trainer

VERSION = 2
UNNAMED = {  # settings that the recipe does not name
    "adapter": "lora",
    "lora_init": "default",
    "packing": True,
    "attention": "auto",
    "gradient_checkpointing": None,
    "optimizer": "auto",
    "neftune_noise_alpha": None,
    "report_to": (),
}


def run(inputs: Inputs, out: Path, config: Config, progress: Progress) -> Report:
    """Writes adapter/ (peft) and loss.jsonl. An example longer than `max_length` is left out, and counted."""
    import torch

    progress(0, 1, "loading the model")
    if config["num_threads"]:
        torch.set_num_threads(config["num_threads"])
    tokenizer = prompts.load_tokenizer(inputs["model"])
    rows = pq.read_table(inputs["training"] / "training.parquet", columns=["question", "completion"]).to_pylist()
    examples = [prompts.example(tokenizer, row["question"], row["completion"], config["prompt"]) for row in rows]
    short = [e for e in examples if len(e.token_ids) <= config["max_length"]]
    settings = {**UNNAMED, **config, "sequence_len": config["max_length"]}
    facts = trainer.train(inputs["model"], short, tokenizer, settings, out / "adapter", out / "partial", progress)
    losses = facts.pop("losses")
    write_atomic(out / "loss.jsonl", "".join(json.dumps(entry) + "\n" for entry in losses))
    return {**facts, "num_too_long": len(rows) - len(short)}
