"""Sizes of the model that a step works on: of its matrices, of its file, of its adapter."""

from __future__ import annotations

import math
from pathlib import Path

from qrft.config.training import Training
from qrft.models.any_shape import read_shape
from qrft.models.json_file import read_json
from qrft.models.shape import Shape
from qrft.pipeline.graph import Source, Step
from qrft.pipeline.stages import export
from qrft.training import memory

GGUF_BYTES = {"f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32, "q4_k_m": 0.604}  # per parameter of a matrix


def matrices(shape: Shape) -> int:
    """Count the parameters that a token is multiplied with: the head, but not the embeddings, which are looked up."""
    return shape.num_linear + shape.vocab_size * shape.hidden_size


def gguf_bytes(shape: Shape, step: Step) -> int:
    """Return the size of the base that an export makes."""
    assert isinstance(step.settings, export.Settings) and step.settings.quant
    return int(GGUF_BYTES[step.settings.quant] * (shape.num_linear + sum(shape.outer)))


def makes_base(step: Step, is_gpu: bool) -> bool:
    """Return whether an export writes a base, instead of an adapter or nothing; an adapter may be merged on a GPU."""
    assert isinstance(step.settings, export.Settings)
    return not {"base", "file"} & step.inputs.keys() or (is_gpu and step.settings.quant is not None)


def weights_bytes(step: Step, shape: Shape) -> int:
    """Return the size of the file that a step samples from or compares with."""
    base = step.inputs.get("base") or step.inputs.get("file")
    if isinstance(base, Source):
        return base.path.stat().st_size
    return gguf_bytes(shape, base or step)


def adapter_bytes(step: Step, shape: Shape, is_gpu: bool) -> int:
    """Return the size of the adapter that is applied at run time: float32 in its file."""
    source: Step | Source | None = step
    while isinstance(source, Step) and source.stage != "train":
        if source.stage == "export" and makes_base(source, is_gpu):
            return 0
        source = source.inputs.get("adapter")
    if not isinstance(source, Step):
        return 0
    assert isinstance(source.settings, Training)
    return 4 * sum(memory.trained_tensors(shape, source.settings))


def folder_of(step: Step) -> Path:
    """Return the folder of the base model that a step is about."""
    for name in ("model", "tuned"):
        source = step.inputs.get(name)
        if isinstance(source, Source):
            return source.path
        if isinstance(source, Step):
            return folder_of(source)
    raise ValueError(f"{step.path} has no model")


def shape_of(step: Step) -> Shape:
    return read_shape(folder_of(step))


def context_of(folder: Path) -> float:
    """Return the most tokens of a prompt and its sample that the model was trained for; inf where it does not say."""
    return float(read_json(folder / "config.json").get("max_position_embeddings") or math.inf)
