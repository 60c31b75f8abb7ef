"""Write a Hugging Face model folder as one GGUF file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from qrft.data.disk import whole_file
from qrft.errors import ModelError
from qrft.models.gguf.architecture import Model, add_metadata, gguf_name, open_model, rope_factors, to_ggml_layout
from qrft.models.gguf.bfloat16 import to_bfloat16
from qrft.models.gguf.lora import Lora, add_delta, open_lora
from qrft.models.gguf.quant import Quant
from qrft.models.gguf.quantize import quantize
from qrft.models.gguf.vocabulary import Asked, add_vocabulary
from qrft.models.weights import read_tensor

if TYPE_CHECKING:
    import gguf

Dtype = Literal["f32", "f16", "bf16"]
_NUMPY: dict[Dtype, np.dtype[Any]] = {
    "f32": np.dtype(np.float32),
    "f16": np.dtype(np.float16),
    "bf16": np.dtype(np.uint16),  # numpy has none
}


def export_base(
    model_dir: Path,
    out: Path,
    quant: Quant = "f32",
    adapter_dir: Path | None = None,
    *,
    asked: Asked | None = None,
    n_threads: int | None = None,
) -> None:
    """Write the model in `model_dir` to the GGUF file `out`.

    Architectures: those of qrft.models.architectures. With `adapter_dir`, a peft LoRA folder, the adapter is merged
    into the weights in float32. Matrices are stored as `quant`, vectors always as f32; q8_0 and q4_k_m are made from an
    f16 file beside `out`, on `n_threads` (None: all cores). `asked`: how the model is asked, None for what its folder
    says. Memory: one tensor at a time. `out` appears when whole.
    Raises ModelError for a folder, an architecture or an adapter that can't be exported.
    """
    if quant == "f32" or quant == "f16" or quant == "bf16":
        _export(model_dir, out, quant, adapter_dir, asked)
        return
    wide = out.with_name(out.name + ".f16")
    try:
        _export(model_dir, wide, "f16", adapter_dir, asked)
        quantize(wide, out, quant, n_threads)
    finally:
        wide.unlink(missing_ok=True)


def _export(model_dir: Path, out: Path, dtype: Dtype, adapter_dir: Path | None, asked: Asked | None) -> None:
    import gguf

    model = open_model(model_dir)
    lora = open_lora(adapter_dir, model) if adapter_dir else None
    names = _tensor_names(model)
    with gguf_file(out, model.arch) as writer:
        file_types = gguf.LlamaFileType
        types = {"f32": file_types.ALL_F32, "f16": file_types.MOSTLY_F16, "bf16": file_types.MOSTLY_BF16}
        writer.add_file_type(types[dtype])
        add_metadata(writer, model)
        add_vocabulary(writer, model_dir, model.config.vocab_size, asked)
        factors = rope_factors(model)
        for name, tensor in factors.items():
            writer.add_tensor_info(name, tensor.shape, tensor.dtype, tensor.nbytes)
        for name, gguf_tensor in names.items():
            shape = model.weights[name].shape
            held = _held_as(shape, dtype)
            kind = gguf.GGMLQuantizationType[held.upper()]
            writer.add_tensor_info(gguf_tensor, shape, _NUMPY[held], prod(shape) * _NUMPY[held].itemsize, kind)
        write_header(writer)
        for tensor in factors.values():
            writer.write_tensor_data(tensor)
        for name in names:
            writer.write_tensor_data(_tensor(model, lora, name, dtype))


@contextmanager
def gguf_file(out: Path, arch: str) -> Iterator[gguf.GGUFWriter]:
    """Open a writer whose file appears as `out` at the end of the block, and is removed when the block raises."""
    import gguf

    with whole_file(out) as temporary, closing(gguf.GGUFWriter(temporary, arch)) as writer:
        yield writer


def write_header(writer: gguf.GGUFWriter) -> None:
    """Write everything that precedes the tensors' data; then call write_tensor_data in the order of add_tensor_info."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()


def _tensor_names(model: Model) -> dict[str, str]:
    """Return the GGUF name of every tensor to be written, by its HF name."""
    names: dict[str, str] = {}
    for name in model.weights:
        if name.endswith(".rotary_emb.inv_freq") or (name == "lm_head.weight" and model.is_tied):
            continue  # llama.cpp computes the first, and takes the embeddings for the second
        gguf_tensor = gguf_name(model, name)
        if gguf_tensor is None:
            raise ModelError(
                f"{model.weights[name].path}: tensor {name} is unknown in {model.arch} models of "
                f"{model.config.num_hidden_layers} layers. Give a plain model folder: not an adapter, not quantised."
            )
        names[name] = gguf_tensor
    return names


def _held_as(shape: tuple[int, ...], dtype: Dtype) -> Dtype:
    """Return how a tensor is held: vectors are f32 in every file."""
    return dtype if len(shape) > 1 else "f32"


def _tensor(model: Model, lora: Lora | None, name: str, dtype: Dtype) -> NDArray[Any]:
    tensor = read_tensor(name, model.weights[name])
    if lora is not None:
        tensor = add_delta(lora, name, tensor)
    tensor = to_ggml_layout(model, name, tensor)
    held = _held_as(tensor.shape, dtype)
    if held == "bf16":
        return to_bfloat16(tensor)
    if held == "f16" and max(tensor.max(initial=0.0), -tensor.min(initial=0.0)) > np.finfo(np.float16).max:
        raise ModelError(f"{model.folder}: {name} holds values too large for f16. Set gguf.quant bf16 or f32.")
    return tensor.astype(_NUMPY[held], copy=False)
