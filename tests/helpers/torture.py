"""A run of all stages that takes seconds, and what must come out of it whatever happens."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

RECIPE = """\
name: micro
base_model: tiny-base
problems: {train: tiny-math/train, test: tiny-math/test, num_train: 8, num_test: 4}
train:
  {num_epochs: 4, micro_batch_size: 4, gradient_accumulation_steps: 1, learning_rate: 3e-3, lora_r: 4,
   quantization: none, checkpoint_minutes: 0.0001}
sample: {num_samples: 4, max_new_tokens: 24}
evaluate: {max_new_tokens: 24, maj_at: [2]}
gguf: {parity: "off"}
num_threads: 1
"""

Told = Callable[[int, str], None]  # takes the number of trials and what came out


@dataclass(frozen=True)
class Undisturbed:
    """A run that nothing disturbed."""

    recipe: Path
    out: Path
    contents: dict[str, dict[str, str]]
    seconds: float


def contents(out: Path) -> dict[str, dict[str, str]]:
    """Return the hash of every file that a run made, but for those that tell seconds."""
    found = {}
    for manifest in sorted((out / "store").glob("*/manifest.json")):
        values = json.loads(manifest.read_text())
        if values["stage"] != "report":
            files = values["files"].items()
            found[manifest.parent.name] = {name: entry["blake2b"] for name, entry in files if name != "loss.jsonl"}
    return found


def counts(short: int, long: int, *, is_slow: bool = False) -> pytest.MarkDecorator:
    """Run a campaign with few trials, and with many under `make torture`. is_slow: the few are among the slow tests."""
    few = pytest.param(short, marks=pytest.mark.slow) if is_slow else short
    return pytest.mark.parametrize("trials", [few, pytest.param(long, marks=pytest.mark.torture)])
