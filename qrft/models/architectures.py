"""The supported architectures: their names in transformers and in llama.cpp, and how their tensors differ.

To add one: an entry here, then the checks of `qrft.models.gguf.architecture` and a kind in `tests/helpers/models.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

# The linear layers of a block, in the order of the forward pass; then those that take the place of several.
Linear = Literal[
    "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "qkv_proj", "gate_up_proj"
]
LINEAR: tuple[Linear, ...] = get_args(Linear)[:7]
FUSED: tuple[Linear, ...] = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")
ATTENTION, MLP = (*LINEAR[:4], "qkv_proj"), (*LINEAR[4:], "gate_up_proj")
NORMS = ("input_layernorm", "post_attention_layernorm")
GEMMA_NORMS = (*NORMS, "pre_feedforward_layernorm", "post_feedforward_layernorm")


@dataclass(frozen=True)
class Architecture:
    """What distinguishes a decoder of the Llama family.

    Its values apply when config.json lacks the key, as in transformers' configuration of the same name.
    """

    model_type: str  # in config.json
    llama_cpp: str  # llama.cpp's name
    head_dim: int | None = None  # None: hidden_size / num_attention_heads
    num_key_value_heads: int | None = None  # None: num_attention_heads
    biases: tuple[Linear, ...] = ()  # the layers that always have a bias
    bias_keys: Mapping[str, tuple[Linear, ...]] = field(default_factory=dict)  # layers with a bias if a key says so
    qk_norm: Literal["head", "whole"] | None = None  # queries and keys are normed, each head or all heads together
    linear: tuple[Linear, ...] = LINEAR
    norms: tuple[str, ...] = NORMS  # of a block
    is_tied: bool = False  # the head is the embeddings
    turns_neighbours: bool = False  # llama.cpp rotates neighbouring rows of a head, transformers those of its halves
    norm_offset: float = 0.0  # transformers adds it to a norm's weights, llama.cpp finds it added


_ATTENTION_BIAS: dict[str, tuple[Linear, ...]] = {"attention_bias": LINEAR[:4]}
_LLAMA = Architecture("llama", "llama", bias_keys={**_ATTENTION_BIAS, "mlp_bias": LINEAR[4:]}, turns_neighbours=True)
_GEMMA = Architecture(
    "gemma2",
    "gemma2",
    head_dim=256,
    num_key_value_heads=4,
    bias_keys=_ATTENTION_BIAS,
    norms=GEMMA_NORMS,
    is_tied=True,
    norm_offset=1.0,
)
ARCHITECTURES = {
    "LlamaForCausalLM": _LLAMA,
    "MistralForCausalLM": Architecture("mistral", "llama", num_key_value_heads=8, turns_neighbours=True),
    "Qwen2ForCausalLM": Architecture("qwen2", "qwen2", num_key_value_heads=32, biases=LINEAR[:3]),
    "Qwen3ForCausalLM": Architecture(
        "qwen3", "qwen3", head_dim=128, num_key_value_heads=32, bias_keys=_ATTENTION_BIAS, qk_norm="head"
    ),
    "Gemma2ForCausalLM": _GEMMA,
    "Gemma3ForCausalLM": replace(_GEMMA, model_type="gemma3_text", llama_cpp="gemma3", qk_norm="head"),
    "Phi3ForCausalLM": Architecture("phi3", "phi3", linear=FUSED),
    "SmolLM3ForCausalLM": replace(
        _LLAMA, model_type="smollm3", llama_cpp="smollm3", num_key_value_heads=4, is_tied=True
    ),
    "Olmo2ForCausalLM": Architecture(
        "olmo2", "olmo2", bias_keys=_ATTENTION_BIAS, norms=GEMMA_NORMS[1::2], qk_norm="whole"
    ),
    "GraniteForCausalLM": replace(_LLAMA, model_type="granite", llama_cpp="granite"),
}
BY_MODEL_TYPE = {architecture.model_type: architecture for architecture in ARCHITECTURES.values()}


def is_supported(config: Mapping[str, Any]) -> bool:
    """Return whether a config.json's content is of a supported architecture, by its model_type."""
    return str(config.get("model_type", "llama")) in BY_MODEL_TYPE


def architecture_name(config: Mapping[str, Any]) -> str:
    """Return the name under which a config.json's content lists its architecture, "none" where it lists none."""
    names = config.get("architectures")
    return names[0] if isinstance(names, list) and names and isinstance(names[0], str) else "none"
