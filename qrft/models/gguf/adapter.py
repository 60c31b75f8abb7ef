"""Write a peft LoRA folder as a small GGUF file, applied to the base model at run time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qrft.errors import ModelError
from qrft.models.gguf.architecture import Model, gguf_name, open_model, to_ggml_layout
from qrft.models.gguf.base import gguf_file, write_header
from qrft.models.gguf.lora import Lora, open_lora, read_factors


def export_adapter(adapter_dir: Path, model_dir: Path, out: Path) -> None:
    """Write the LoRA in `adapter_dir`, trained on the model in `model_dir`, to the GGUF file `out` in f32.

    Its base is export_base(model_dir, ...) without `adapter_dir`, or a quantised copy of that. `out` appears when
    whole. Raises ModelError when the adapter can't be exported exactly or doesn't fit the model.
    """
    import gguf

    model = open_model(model_dir)
    lora = open_lora(adapter_dir, model)
    tensors = _tensors(lora, model)
    with gguf_file(out, model.arch) as writer:
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, _alpha(lora))
        for name, tensor in tensors.items():
            writer.add_tensor_info(name, tensor.shape, tensor.dtype, tensor.nbytes)
        write_header(writer)
        for tensor in tensors.values():
            writer.write_tensor_data(tensor)


def _alpha(lora: Lora) -> float:
    """Return the alpha for which llama.cpp's scale, alpha / r, is the adapter's own; rsLoRA's is alpha / sqrt(r).

    With rsLoRA there is one rank: check_exportable refuses several.
    """
    rank = next(iter(lora.factors.values()))[0].shape[0]
    return lora.scale(rank) * rank


def _tensors(lora: Lora, model: Model) -> dict[str, NDArray[np.float32]]:
    tensors: dict[str, NDArray[np.float32]] = {}
    for name in lora.factors:
        gguf_tensor = gguf_name(model, name)
        if gguf_tensor is None:
            raise ModelError(f"{lora.folder}: {name} is unknown in {model.arch} models. Train linear layers only.")
        a, b = read_factors(lora, name)
        tensors[f"{gguf_tensor}.lora_a"] = a
        tensors[f"{gguf_tensor}.lora_b"] = to_ggml_layout(model, name, b)
    return tensors
