"""The one count of a model's parameters, from its config.json alone.

Memory, time and floating-point operations of training and sampling are all computed from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from qrft.errors import ModelError
from qrft.models.architectures import ATTENTION, BY_MODEL_TYPE, LINEAR, NORMS, is_supported

# The sizes that a config.json gives, and the largest that is believed: larger ones are mistakes, or meant to fill the
# memory of whoever makes a model or a list of that size.
LARGEST = {
    "hidden_size": 2**20,
    "intermediate_size": 2**24,
    "num_hidden_layers": 10_000,
    "num_attention_heads": 2**16,
    "vocab_size": 2**24,
}
_OPTIONAL = {"num_key_value_heads": 2**16, "head_dim": 2**16, "max_position_embeddings": 2**31}


@dataclass(frozen=True)
class Shape:
    """The sizes of a decoder of the Llama family."""

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    is_tied: bool  # the head is the embeddings
    biases: tuple[str, ...] = ()  # the linear layers that have one
    qk_norm: str | None = None  # whether queries and keys are normed: each "head", or the "whole" of them
    layers: tuple[str, ...] = LINEAR  # the linear layers of a block
    norms: tuple[str, ...] = NORMS
    sizes: tuple[tuple[str, tuple[int, int]], ...] = ()  # of `layers`, where these are not the Llama family's
    num_rest: int = 0  # parameters of a block beyond linear layers, norms and biases

    @property
    def query_size(self) -> int:
        return self.num_heads * self.head_dim

    @property
    def key_size(self) -> int:
        return self.num_kv_heads * self.head_dim

    @property
    def linear(self) -> dict[str, tuple[int, int]]:
        """Return (outputs, inputs) of each linear layer of a block."""
        if self.sizes:
            return dict(self.sizes)
        hidden, query, key, inner = self.hidden_size, self.query_size, self.key_size, self.intermediate_size
        sizes = {
            "q_proj": (query, hidden),
            "k_proj": (key, hidden),
            "v_proj": (key, hidden),
            "qkv_proj": (query + 2 * key, hidden),
            "o_proj": (hidden, query),
            "gate_proj": (inner, hidden),
            "up_proj": (inner, hidden),
            "gate_up_proj": (2 * inner, hidden),
            "down_proj": (hidden, inner),
        }
        return {name: sizes[name] for name in self.layers}

    @property
    def qk_norms(self) -> dict[str, int]:
        """Return the lengths of the norms of queries and keys, by their names; none where these are not normed."""
        lengths = {"head": (self.head_dim, self.head_dim), "whole": (self.query_size, self.key_size)}
        return dict(zip(("q_norm", "k_norm"), lengths[self.qk_norm], strict=True)) if self.qk_norm else {}

    @property
    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of all tensors but the head by transformers' names."""
        hidden, linear = (self.hidden_size,), self.linear
        block: dict[str, tuple[int, ...]] = {f"{_part(name)}.{name}.weight": linear[name] for name in linear}
        block |= {f"{_part(name)}.{name}.bias": linear[name][:1] for name in self.biases}
        block |= {f"{name}.weight": hidden for name in self.norms}
        block |= {f"self_attn.{name}.weight": (length,) for name, length in self.qk_norms.items()}
        blocks = {f"model.layers.{i}.{name}": size for i in range(self.num_layers) for name, size in block.items()}
        return {"model.embed_tokens.weight": (self.vocab_size, self.hidden_size), "model.norm.weight": hidden, **blocks}

    @property
    def block_vectors(self) -> list[int]:
        """Return the lengths of a block's norms and biases."""
        if self.sizes:
            return [self.num_rest]
        norms = [self.hidden_size] * len(self.norms) + [*self.qk_norms.values()]
        return norms + [self.linear[name][0] for name in self.biases]

    @property
    def outer(self) -> list[int]:
        """Return the parameters of the embeddings, the last norm, and the head where it is a matrix of its own."""
        table = self.vocab_size * self.hidden_size
        return [table, self.hidden_size, *([] if self.is_tied else [table])]

    @property
    def num_linear(self) -> int:
        """Return the parameters of all blocks' linear layers: those that are quantised and take nearly all the time."""
        return self.num_layers * sum(map(prod, self.linear.values()))

    @property
    def num_parameters(self) -> int:
        return self.num_linear + self.num_layers * sum(self.block_vectors) + sum(self.outer)


def shape_in(config: Mapping[str, Any], path: Path) -> Shape:
    """Return the sizes that the content of the config.json `path` gives; missing ones are transformers' defaults.

    Raises ModelError for a size that is missing or can't be, and for an unsupported architecture.
    """
    if not is_supported(config):
        raise ModelError(
            f"{path}: found the model_type {str(config['model_type'])[:80]!r}. Expected one of "
            f"{', '.join(BY_MODEL_TYPE)}. Choose a base model of one of these."
        )
    architecture = BY_MODEL_TYPE[config.get("model_type", "llama")]
    _check_sizes(config, path)
    heads, hidden = config["num_attention_heads"], config["hidden_size"]
    kv_heads = config.get("num_key_value_heads", architecture.num_key_value_heads) or heads
    head_dim = config.get("head_dim", architecture.head_dim) or hidden // heads
    if heads % kv_heads:
        raise ModelError(
            f"{path}: num_key_value_heads: found {kv_heads}, which does not divide the {heads} heads of "
            "num_attention_heads. Download the model again."
        )
    if head_dim < 2 or head_dim % 2:
        raise ModelError(
            f"{path}: head_dim, or hidden_size by num_attention_heads: found {head_dim}. Expected an even number, "
            "whose halves are rotated. Download the model again."
        )
    biases = [*architecture.biases]
    for key, names in architecture.bias_keys.items():
        biases += names if config.get(key) else ()
    return Shape(
        hidden_size=hidden,
        intermediate_size=config["intermediate_size"],
        num_layers=config["num_hidden_layers"],
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        vocab_size=config["vocab_size"],
        is_tied=bool(config.get("tie_word_embeddings", architecture.is_tied)),
        biases=tuple(biases),
        qk_norm=architecture.qk_norm,
        layers=architecture.linear,
        norms=architecture.norms,
    )


def is_size(value: Any, largest: int) -> bool:
    """Tell whether a value from a config.json is a whole number from 1 to the largest."""
    return type(value) is int and 1 <= value <= largest


def _check_sizes(config: Mapping[str, Any], path: Path) -> None:
    """Raise ModelError for a size that is missing, or is none."""
    if missing := [key for key in LARGEST if key not in config]:
        raise ModelError(
            f"{path}: has no usable {missing[0]}. Expected the configuration of a {', '.join(BY_MODEL_TYPE)} model; "
            "download the model again."
        )
    given = {key: largest for key, largest in _OPTIONAL.items() if config.get(key) is not None}
    for key, largest in {**LARGEST, **given}.items():
        if not is_size(config[key], largest):
            raise ModelError(
                f"{path}: {key}: found {str(config[key])[:80]}. Expected a whole number from 1 to {largest:,}; "
                "download the model again."
            )


def _part(linear: str) -> str:
    """Return which part of a block a linear layer belongs to."""
    return "self_attn" if linear in ATTENTION else "mlp"
