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
from qrft.models.json_file import read_json

# bfloat16 is the upper half of a float32, so it is read as uint16 and shifted.
_DTYPES: dict[str, type[np.generic]] = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16}
# A header of more bytes is not read: one of 70 billion parameters has 80 KiB, and read it takes several times its size.
_LARGEST_HEADER = 2**25
_MANY = 2**48  # no dimension and no file has as many numbers or bytes


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
        found = _read_header(path)
        if twice := sorted(refs.keys() & found.keys()):
            raise ModelError(
                f"{path}: holds {twice[0]}, which {refs[twice[0]].path.name} holds too. Expected every tensor once; "
                "download the folder again."
            )
        refs.update(found)
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


def _weight_files(folder: Path, stem: str) -> list[Path]:
    index, single = folder / f"{stem}.safetensors.index.json", folder / f"{stem}.safetensors"
    files = [folder / name for name in _shards(index)] if index.is_file() else [single]
    if single not in files and single.is_file():
        raise ModelError(
            f"{single}: a second set of weights beside {index.name} and its shards: one library would read the one, "
            f"another the other. Remove {single.name}, or {index.name} with its shards."
        )
    for file in files:
        if not file.is_file():
            raise ModelError(
                f"{file}: not found. Expected the weights as safetensors; "
                "save the model again with save_pretrained, or download the whole folder."
            )
    return files


def _shards(index: Path) -> list[str]:
    """Return the names of the files that an index lists: files of its own folder."""
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise ModelError(
            f"{index}: has no weight_map. Expected one, of tensor names and files. Download the folder again."
        )
    for tensor, name in shards.items():
        if not isinstance(name, str) or not name.endswith(".safetensors") or Path(name).name != name:
            raise ModelError(
                f"{index}: weight_map: found {str(name)[:80]!r} as the file of {tensor[:80]}. Expected the name of a "
                "*.safetensors file in this folder; download the folder again."
            )
    return sorted(set(shards.values()))


def _read_header(path: Path) -> dict[str, TensorRef]:
    """Read where the tensors of a file are stored.

    Layout: 8 bytes of header length, little-endian; the header, JSON; the data, at offsets relative to its start, one
    tensor after the other without a gap.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise ModelError(f"{path}: found {size} bytes, too few for its header. Copy or download the file again.")
        if length > _LARGEST_HEADER:
            raise ModelError(
                f"{path}: found a header of {length:,} bytes, expected {_LARGEST_HEADER:,} at most. Copy or download "
                "the file again."
            )
        header = file.read(length)
    try:
        refs, end = _parse_header(path, header)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path}: not a safetensors file ({error!r:.300}). Copy or download it again.") from error
    if size < end:
        raise ModelError(f"{path}: cut short: found {size} bytes, expected {end}. Copy or download the file again.")
    if size > end:
        raise ModelError(f"{path}: found {size} bytes, its tensors end at {end}. Copy or download the file again.")
    return refs


def _parse_header(path: Path, header: bytes) -> tuple[dict[str, TensorRef], int]:
    """Return the tensors, and where the last one ends. Raises ValueError and its like for what is no such header."""
    start = 8 + len(header)
    infos: dict[str, Any] = json.loads(header)
    infos.pop("__metadata__", None)
    places = []
    for name, info in infos.items():
        shape, (first, last) = tuple(info["shape"]), info["data_offsets"]
        if not all(type(number) is int and 0 <= number < _MANY for number in (*shape, first, last)):
            raise ValueError(f"{name}: shape {info['shape']} at {info['data_offsets']}")
        ref = TensorRef(path, str(info["dtype"]), shape, start + first)
        if ref.dtype in _DTYPES and prod(shape) * np.dtype(_DTYPES[ref.dtype]).itemsize != last - first:
            raise ValueError(f"{name}: {last - first} bytes for {ref.dtype} {list(shape)}")
        places.append((first, last, name, ref))
    end = 0
    for first, last, name, _ in sorted(places, key=lambda place: place[:2]):
        if first != end or last < first:
            raise ValueError(f"{name}: at {first} to {last}, where the last one ends at {end}")
        end = last
    return {name: ref for _, _, name, ref in places}, start + end
