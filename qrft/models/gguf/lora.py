"""The matrices of a peft LoRA folder, checked against the base that they were trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qrft.errors import ModelError
from qrft.models.gguf.adapter_config import AdapterConfig, read_adapter_config
from qrft.models.gguf.architecture import Model
from qrft.models.gguf.bfloat16 import to_bfloat16
from qrft.models.weights import TensorRef, open_weights, read_tensor
from qrft.models.whole import EMBEDDINGS, HEAD

_PREFIX = "base_model.model."


@dataclass(frozen=True)
class Lora:
    """An opened LoRA folder. `factors`: HF name of the base weight -> (A: (r, in), B: (out, r)); W + scale(r) B A."""

    folder: Path
    config: AdapterConfig
    factors: dict[str, tuple[TensorRef, TensorRef]]

    def scale(self, rank: int) -> float:
        """Return the factor by which the product of A and B of this rank is multiplied."""
        return self.config.lora_alpha / (math.sqrt(rank) if self.config.use_rslora else rank)


def open_lora(folder: Path, model: Model) -> Lora:
    """Open a peft folder trained on `model`.

    Raises ModelError when it is unreadable, can't be exported exactly or doesn't fit the model.
    """
    config = read_adapter_config(folder)
    tensors = open_weights(folder, "adapter_model")
    factors: dict[str, tuple[TensorRef, TensorRef]] = {}
    for name in tensors:
        if ".lora_" not in name:
            _check_copy(folder, name, tensors[name], model)
            continue
        partner = name.replace(".lora_A.", ".lora_B.") if ".lora_A." in name else name.replace(".lora_B.", ".lora_A.")
        if not name.endswith((".lora_A.weight", ".lora_B.weight")) or partner not in tensors:
            raise ModelError(f"{folder}: tensor {name} is not one of a pair of LoRA factors. Train linear layers only.")
        if name.endswith(".lora_A.weight"):
            factors[name.removeprefix(_PREFIX).replace(".lora_A.", ".")] = (tensors[name], tensors[partner])
    lora = Lora(folder, config, factors)
    _check_fit(lora, model)
    return lora


def read_factors(lora: Lora, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Read A (r, in) and B (out, r) of the base weight `name`."""
    a, b = lora.factors[name]
    return read_tensor(name, a), read_tensor(name, b)


def add_delta(lora: Lora, name: str, weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return `weight` (out, in) with the adapter merged in, in float32; unchanged when the adapter does not have it."""
    if name not in lora.factors:
        return weight
    a, b = read_factors(lora, name)
    return weight + np.float32(lora.scale(a.shape[0])) * (b @ a)


def _check_copy(folder: Path, name: str, tensor: TensorRef, model: Model) -> None:
    """Check that a tensor beside the factors is a copy of the base's, perhaps in the precision of the training: peft
    saves lm_head or the embeddings too when it adapts lm_head. Raises ModelError that says what it is instead."""
    base_name = name.removeprefix(_PREFIX).replace(".base_layer.", ".")
    if base_name == HEAD and base_name not in model.weights:  # tied
        base_name = EMBEDDINGS
    base = model.weights.get(base_name)
    if base is None:
        raise ModelError(
            f"{folder}: tensor {name} is not one of a pair of LoRA factors, and {model.folder} has no {base_name}. "
            "Train linear layers only."
        )
    if base.shape != tensor.shape:
        enlarged = " The vocabulary was enlarged, which" if base_name in (HEAD, EMBEDDINGS) else " It"
        raise ModelError(
            f"{folder}: {name} is {tensor.shape}, but {model.folder} has {base.shape}.{enlarged} has no place in a "
            "GGUF adapter. Train linear layers only, on a base that has all its tokens."
        )
    if not np.array_equal(read_tensor(name, tensor), _rounded(read_tensor(base_name, base), tensor.dtype)):
        raise ModelError(
            f"{folder}: {name} differs from the base's, so it was trained as a whole, which has no place in a GGUF "
            "adapter. Train linear layers only."
        )


def _rounded(weight: NDArray[np.float32], dtype: str) -> NDArray[np.float32]:
    """Return the weight as a file of this type holds it."""
    if dtype == "BF16":
        return (to_bfloat16(weight).astype(np.uint32) << 16).view(np.float32)
    return weight.astype(np.float16).astype(np.float32) if dtype == "F16" else weight


def _check_fit(lora: Lora, model: Model) -> None:
    if not lora.factors:
        raise ModelError(f"{lora.folder}: holds no LoRA factors. Train the adapter again.")
    for name, (a, b) in lora.factors.items():
        if name == "lm_head.weight" and model.is_tied:
            raise ModelError(
                f"{lora.folder}: adapts lm_head, which {model.folder} shares with its embeddings. "
                "Leave lm_head out of target_modules."
            )
        expected = model.weights[name].shape if name in model.weights else "no such weight"
        adapted = (b.shape[0], a.shape[1])
        if expected != adapted or a.shape[0] != b.shape[-1]:
            raise ModelError(
                f"{lora.folder}: factors of {name} are made for {adapted}, but {model.folder} has {expected}. "
                "Name the base model that the adapter was trained on."
            )
