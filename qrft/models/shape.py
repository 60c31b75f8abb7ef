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
from qrft.models.architectures import BY_MODEL_TYPE, LINEAR
from qrft.models.weights import read_json


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
    biases: tuple[str, ...] = ()  # those of LINEAR that have one
    has_qk_norm: bool = False

    @property
    def query_size(self) -> int:
        return self.num_heads * self.head_dim

    @property
    def key_size(self) -> int:
        return self.num_kv_heads * self.head_dim

    @property
    def linear(self) -> dict[str, tuple[int, int]]:
        """Return (outputs, inputs) of each linear layer of a block."""
        hidden, query, key, inner = self.hidden_size, self.query_size, self.key_size, self.intermediate_size
        sizes = ((query, hidden), (key, hidden), (key, hidden), (hidden, query))
        return dict(zip(LINEAR, (*sizes, (inner, hidden), (inner, hidden), (hidden, inner)), strict=True))

    @property
    def block_vectors(self) -> list[int]:
        """Return the lengths of a block's norms and biases."""
        norms = [self.hidden_size, self.hidden_size, *([self.head_dim] * 2 if self.has_qk_norm else [])]
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


def read_shape(folder: Path) -> Shape:
    """Read the sizes of the model in a folder. Raises ModelError when its config.json can't be read or lacks one."""
    path = folder / "config.json"
    config = read_json(path)
    if config.get("model_type", "llama") not in BY_MODEL_TYPE:
        raise ModelError(
            f"{path}: found the model_type {config['model_type']!r}. Expected one of {', '.join(BY_MODEL_TYPE)}. "
            "Choose a base model of one of these."
        )
    try:
        return shape_of(config)
    except (KeyError, TypeError, ZeroDivisionError) as error:
        raise ModelError(
            f"{path}: has no usable {error.args[0] if isinstance(error, KeyError) else 'sizes'}. Expected the "
            f"configuration of a {', '.join(BY_MODEL_TYPE)} model; download the model again."
        ) from error


def shape_of(config: Mapping[str, Any]) -> Shape:
    """Return the sizes that the content of a config.json gives; missing ones are transformers' defaults.

    Raises KeyError for a size that has no default, and for the model_type of an unsupported architecture.
    """
    architecture = BY_MODEL_TYPE[config.get("model_type", "llama")]
    heads, hidden = config["num_attention_heads"], config["hidden_size"]
    biases = [*architecture.biases]
    for key, names in architecture.bias_keys.items():
        biases += names if config.get(key) else ()
    return Shape(
        hidden_size=hidden,
        intermediate_size=config["intermediate_size"],
        num_layers=config["num_hidden_layers"],
        num_heads=heads,
        num_kv_heads=config.get("num_key_value_heads", architecture.num_key_value_heads) or heads,
        head_dim=config.get("head_dim", architecture.head_dim) or hidden // heads,
        vocab_size=config["vocab_size"],
        is_tied=bool(config.get("tie_word_embeddings", False)),
        biases=tuple(biases),
        has_qk_norm=architecture.has_qk_norm,
    )
