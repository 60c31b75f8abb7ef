"""One training, from token ids to an adapter or a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qrft.prompts import Example
from qrft.training import qlora

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def train(
    model_dir: Path,
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    config: Mapping[str, Any],
    out: Path,
    checkpoints: Path,
    progress: qlora.Progress,
) -> dict[str, Any]:
    """Trains into `out`, going on from the newest whole checkpoint; returns the logged losses."""
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    assert isinstance(pad_id, int)
    losses = qlora.train(model_dir, examples, pad_id, config, out, checkpoints, progress)
    if config["adapter"] == "none":
        tokenizer.save_pretrained(out)
    return {
        "losses": losses,
        "final_loss": losses[-1]["loss"] if losses else None,
        "num_examples": len(examples),
        "num_tokens": int(sum(len(example.token_ids) for example in examples) * config["num_epochs"]),
    }
