"""The tensors of a model, from its config.json alone: what decides memory and time of training and sampling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from qrft.errors import ModelError
from qrft.models.gguf.weights import read_json

# of a block, in the order of the forward pass
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder of the Llama family: Llama, Mistral, Qwen2, Qwen3."""

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    is_tied: bool  # the head is the embeddings
    biases: tuple[str, ...] = ()  # of LINEAR, those with a bias
    has_qk_norm: bool = False

    @property
    def query_size(self) -> int:
        return self.num_heads * self.head_dim

    @property
    def key_size(self) -> int:
        return self.num_kv_heads * self.head_dim

    @property
    def linear(self) -> dict[str, tuple[int, int]]:
        """(outputs, inputs) of the linear layers of a block."""
        hidden, query, key, inner = self.hidden_size, self.query_size, self.key_size, self.intermediate_size
        sizes = ((query, hidden), (key, hidden), (key, hidden), (hidden, query))
        return dict(zip(LINEAR, (*sizes, (inner, hidden), (inner, hidden), (hidden, inner)), strict=True))

    @property
    def block_vectors(self) -> list[int]:
        """Lengths of a block's norms and biases."""
        norms = [self.hidden_size, self.hidden_size, *([self.head_dim] * 2 if self.has_qk_norm else [])]
        return norms + [self.linear[name][0] for name in self.biases]

    @property
    def outer(self) -> list[int]:
        """Parameters of the embeddings, the last norm, and the head where it is a matrix of its own."""
        table = self.vocab_size * self.hidden_size
        return [table, self.hidden_size, *([] if self.is_tied else [table])]

    @property
    def num_linear(self) -> int:
        """Parameters of all blocks' linear layers: those that are quantised, and that take nearly all of the time."""
        return self.num_layers * sum(map(prod, self.linear.values()))

    @property
    def num_parameters(self) -> int:
        return self.num_linear + self.num_layers * sum(self.block_vectors) + sum(self.outer)


def read_shape(folder: Path) -> Shape:
    """Of a model's folder. Raises ModelError when config.json can't be read or lacks a size."""
    path = folder / "config.json"
    config = read_json(path)
    try:
        return shape_of(config)
    except (KeyError, TypeError, ZeroDivisionError) as error:
        raise ModelError(
            f"{path}: no usable {error.args[0] if isinstance(error, KeyError) else 'sizes'} in it. Expected the "
            "configuration of a Llama, Mistral, Qwen2 or Qwen3; download the model again."
        ) from error


def shape_of(config: Mapping[str, Any]) -> Shape:
    """Of the content of a config.json. Defaults: transformers' configurations of the four architectures."""
    kind = config.get("model_type", "llama")
    heads, hidden = config["num_attention_heads"], config["hidden_size"]
    attention = ("q_proj", "k_proj", "v_proj", "o_proj") if config.get("attention_bias") else ()
    return Shape(
        hidden_size=hidden,
        intermediate_size=config["intermediate_size"],
        num_layers=config["num_hidden_layers"],
        num_heads=heads,
        num_kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or (128 if kind == "qwen3" else hidden // heads),
        vocab_size=config["vocab_size"],
        is_tied=bool(config.get("tie_word_embeddings", False)),
        biases=(("q_proj", "k_proj", "v_proj") if kind == "qwen2" else attention)
        + (("gate_proj", "up_proj", "down_proj") if config.get("mlp_bias") else ()),
        has_qk_norm=kind == "qwen3",
    )
