"""peft's LoRA folders: what of them can be exported exactly, and their matrices."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qrft.errors import ModelError
from qrft.models.gguf.architecture import Model
from qrft.models.weights import TensorRef, open_weights, read_json, read_tensor

_PREFIX = "base_model.model."
_EMBEDDINGS = ("embed_tokens", "wte")

# Keys of adapter_config.json that must be empty, each with what it would need.
_REFUSED = {
    "use_dora": "DoRA's magnitudes have no place in a GGUF adapter",
    "modules_to_save": "whole trained modules have no place in a GGUF adapter",
    "trainable_token_indices": "trained embeddings have no place in a GGUF adapter",
    "alpha_pattern": "a GGUF adapter has one alpha",
    "lora_bias": "trained biases have no place in a GGUF adapter",
    "target_parameters": "only linear layers can be exported",
    "layer_replication": "the base would need other layers",
    "fan_in_fan_out": "only linear layers that store (out, in) can be exported",
    "alora_invocation_tokens": "activated LoRA is on for a part of the tokens only",
    "use_qalora": "QALoRA pools its inputs",
    "use_bdlora": "block-diagonal factors can't be exported",
    "megatron_config": "Megatron layers can't be exported",
    "arrow_config": "routed adapters can't be exported",
    "velora_config": "VeLoRA can't be exported",
    "monteclora_config": "MonteCLoRA can't be exported",
    "kasa_config": "KaSA changes the base weights",
}
# Initialisations that change the base weights, so that the adapter fits another base than the one on disk.
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


@dataclass(frozen=True)
class Lora:
    """An opened LoRA folder. `factors`: HF name of the base weight -> (A: (r, in), B: (out, r)); W + scale(r) B A."""

    folder: Path
    alpha: float
    is_rank_stabilised: bool
    factors: dict[str, tuple[TensorRef, TensorRef]]

    def scale(self, rank: int) -> float:
        return self.alpha / (math.sqrt(rank) if self.is_rank_stabilised else rank)


def check_exportable(adapter_config: dict[str, Any]) -> None:
    """Checks peft's LoRA settings, as in adapter_config.json, before anything is trained or exported.

    Raises ModelError naming the key whose value an exact GGUF adapter can't hold.
    """
    config = adapter_config
    if config.get("peft_type", "LORA") != "LORA":
        raise _refusal("peft_type", config["peft_type"], "only LoRA can be exported")
    for key, reason in _REFUSED.items():
        if config.get(key):
            raise _refusal(key, config[key], reason)
    if config.get("bias", "none") != "none":
        raise _refusal("bias", config["bias"], "trained biases have no place in a GGUF adapter")
    if config.get("use_rslora") and config.get("rank_pattern"):
        raise _refusal("rank_pattern", config["rank_pattern"], "rsLoRA with several ranks would need several alphas")
    if config.get("lora_alpha") == 0:
        raise _refusal("lora_alpha", 0, "llama.cpp reads it as 'no scaling'")
    init = config.get("init_lora_weights", True)
    if isinstance(init, str) and init.lower().startswith(_CHANGES_BASE):
        raise _refusal("init_lora_weights", init, "it changes the base weights")
    targets = config.get("target_modules") or []
    for target in [targets] if isinstance(targets, str) else targets:
        if any(name in target for name in _EMBEDDINGS):
            raise _refusal("target_modules", target, "trained embeddings have no place in a GGUF adapter")


def open_lora(folder: Path, model: Model) -> Lora:
    """Opens a peft folder trained on `model`.

    Raises ModelError when it is unreadable, can't be exported exactly or doesn't fit the model.
    """
    config = read_json(folder / "adapter_config.json")
    try:
        check_exportable(config)
    except ModelError as error:
        raise ModelError(f"{folder / 'adapter_config.json'}: {error}") from None
    tensors = open_weights(folder, "adapter_model")
    factors: dict[str, tuple[TensorRef, TensorRef]] = {}
    for name in tensors:
        if _is_copy_of_base(name, tensors[name], model):
            continue
        partner = name.replace(".lora_A.", ".lora_B.") if ".lora_A." in name else name.replace(".lora_B.", ".lora_A.")
        if not name.endswith((".lora_A.weight", ".lora_B.weight")) or partner not in tensors:
            raise ModelError(f"{folder}: tensor {name} is no pair of LoRA factors. Train linear layers only.")
        if name.endswith(".lora_A.weight"):
            factors[name.removeprefix(_PREFIX).replace(".lora_A.", ".")] = (tensors[name], tensors[partner])
    lora = Lora(folder, float(config["lora_alpha"]), bool(config.get("use_rslora")), factors)
    _check_fit(lora, model)
    return lora


def read_factors(lora: Lora, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A (r, in) and B (out, r) of the base weight `name`."""
    a, b = lora.factors[name]
    return read_tensor(name, a), read_tensor(name, b)


def add_delta(lora: Lora, name: str, weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """`weight` (out, in) with the adapter merged in, in float32; as it is when the adapter leaves it alone."""
    if name not in lora.factors:
        return weight
    a, b = read_factors(lora, name)
    return weight + np.float32(lora.scale(a.shape[0])) * (b @ a)


def _is_copy_of_base(name: str, tensor: TensorRef, model: Model) -> bool:
    """peft adds a copy of lm_head or the embeddings when it adapts lm_head. Unchanged, it has nothing to export."""
    base_name = name.removeprefix(_PREFIX).replace(".base_layer.", ".")
    base = model.weights.get(base_name)
    if base is None or base.shape != tensor.shape:
        return False
    return np.array_equal(read_tensor(name, tensor), read_tensor(base_name, base))


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
        found = (b.shape[0], a.shape[1])
        if expected != found or a.shape[0] != b.shape[-1]:
            raise ModelError(
                f"{lora.folder}: factors of {name} are made for {found}, {model.folder} has {expected}. "
                "Give the base model that the adapter was trained on."
            )


def _refusal(key: str, value: object, reason: str) -> ModelError:
    return ModelError(f"{key} = {value!r} can't be exported to GGUF: {reason}. Train the adapter without it.")
