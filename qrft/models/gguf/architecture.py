"""Check that llama.cpp computes a Hugging Face model in the same way, and write its configuration into a GGUF.

Everything that would be computed differently is refused here, by name, so that a wrong export can't be made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qrft.errors import ModelError
from qrft.models.any_shape import read_shape
from qrft.models.architectures import ARCHITECTURES, Architecture, architecture_name
from qrft.models.json_file import read_json
from qrft.models.loading import load_config
from qrft.models.shape import Shape
from qrft.models.weights import TensorRef, open_weights

if TYPE_CHECKING:
    import gguf


@dataclass(frozen=True)
class Model:
    """An opened model folder.

    `kind`: what distinguishes its architecture. `config`: transformers' configuration, with its defaults filled in.
    `weights`: the tensors by their HF names.
    """

    folder: Path
    kind: Architecture
    config: Any
    shape: Shape
    weights: dict[str, TensorRef]

    @property
    def arch(self) -> str:
        """Return llama.cpp's name of the architecture."""
        return self.kind.llama_cpp

    @property
    def rope(self) -> dict[str, Any]:
        """Return how positions are turned in full attention; Gemma 3 turns those within its window in another way."""
        rope: dict[str, Any] = self.config.rope_parameters
        of_full: dict[str, Any] = rope.get("full_attention", rope)
        return of_full

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
    model = Model(folder, ARCHITECTURES[name], config, shape, open_weights(folder))
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
    rope = model.rope
    writer.add_rope_dimension_count(_turned(model))
    writer.add_rope_freq_base(float(rope["rope_theta"]))
    if rope["rope_type"] == "linear":
        import gguf

        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(float(rope["factor"]))
    if model.arch in _FURTHER:
        _FURTHER[model.arch](writer, model)


def _add_gemma2(writer: gguf.GGUFWriter, model: Model) -> None:
    writer.add_attn_logit_softcapping(float(model.config.attn_logit_softcapping))
    writer.add_final_logit_softcapping(float(model.config.final_logit_softcapping))
    writer.add_sliding_window(model.config.sliding_window)


def _add_gemma3(writer: gguf.GGUFWriter, model: Model) -> None:
    writer.add_sliding_window(model.config.sliding_window)
    writer.add_rope_freq_base_swa(float(model.config.rope_parameters["sliding_attention"]["rope_theta"]))


def _add_phi3(writer: gguf.GGUFWriter, model: Model) -> None:
    """Its window is 0, "none": within the promised context every token sees all before it."""
    writer.add_sliding_window(0)
    writer.add_rope_scaling_orig_ctx_len(_original_length(model))
    if model.rope["rope_type"] == "longrope":
        writer.add_rope_scaling_attn_factors(_longrope_factor(model))


def _add_granite(writer: gguf.GGUFWriter, model: Model) -> None:
    writer.add_attention_scale(float(model.config.attention_multiplier))
    writer.add_embedding_scale(float(model.config.embedding_multiplier))
    writer.add_residual_scale(float(model.config.residual_multiplier))
    writer.add_logit_scale(float(model.config.logits_scaling))


# What llama.cpp reads beyond the hyper-parameters of all.
_FURTHER: dict[str, Callable[[gguf.GGUFWriter, Model], None]] = {
    "gemma2": _add_gemma2,
    "gemma3": _add_gemma3,
    "phi3": _add_phi3,
    "granite": _add_granite,
}


def _turned(model: Model) -> int:
    """Return how many numbers of a head are turned by the position."""
    return int(model.shape.head_dim * model.rope.get("partial_rotary_factor", 1.0))


def _original_length(model: Model) -> int:
    """Return the context before it was stretched."""
    return int(model.rope.get("original_max_position_embeddings") or model.config.max_position_embeddings)


def _longrope_factor(model: Model) -> float:
    """Return by what sines and cosines are multiplied. Formula: modeling_rope_utils, _compute_longrope_parameters."""
    given, old = model.rope.get("attention_factor"), _original_length(model)
    stretch = model.rope.get("factor") or model.config.max_position_embeddings / old
    if given is not None or stretch <= 1:
        return float(given or 1.0)
    return math.sqrt(1 + math.log(stretch) / math.log(old))


def context_length(model: Model) -> int:
    """Return the number of tokens up to which the export equals the model.

    llama.cpp's graphs have no sliding window but Gemma's. Within the first window attention is full in both, so the
    window's length is the context that can be promised. A context that longrope stretched is promised up to its length
    before that: transformers takes other factors for a longer text, llama.cpp for a larger room.
    """
    config = model.config
    length = int(config.max_position_embeddings)
    if model.rope["rope_type"] == "longrope":
        length = min(length, _original_length(model))
    window = getattr(config, "sliding_window", None)
    if window is None or not getattr(config, "use_sliding_window", True) or model.arch in _WINDOWS:
        return length
    return min(length, int(window))


def rope_factors(model: Model) -> dict[str, NDArray[np.float32]]:
    """Return the divisors of the rotary frequencies, (turned / 2,), by the names of llama.cpp's tensors; none for kinds
    of scaling that need none."""
    rope = model.rope
    if rope["rope_type"] == "llama3":
        return {"rope_freqs.weight": _llama3_factors(model)}
    if rope["rope_type"] == "longrope":
        # llama.cpp takes the long ones where the room of all sequences together is larger than the length before the
        # stretch; what is promised is a text of that length, for which transformers takes the short ones.
        short = np.asarray(rope["short_factor"], np.float32)
        return {"rope_factors_long.weight": short, "rope_factors_short.weight": short}
    return {}


