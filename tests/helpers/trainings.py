"""Small trainings: settings that take seconds, examples, and what a training wrote."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from helpers.models import VOCAB

from qrft.config.training import Training
from qrft.models import prompts
from qrft.training import trainer

SETTINGS = Training(
    quantization="none",
    lora_r=4,
    lora_alpha=8,
    learning_rate=1e-2,
    warmup_ratio=0.1,
    weight_decay=0.01,
    num_epochs=2,
    micro_batch_size=4,
    sequence_len=32,
    checkpoint_minutes=60,
)


def changed(**changes: Any) -> Training:
    """Return SETTINGS with changes that are not validated: a test may ask for what a person can't."""
    return SETTINGS.model_copy(update=changes)


RANDOM = {"lora_dropout": 0.1, "neftune_noise_alpha": 5.0}  # draws in every step, which a resumed run must draw alike


def random_examples(number: int) -> list[prompts.Example]:
    """Return examples of 6 to 29 tokens, the same in every call."""
    draw = random.Random(0)
    lengths = [draw.randrange(6, 30) for _ in range(number)]
    return [prompts.Example([draw.randrange(VOCAB) for _ in range(n)], draw.randrange(1, n - 2)) for n in lengths]


EXAMPLES = random_examples(22)  # 6 steps of 4 an epoch, the last of 2


def train(
    base: Path,
    out: Path,
    progress: Callable[[int, int, str], None] = lambda *_: None,
    examples: list[prompts.Example] = EXAMPLES,
    start: Path | None = None,
    num_processes: int = 1,
    **changes: Any,
) -> dict[str, Any]:
    """Train into the folder's adapter/ with changes to SETTINGS, and return the facts."""
    tokenizer, settings = prompts.load_tokenizer(base), changed(**changes)
    adapter, checkpoints = out / "adapter", out / "checkpoints"
    return trainer.train(base, examples, tokenizer, settings, adapter, checkpoints, progress, start, num_processes)


def tensors(out: Path, name: str = "adapter/adapter_model.safetensors") -> dict[str, Any]:
    """Return the tensors of a file that a training wrote."""
    from safetensors.torch import load_file

    return load_file(out / name)


def largest_difference(ones: dict[str, Any], others: dict[str, Any]) -> float:
    """Return the largest difference of any entry of two sets of tensors, which must have the same names."""
    assert ones.keys() == others.keys()
    return max(float((ones[name] - others[name]).abs().max()) for name in ones)
