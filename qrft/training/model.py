"""Load the base model as training holds it in memory, and choose which parameters learn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qrft.config.training import Training
from qrft.errors import ModelError
from qrft.machine import has_bfloat16_unit
from qrft.models.any_shape import read_shape
from qrft.models.loading import load_config, load_model
from qrft.training import lora, precision

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def load(model_dir: Path, settings: Training, attention: str | None = "sdpa", start: Path | None = None) -> Any:
    """Load the model ready to train; its trainable parameters require gradients. The caller's seed draws random parts.

    attention: the name of the attention implementation that transformers is to use, None for the model's own. start:
    the folder of an adapter that is trained further. Raises ModelError for a base that can't be loaded or adapted.
    """
    import torch

    base: Any
    if settings.adapter == "none":
        # In bfloat16 most updates are smaller than the last bit of a weight; so what learns is kept in float32.
        model = base = load_base(model_dir, "none", attention, dtype=torch.float32)
    else:
        dtype = getattr(torch, precision_here(settings, model_dir))
        base = load_base(model_dir, settings.quantization, attention, dtype=dtype)
        model = lora.add(base, model_dir, settings, start)
    if checkpoints_activations(settings):
        enable = getattr(base, "activation_checkpointing_enable", None) or base.gradient_checkpointing_enable
        enable({"use_reentrant": False})
        # Without re-entry autograd finds the adapters inside a block by itself. transformers makes the embeddings'
        # output require a gradient all the same, as re-entry needs: that of the whole first block, for nothing.
        base.disable_input_require_grads()
    return model


def checkpoints_activations(settings: Training) -> bool:
    """Return whether activations are computed again in the backward pass; by default they are on a GPU."""
    import torch

    asked: bool | None = settings.gradient_checkpointing
    return torch.cuda.is_available() if asked is None else asked


def has_bfloat16() -> bool:
    """Return whether the GPU, or without one the processor, computes in bfloat16 by itself."""
    import torch

    return torch.cuda.is_bf16_supported(including_emulation=False) if torch.cuda.is_available() else has_bfloat16_unit()


def choose_precision(settings: Training, hidden_size: int, *, on_gpu: bool, has_bfloat16: bool) -> str:
    """Return "float32" or "bfloat16", in which a training computes: what is asked for, or what is faster; a processor
    that has bfloat16 is measured.

    Training every weight stays in float32 on a processor, which gains less, and loses what GPUs lose: weights that
    come in 16 bits lie on bfloat16's grid, and move in it only after many small updates (docs/log.md).
    """
    if settings.precision != "auto":
        return settings.precision
    if not has_bfloat16 or (settings.adapter == "none" and not on_gpu):
        return "float32"
    return "bfloat16" if on_gpu or precision.pays(hidden_size) else "float32"


def precision_here(settings: Training, model_dir: Path) -> str:
    """Return the precision in which this machine trains the model in a folder."""
    import torch

    on_gpu = torch.cuda.is_available()
    return choose_precision(settings, read_shape(model_dir).hidden_size, on_gpu=on_gpu, has_bfloat16=has_bfloat16())


def load_base(
    model_dir: Path, quantization: str, attention: str | None = "sdpa", *, dtype: torch.dtype
) -> PreTrainedModel:
    """Load the base model, in NF4 with double quantisation or as it is, on the GPU if there is one.

    dtype: of what is not quantised, and of NF4's arithmetic.
    Norms, embeddings and head stay in it. peft's prepare_model_for_kbit_training would make them float32: 2 GB more
    for a vocabulary of 128k and 4,096 dimensions, and nothing gained, since norms compute in float32 anyway and the
    loss makes float32 of its logits.
    Raises ModelError when the folder can't be loaded, or holds a base that is quantised already.
    """
    import torch
    from transformers import BitsAndBytesConfig

    refuse_quantized(model_dir)
    nf4 = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    return load_model(
        model_dir,
        dtype=dtype,
        attn_implementation=attention,
        quantization_config=nf4 if quantization == "nf4" else None,
        device_map={"": torch.cuda.current_device()} if torch.cuda.is_available() else None,
    )


def refuse_quantized(model_dir: Path) -> None:
    """Raise ModelError when the folder's config.json says that its weights are quantised (GPTQ, AWQ, 8-bit, ...)."""
    try:
        config = json.loads((model_dir / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return  # loading it reports that
    if quantized := config.get("quantization_config"):
        method = quantized.get("quant_method", "of an unknown kind")
        raise ModelError(
            f"{model_dir}/config.json: quantization_config: the base is quantised already ({method}). Expected the "
            "original weights, from which train.quantization nf4 makes its own. Name the model that it was made from."
        )


def save_whole(model: PreTrainedModel, tokenizer: Any, model_dir: Path, out: Path) -> None:
    """Save the fine-tuned model in the base's own precision, with its tokenizer. Changes `model`: no copy is made."""
    dtype = load_config(model_dir).dtype
    if dtype is not None:
        model.to(dtype)  # parameter by parameter, in place
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
