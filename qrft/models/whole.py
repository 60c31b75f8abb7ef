"""Check once, before any work, that a base model's folder is whole: for training, sampling, export and loss alike.

The libraries that read it later would not say so: transformers fills a missing weight with random numbers, and of two
sets of weights in a folder each library takes another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from qrft.errors import ModelError
from qrft.models.architectures import ARCHITECTURES, architecture_name
from qrft.models.json_file import read_json
from qrft.models.loading import missing_weights
from qrft.models.shape import LARGEST, is_size, shape_in
from qrft.models.weights import TensorRef, open_weights, read_tensor

HEAD, EMBEDDINGS = "lm_head.weight", "model.embed_tokens.weight"
_ROWS = 4096  # of two matrices that are compared at a time
# What configurations call the number of blocks, and numbers of which transformers makes a list while it reads them.
_NUM_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_NUM_LABELS = 10_000
_NUMBERS = ("attention_dropout", "initializer_range", "rms_norm_eps", "rope_theta")  # by which a forward pass computes


def check_config(path: Path) -> None:
    """Check the sizes in a config.json, from which everything else follows. Raises ModelError that names the key."""
    config = read_json(path)
    if architecture_name(config) in ARCHITECTURES:
        shape_in(config, path)
    for key, largest in (*((key, LARGEST["num_hidden_layers"]) for key in _NUM_LAYERS), ("num_labels", _NUM_LABELS)):
        if key in config and not is_size(config[key], largest):
            raise ModelError(
                f"{path}: {key}: found {str(config[key])[:80]}. Expected a whole number from 1 to {largest:,}; "
                "download the model again."
            )
    for key in _NUMBERS:
        if key in config and not (type(config[key]) in (int, float) and 0 <= config[key] < math.inf):
            raise ModelError(
                f"{path}: {key}: found {str(config[key])[:80]}. Expected a number from 0; download the model again."
            )
    if config.get("transformers_weights") is not None:
        raise ModelError(
            f"{path}: transformers_weights names weights that only one of the libraries would read. Remove the key, "
            "and keep model.safetensors or the shards of model.safetensors.index.json."
        )


def check_weights(folder: Path) -> None:
    """Check that the folder has one set of weights, each weight once, all that its config.json asks for in their
    shapes, and a head of its own only where config.json says so. Reads headers, of tied heads the numbers too.

    Raises ModelError that names the file or the weight.
    """
    if (folder / "adapter_config.json").is_file():
        raise ModelError(
            f"{folder}: holds an adapter (adapter_config.json), expected a base model. Name the base that the adapter "
            "was trained on, or move the adapter's files out of the model's folder."
        )
    refs, config = open_weights(folder), read_json(folder / "config.json")
    if architecture_name(config) in ARCHITECTURES:
        shape = shape_in(config, folder / "config.json")
        expected = dict(shape.tensors)
        if not shape.is_tied or HEAD in refs:
            expected[HEAD] = expected[EMBEDDINGS]
        _check_shapes(folder, refs, expected)
        if shape.is_tied and HEAD in refs and not _is_equal(refs):
            raise ModelError(
                f"{refs[HEAD].path}: {HEAD} differs from {EMBEDDINGS}, but config.json says tie_word_embeddings: one "
                "library would use the one, another the other. If the model was trained with a head of its own, set "
                f"tie_word_embeddings to false in config.json; if not, save it without {HEAD}."
            )


def _check_shapes(folder: Path, refs: Mapping[str, TensorRef], expected: Mapping[str, tuple[int, ...]]) -> None:
    if missing := [name for name in expected if name not in refs]:
        raise missing_weights(folder, missing)
    for name, shape in expected.items():
        if refs[name].shape != shape:
            raise ModelError(
                f"{refs[name].path}: {name} is {refs[name].shape}, but config.json asks for {shape}. Download the "
                "folder again, or save the model whole with save_pretrained."
            )


def _is_equal(refs: Mapping[str, Any]) -> bool:
    head, embeddings = refs[HEAD], refs[EMBEDDINGS]
    for first in range(0, head.shape[0], _ROWS):
        rows = slice(first, first + _ROWS)
        if not np.array_equal(read_tensor(HEAD, head, rows), read_tensor(EMBEDDINGS, embeddings, rows)):
            return False
    return True
