"""The sizes of a model of any architecture that transformers knows, from the modules that it makes without weights.

qrft.models.shape counts those of the Llama family from config.json alone, which takes no library. Here the first block
stands for all, so the sum is right, and what lies where is an estimate.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from qrft.data.file_hashes import State, state
from qrft.errors import ModelError
from qrft.models.architectures import is_supported
from qrft.models.json_file import read_json
from qrft.models.loading import model_without_weights
from qrft.models.shape import Shape, shape_in


def read_shape(folder: Path) -> Shape:
    """Return the sizes of the model in a folder. Raises ModelError for a config.json that can't be read, lacks one, or
    is of no causal language model."""
    path = folder / "config.json"
    config = read_json(path)
    if is_supported(config):
        return shape_in(config, path)
    return _made_shape(folder, state(path))


@lru_cache(maxsize=8)
def _made_shape(folder: Path, _state: State) -> Shape:
    model = model_without_weights(folder)
    config, table = model.config, model.get_input_embeddings().weight
    is_tied = bool(getattr(config, "tie_word_embeddings", False))
    linear = _linear(model)
    heads = int(getattr(config, "num_attention_heads", None) or 1)
    shape = Shape(
        hidden_size=table.shape[1],
        intermediate_size=max(max(sizes) for sizes in linear.values()),
        num_layers=int(config.num_hidden_layers),
        num_heads=heads,
        num_kv_heads=int(getattr(config, "num_key_value_heads", None) or heads),
        head_dim=int(getattr(config, "head_dim", None) or table.shape[1] // heads),
        vocab_size=table.shape[0],
        is_tied=is_tied,
        sizes=tuple(linear.items()),
        layers=tuple(linear),
    )
    head = model.get_output_embeddings()
    untied = {id(head.weight)} if is_tied and head is not None and head.weight is not table else set()
    counted = sum(parameter.numel() for parameter in model.parameters() if id(parameter) not in untied)
    in_blocks = counted - sum(shape.outer)
    return replace(shape, num_rest=max(0, in_blocks - shape.num_linear) // shape.num_layers)


def _linear(model: Any) -> dict[str, tuple[int, int]]:
    """Return (outputs, inputs) of the linear layers of the first block, by their names in it."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    lists = (module for module in model.modules() if isinstance(module, nn.ModuleList))
    blocks = next((blocks for blocks in lists if len(blocks) == model.config.num_hidden_layers), None)
    block = model if blocks is None else blocks[0]
    found: dict[str, tuple[int, int]] = {}
    for name, module in block.named_modules():
        if isinstance(module, nn.Linear | Conv1D):
            rows, columns = module.weight.shape
            found[name] = (columns, rows) if isinstance(module, Conv1D) else (rows, columns)
    if not found:
        raise ModelError(
            f"{type(model).__name__}: has no linear layers, which adapters are for. Name another base model."
        )
    return found