def _llama3_factors(model: Model) -> NDArray[np.float32]:
    """Formula: transformers, modeling_rope_utils, _compute_llama3_parameters."""
    rope = model.rope
    old, low, high = rope["original_max_position_embeddings"], rope["low_freq_factor"], rope["high_freq_factor"]
    exponent = np.arange(0, model.shape.head_dim, 2, dtype=np.float64) / model.shape.head_dim
    wavelength = 2 * np.pi * rope["rope_theta"] ** exponent
    smooth = np.clip((old / wavelength - low) / (high - low), 0.0, 1.0)
    return np.asarray(1.0 / ((1.0 - smooth) / rope["factor"] + smooth), dtype=np.float32)


def gguf_name(model: Model, name: str) -> str | None:
    """Return llama.cpp's name for the HF tensor `name`, or None when it has none."""
    return _names(model.arch, model.config.num_hidden_layers).get_name(name, try_suffixes=(".weight", ".bias"))


def to_ggml_layout(model: Model, name: str, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a tensor as llama.cpp has it: a norm with what transformers adds to its weights, and the rows of q and k
    in the order of its graph; other tensors come back as they are.

    Some graphs rotate neighbouring pairs, where transformers rotates halves of a head: within each head, row i of the
    first half and row i of the second become neighbours. Holds for weights, biases and a LoRA's B alike.
    """
    if model.kind.norm_offset and name.endswith("norm.weight"):
        return rows + np.float32(model.kind.norm_offset)
    if not model.kind.turns_neighbours or not (".q_proj." in name or ".k_proj." in name):
        return rows
    heads = model.config.num_attention_heads if ".q_proj." in name else model.config.num_key_value_heads
    halves = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows.shape))


@lru_cache(maxsize=1)  # the map of a 7B model takes milliseconds, and every tensor needs it
def _names(arch_name: str, num_layers: int) -> gguf.TensorNameMap:
    import gguf

    arch = next(key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == arch_name)
    return gguf.get_tensor_name_map(arch, num_layers)


# How many layers lie between two of full attention, and for which number of layers queries are scaled by the width of
# all heads together: llama.cpp knows no other.
_WINDOWS = {"gemma2": 2, "gemma3": 6}
_SCALED_BY_WIDTH = {"gemma2": 46, "gemma3": 62}
_NO_ROPE = 4  # SmolLM3 turns nothing in every fourth layer
_ROPE_TYPES = {
    "llama": ("default", "linear", "llama3"),
    "granite": ("default", "linear", "llama3"),
    "phi3": ("default", "longrope"),
}
_HAS_BIASES = ("llama", "qwen2", "granite")


def _check_settings(model: Model) -> None:
    """Raise ModelError for a setting that llama.cpp's graph would not compute, by its key."""
    rope = model.rope
    faults = _common_faults(model) | _gemma_faults(model)
    for key, is_wrong in faults.items():
        if is_wrong:
            value = rope.get(key.split(".")[1]) if "." in key else getattr(model.config, key)
            raise ModelError(
                f"{model.folder / 'config.json'}: {key} = {value!r} can't be exported for {model.arch} models. "
                "Use an unquantised model without this setting, or the transformers sampler."
            )


def _common_faults(model: Model) -> dict[str, bool]:
    """Return whether each key has a value that llama.cpp can't take."""
    config, rope = model.config, model.rope
    return {
        "quantization_config": getattr(config, "quantization_config", None) is not None,
        "hidden_act": getattr(config, "hidden_act", "silu") not in ("silu", "swish"),
        "attention_bias": model.arch not in _HAS_BIASES and getattr(config, "attention_bias", False),
        "mlp_bias": model.arch not in _HAS_BIASES and getattr(config, "mlp_bias", False),
        "rope_parameters.rope_type": rope["rope_type"] not in _ROPE_TYPES.get(model.arch, ("default", "linear")),
        "rope_parameters.partial_rotary_factor": model.arch != "phi3" and rope.get("partial_rotary_factor", 1.0) != 1.0,
        "no_rope_layers": model.arch == "smollm3" and not _is_every(config.no_rope_layers, _NO_ROPE, 0),
    }


def _gemma_faults(model: Model) -> dict[str, bool]:
    if model.arch not in _WINDOWS:
        return {}
    config, has_caps = model.config, model.arch == "gemma2"
    is_by_width = config.num_hidden_layers == _SCALED_BY_WIDTH[model.arch]
    scalar = config.hidden_size // config.num_attention_heads if is_by_width else model.shape.head_dim
    return {
        "hidden_activation": config.hidden_activation != "gelu_pytorch_tanh",
        "layer_types": not _is_every(config.layer_types, _WINDOWS[model.arch], "full_attention"),
        "query_pre_attn_scalar": config.query_pre_attn_scalar != scalar,
        "attn_logit_softcapping": (config.attn_logit_softcapping is not None) != has_caps,
        "final_logit_softcapping": (config.final_logit_softcapping is not None) != has_caps,
        "use_bidirectional_attention": bool(config.use_bidirectional_attention),
    }


def _is_every(layers: Sequence[Any], step: int, value: Any) -> bool:
    """Return whether the layers that have the value are those whose numbers, from 1 on, are multiples of `step`."""
    return all((kind == value) == ((number + 1) % step == 0) for number, kind in enumerate(layers))


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
