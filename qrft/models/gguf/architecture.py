"""Check that llama.cpp computes a Hugging Face model in the same way, and write its configuration into a GGUF.

Everything that would be computed differently is refused here, by name, so that a wrong export can't be made.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qrft.errors import ModelError
from qrft.models.architectures import ARCHITECTURES, architecture_name
from qrft.models.json_file import read_json
from qrft.models.loading import load_config
from qrft.models.shape import Shape, read_shape
from qrft.models.weights import TensorRef, open_weights

if TYPE_CHECKING:
    import gguf


@dataclass(frozen=True)
class Model:
    """An opened model folder.

    `arch`: llama.cpp's name of the architecture. `config`: transformers' configuration, with its defaults filled in.
    `weights`: the tensors by their HF names.
    """

    folder: Path
    arch: str
    config: Any
    shape: Shape
    weights: dict[str, TensorRef]

    @property
    def is_tied(self) -> bool:
        return bool(self.config.tie_word_embeddings)


def open_model(folder: Path) -> Model:
    """Open a model folder and check that llama.cpp can compute it.

    Raises ModelError for an unreadable folder, an unsupported architecture or setting.
    """
    name = architecture_name(read_json(folder / "config.json"))
    if name not in ARCHITECTURES:
        raise ModelError(
            f"{folder / 'config.json'}: architecture {name} is not supported, only {', '.join(ARCHITECTURES)}. "
            "Choose a base model of one of these."
        )
    config, shape = load_config(folder), read_shape(folder)
    model = Model(folder, ARCHITECTURES[name].llama_cpp, config, shape, open_weights(folder))
    _check_settings(model)
    _check_embeddings(model)
    return model


def add_metadata(writer: gguf.GGUFWriter, model: Model) -> None:
    """Write the hyper-parameters."""
    config = model.config
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(context_length(model))
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(model.shape.head_dim)
    writer.add_value_length(model.shape.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(model.shape.head_dim)
    writer.add_rope_freq_base(float(config.rope_parameters["rope_theta"]))
    if config.rope_parameters["rope_type"] == "linear":
        import gguf

        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(float(config.rope_parameters["factor"]))


def context_length(model: Model) -> int:
    """Return the number of tokens up to which the export equals the model.

    llama.cpp's graph of these architectures has no sliding window. Within the first window attention is full in both,
    so the window's length is the context that can be promised.
    """
    config = model.config
    length = int(config.max_position_embeddings)
    window = getattr(config, "sliding_window", None)
    if window is None or not getattr(config, "use_sliding_window", True):
        return length
    return min(length, int(window))


def rope_factors(model: Model) -> NDArray[np.float32] | None:
    """Return the divisors of the rotary frequencies, (head_dim / 2,), for `llama3` scaling; None for other kinds.

    Formula: transformers, modeling_rope_utils, _compute_llama3_parameters.
    """
    rope = model.config.rope_parameters
    if rope["rope_type"] != "llama3":
        return None
    old, low, high = rope["original_max_position_embeddings"], rope["low_freq_factor"], rope["high_freq_factor"]
    exponent = np.arange(0, model.shape.head_dim, 2, dtype=np.float64) / model.shape.head_dim
    wavelength = 2 * np.pi * rope["rope_theta"] ** exponent
    smooth = np.clip((old / wavelength - low) / (high - low), 0.0, 1.0)
    return np.asarray(1.0 / ((1.0 - smooth) / rope["factor"] + smooth), dtype=np.float32)


def gguf_name(model: Model, name: str) -> str | None:
    """Return llama.cpp's name for the HF tensor `name`, or None when it has none."""
    return _names(model.arch, model.config.num_hidden_layers).get_name(name, try_suffixes=(".weight", ".bias"))


def to_ggml_layout(model: Model, name: str, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Reorder the output rows of q and k for llama.cpp's llama graph; other tensors come back as they are.

    That graph rotates neighbouring pairs, transformers rotates halves of a head: within each head, row i of the first
    half and row i of the second become neighbours. Holds for weights, biases and a LoRA's B alike.
    """
    if model.arch != "llama" or not (".q_proj." in name or ".k_proj." in name):
        return rows
    heads = model.config.num_attention_heads if ".q_proj." in name else model.config.num_key_value_heads
    halves = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows.shape))


@lru_cache(maxsize=1)  # the map of a 7B model takes milliseconds, and every tensor needs it
def _names(arch_name: str, num_layers: int) -> gguf.TensorNameMap:
    import gguf

    arch = next(key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == arch_name)
    return gguf.get_tensor_name_map(arch, num_layers)


def _check_settings(model: Model) -> None:
    config = model.config
    rope = config.rope_parameters
    faults = {
        "quantization_config": getattr(config, "quantization_config", None) is not None,
        "hidden_act": config.hidden_act not in ("silu", "swish"),
        "attention_bias": model.arch == "qwen3" and config.attention_bias,
        "rope_parameters.rope_type": rope["rope_type"] not in ("default", "linear", "llama3"),
        "rope_parameters.partial_rotary_factor": rope.get("partial_rotary_factor", 1.0) != 1.0,
    }
    if rope["rope_type"] == "llama3" and model.arch != "llama":  # only that graph reads rope_freqs
        faults["rope_parameters.rope_type"] = True
    for key, is_wrong in faults.items():
        if is_wrong:
            value = rope.get(key.split(".")[1]) if "." in key else getattr(config, key)
            raise ModelError(
                f"{model.folder / 'config.json'}: {key} = {value!r} can't be exported for {model.arch} models. "
                "Use an unquantised model without this setting, or the transformers sampler."
            )


def _check_embeddings(model: Model) -> None:
    names = ["model.embed_tokens.weight", *([] if model.is_tied else ["lm_head.weight"])]
    expected = (model.config.vocab_size, model.config.hidden_size)
    for name in names:
        shape = model.weights[name].shape if name in model.weights else "no such tensor"
        if shape != expected:
            raise ModelError(
                f"{model.folder}: {name} is {shape}, but config.json asks for {expected}. "
                "Save the model again with save_pretrained."
            )
