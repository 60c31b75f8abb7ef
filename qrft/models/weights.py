"""Read safetensors folders, one tensor at a time.

It has its own reader: safetensors' numpy front has no bfloat16 and its torch front takes seconds to import, and this
one can say which file is cut short and by how much.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qrft.errors import ModelError

# bfloat16 is the upper half of a float32, so it is read as uint16 and shifted.
_DTYPES: dict[str, type[np.generic]] = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16}


@dataclass(frozen=True)
class TensorRef:
    """Where a tensor is stored: its file, its type by safetensors' name, its shape, its first byte."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    start: int


def open_weights(folder: Path, stem: str = "model") -> dict[str, TensorRef]:
    """Open the tensors of `<stem>.safetensors`, or of the shards that `<stem>.safetensors.index.json` lists, by name.

    Reads headers only. Raises ModelError when there is no such file or one is not a whole safetensors file.
    """
    refs: dict[str, TensorRef] = {}
    for path in _weight_files(folder, stem):
        refs.update(_read_header(path))
    return refs


def read_tensor(name: str, ref: TensorRef, rows: slice | NDArray[np.int64] | None = None) -> NDArray[np.float32]:
    """Read the tensor, or those rows of it, as a float32 array of its shape.

    Raises ModelError for a type that is not floating point.
    """
    if ref.dtype not in _DTYPES:
        raise ModelError(
            f"{ref.path}: tensor {name} has type {ref.dtype}, expected one of {', '.join(_DTYPES)}. "
            "Quantised weights can't be exported: give the folder of the original model."
        )
    dtype = _DTYPES[ref.dtype]
    if rows is None:
        raw = np.fromfile(ref.path, dtype=dtype, count=prod(ref.shape), offset=ref.start).reshape(ref.shape)
    else:
        raw = np.array(np.memmap(ref.path, dtype, "r", ref.start, ref.shape)[rows])
    if ref.dtype == "BF16":
        wide = raw.astype(np.uint32)
        wide <<= 16  # in place: matrices are large
        raw = wide.view(np.float32)
    return raw.astype(np.float32, copy=False)


def read_json(path: Path) -> dict[str, Any]:
    """Read the object in a JSON file. Raises ModelError when the file is missing or is not a JSON object."""
    if not path.is_file():
        raise ModelError(f"{path}: not found. Expected a Hugging Face folder that holds {path.name}; check the path.")
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ModelError(f"{path}: is not JSON ({error}). Copy or download the folder again.") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path}: holds a {type(content).__name__}, expected an object. Download the folder again.")
    return content


def _weight_files(folder: Path, stem: str) -> list[Path]:
    index = folder / f"{stem}.safetensors.index.json"
    if index.is_file():
        shards = read_json(index).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise ModelError(
                f"{index}: has no weight_map. Expected one, of tensor names and files. Download the folder again."
            )
        files = [folder / name for name in sorted(set(shards.values()))]
    else:
        files = [folder / f"{stem}.safetensors"]
    for file in files:
        if not file.is_file():
            raise ModelError(
                f"{file}: not found. Expected the weights as safetensors; "
                "save the model again with save_pretrained, or download the whole folder."
            )
    return files


def _read_header(path: Path) -> dict[str, TensorRef]:
    """Read where the tensors of a file are stored.

    Layout: 8 bytes of header length, little-endian; the header, JSON; the data, at offsets relative to its start.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise ModelError(f"{path}: found {size} bytes, too few for its header. Copy or download the file again.")
        try:
            header: dict[str, Any] = json.loads(file.read(length))
            refs = {
                name: TensorRef(path, info["dtype"], tuple(info["shape"]), 8 + length + info["data_offsets"][0])
                for name, info in header.items()
                if name != "__metadata__"
            }
            end = max((info["data_offsets"][1] for name, info in header.items() if name != "__metadata__"), default=0)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{path}: not a safetensors file ({error!r}). Copy or download it again.") from error
    if size < 8 + length + end:
        raise ModelError(
            f"{path}: cut short: found {size} bytes, expected {8 + length + end}. Copy or download the file again."
        )
    return refs
