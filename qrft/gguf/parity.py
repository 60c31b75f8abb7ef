"""Does llama.cpp compute what transformers computes? Asked before anything is sampled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qrft.errors import ModelError

Logits = NDArray[np.float32]  # (tokens, vocabulary)


def check_parity(
    model_dir: Path,
    base_gguf: Path,
    adapter_dir: Path | None,
    adapter_gguf: Path | None,
    prompts: list[list[int]],
    *,
    tolerance: float = 1e-2,
    n_threads: int | None = None,
) -> dict[str, float | int]:
    """Compares the logits of all positions of `prompts` (HF token ids), llama.cpp against transformers, both in f32.

    transformers runs the unquantised base with the adapter on. For a merged GGUF give `adapter_dir` and no
    `adapter_gguf`. Returns max_logit_difference, top1_agreement (share of positions), num_prompts, num_positions.
    Raises ModelError when a logit differs by more than `tolerance`, SamplerError when llama.cpp fails.
    """
    from qrft.sampling.process import LlamaProcess

    expected = _transformers_logits(model_dir, adapter_dir, prompts)
    with LlamaProcess(base_gguf, adapter_gguf, n_threads=n_threads) as process:
        found = process.logits(prompts)
    difference, agreed, positions = 0.0, 0, 0
    for index, (left, right) in enumerate(zip(found, expected, strict=True)):
        difference = max(difference, _compare(index, left, right, tolerance, base_gguf, adapter_gguf))
        agreed += int((left.argmax(1) == right.argmax(1)).sum())
        positions += len(left)
    return {
        "max_logit_difference": difference,
        "top1_agreement": agreed / max(positions, 1),
        "num_prompts": len(prompts),
        "num_positions": positions,
    }


def _compare(prompt: int, found: Logits, expected: Logits, tolerance: float, base: Path, adapter: Path | None) -> float:
    names = f"{base}{f' with {adapter}' if adapter else ''}"
    if found.shape != expected.shape:
        raise ModelError(
            f"{names}: logits of prompt {prompt} are {found.shape}, transformers' are {expected.shape}. "
            "The file is of another model: export it again."
        )
    difference = np.abs(found - expected)
    largest = float(difference.max(initial=0.0))
    if not largest <= tolerance:  # a NaN must not pass
        position, token = np.unravel_index(int(np.nan_to_num(difference, nan=np.inf).argmax()), difference.shape)
        raise ModelError(
            f"{names}: llama.cpp and transformers disagree on prompt {prompt}, position {position}, token {token}: "
            f"{found[position, token]:.5g} against {expected[position, token]:.5g}, tolerance {tolerance:g}. "
            "Export the base and the adapter again; if it stays, use the transformers sampler and report the model."
        )
    return largest


def _transformers_logits(model_dir: Path, adapter_dir: Path | None, prompts: list[list[int]]) -> list[Logits]:
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32, local_files_only=True)
    if adapter_dir is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(adapter_dir))
    model.eval()
    with torch.no_grad():
        return [model(input_ids=torch.tensor([prompt])).logits[0].numpy() for prompt in prompts]
