"""The supported architectures: their names in transformers and in llama.cpp, and how their tensors differ.

To add one: an entry here, then the checks of `qrft.models.gguf.architecture` and a kind in `tests/helpers/models.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

# The linear layers of a block, in the order of the forward pass.
Linear = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LINEAR: tuple[Linear, ...] = get_args(Linear)
ATTENTION, MLP = LINEAR[:4], LINEAR[4:]


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
    has_qk_norm: bool = False


ARCHITECTURES = {
    "LlamaForCausalLM": Architecture("llama", "llama", bias_keys={"attention_bias": ATTENTION, "mlp_bias": MLP}),
    "MistralForCausalLM": Architecture("mistral", "llama", num_key_value_heads=8),
    "Qwen2ForCausalLM": Architecture("qwen2", "qwen2", num_key_value_heads=32, biases=ATTENTION[:3]),
    "Qwen3ForCausalLM": Architecture(
        "qwen3",
        "qwen3",
        head_dim=128,
        num_key_value_heads=32,
        bias_keys={"attention_bias": ATTENTION},
        has_qk_norm=True,
    ),
}
BY_MODEL_TYPE = {architecture.model_type: architecture for architecture in ARCHITECTURES.values()}


def architecture_name(config: Mapping[str, Any]) -> str:
    """Return the name under which a config.json's content lists its architecture, "none" where it lists none."""
    names = config.get("architectures")
    return names[0] if isinstance(names, list) and names and isinstance(names[0], str) else "none"
