"""What a GGUF file from elsewhere says of itself, compared with the Hugging Face folder before llama.cpp loads it.

It has its own reader: the gguf package makes numpy arrays of every token and merge, seconds for a vocabulary of
150,000.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from qrft.errors import ModelError
from qrft.models.architectures import ARCHITECTURES, architecture_name
from qrft.models.json_file import read_json

Precision = Literal["f32", "f16", "bf16", "q8_0", "coarser"]

# GGUF's value types, by struct's codes; 8 is a string, 9 an array.
_SCALARS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
_STRING, _ARRAY = 8, 9
_TOKENS = "tokenizer.ggml.tokens"
_MIN_SAME_TOKENS = 0.9  # of the tokens: converters respell special ones; another model's vocabulary agrees on far fewer


@dataclass(frozen=True)
class Header:
    """What stands before the tensors' data.

    `metadata`: scalars and texts by their keys; for an array, its length. `tokens`: the vocabulary's texts, as bytes.
    `tensors`: name -> (shape as HF has it, rows first; the type's name, such as Q8_0).
    """

    path: Path
    metadata: dict[str, Any]
    tokens: list[bytes]
    tensors: dict[str, tuple[tuple[int, ...], str]]

    @property
    def arch(self) -> str:
        return str(self.metadata.get("general.architecture", "none"))

    @property
    def precision(self) -> Precision:
        """Return the type in which its coarsest matrix is stored."""
        types = {kind for shape, kind in self.tensors.values() if len(shape) > 1}
        if types <= {"F32"}:
            return "f32"
        if types <= {"F32", "F16"}:
            return "f16"
        if types <= {"F32", "F16", "BF16"}:
            return "bf16"
        return "q8_0" if types <= {"F32", "F16", "BF16", "Q8_0"} else "coarser"


def read_header(path: Path) -> Header:
    """Read all but the tensors' data.

    Raises ModelError for a file that is not a GGUF, is cut short, or is one of several parts.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if data[:4] != b"GGUF":
                raise ModelError(
                    f"{path}: not a GGUF file: it begins with {data[:4]!r}, expected b'GGUF'. Check the path."
                )
            header, end = _parse(path, data)
            size = len(data)
    except OSError as error:
        raise ModelError(f"{path}: can't be read ({error.strerror}). Name a GGUF file.") from error
    except (struct.error, ValueError, KeyError, ArithmeticError) as error:  # mmap says ValueError for an empty file
        raise ModelError(f"{path}: not a whole GGUF file ({error}). Copy or download it again.") from error
    if size < end:
        raise ModelError(f"{path}: cut short: found {size} bytes, expected {end}. Copy or download the file again.")
    parts = header.metadata.get("split.count", 0)
    if parts not in (0, 1):
        raise ModelError(f"{path}: is one of {parts} parts. Join them with llama.cpp's `llama-gguf-split --merge`.")
    return header


def check_base(path: Path, model_dir: Path) -> Header:
    """Check that a GGUF file can be the model of a Hugging Face folder: architecture, layers, sizes, vocabulary.

    Raises ModelError that names the first difference. check_parity says whether it computes the same.
    """
    header, config = read_header(path), read_json(model_dir / "config.json")
    if header.metadata.get("general.type", "model") != "model":
        raise ModelError(f"{path}: holds {header.metadata['general.type']!r}, not a model. Name the base model's file.")
    embeddings = header.tensors.get("token_embd.weight", ((), ""))[0]
    architecture = architecture_name(config)
    known = ARCHITECTURES.get(architecture)
    facts = [
        ("architecture", header.arch, known and known.llama_cpp),
        ("number of layers", header.metadata.get(f"{header.arch}.block_count"), config.get("num_hidden_layers")),
        ("width", header.metadata.get(f"{header.arch}.embedding_length"), config.get("hidden_size")),
        ("vocabulary", embeddings[0] if embeddings else None, config.get("vocab_size")),
    ]
    for name, stated, expected in facts:
        if expected is not None and stated != expected:
            raise ModelError(
                f"{path}: found {name} {stated}, but {model_dir / 'config.json'} says {expected} ({architecture}). "
                "Name the GGUF file of this very model, or leave it out to have one made."
            )
    _check_tokens(header, model_dir)
    return header


def check_vocabulary(path: Path, tokenizer_dir: Path) -> Header:
    """Check that a GGUF file has the tokens of a Hugging Face tokenizer. Raises ModelError when it does not."""
    header = read_header(path)
    _check_tokens(header, tokenizer_dir)
    return header


def check_adapter(path: Path, model_dir: Path | None) -> None:
    """Check that a GGUF file is a LoRA adapter, for the architecture of `model_dir`. Raises ModelError if it isn't."""
    header = read_header(path)
    kind = header.metadata.get("adapter.type", header.metadata.get("general.type", "model"))
    if kind != "lora":
        raise ModelError(
            f"{path}: holds {kind!r}, expected a LoRA adapter. Name the adapter's file or its peft folder."
        )
    if model_dir is None:
        return
    architecture = architecture_name(read_json(model_dir / "config.json"))
    known = ARCHITECTURES.get(architecture)
    if known and header.arch != known.llama_cpp:
        raise ModelError(
            f"{path}: is an adapter of {header.arch} models, but {model_dir} is {known.llama_cpp} ({architecture}). "
            "Name the base model that the adapter was trained on."
        )


def _check_tokens(header: Header, folder: Path) -> None:
    """Compare the vocabulary inside a GGUF, if it has one, with tokenizer.json, if there is one."""
    if not (folder / "tokenizer.json").is_file() or not header.tokens:
        return
    model = read_json(folder / "tokenizer.json").get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(vocabulary, dict) or not vocabulary:  # Unigram lists pairs; only the size is checked
        return
    size = len(header.tokens)
    wrong = [
        index
        for text, index in vocabulary.items()
        if not (type(index) is int and 0 <= index < size) or header.tokens[index] != text.encode("utf-8", "replace")
    ]
    if len(wrong) > (1 - _MIN_SAME_TOKENS) * len(vocabulary):
        raise ModelError(
            f"{header.path}: its vocabulary of {size} tokens differs from {folder / 'tokenizer.json'} in "
            f"{len(wrong)} of {len(vocabulary)} tokens, such as {wrong[0]}. Name the tokenizer of this very model."
        )


def _parse(path: Path, data: mmap.mmap) -> tuple[Header, int]:
    """Return the header, and how many bytes the whole file has at least.

    Source of the layout: ggml's docs/gguf.md, versions 2 and 3.
    """
    version, num_tensors, num_keys = struct.unpack_from("<IQQ", data, 4)
    if version not in (2, 3):
        raise ValueError(f"version {version}, expected 2 or 3")
    metadata: dict[str, Any] = {}
    tokens: list[bytes] = []
    at = 24
    for _ in range(num_keys):
        key, at = _string(data, at)
        (kind,) = struct.unpack_from("<I", data, at)
        name = key.decode()
        if kind == _ARRAY:
            keep = tokens if name == _TOKENS else None
            metadata[name], at = _array(data, at + 4, keep)
        else:
            metadata[name], at = _scalar(data, at + 4, kind)
    tensors: dict[str, tuple[tuple[int, ...], str]] = {}
    end = 0
    for name, shape, type_name, offset, num_bytes, after in _tensor_infos(data, at, num_tensors):
        tensors[name], end, at = (shape, type_name), max(end, offset + num_bytes), after
    alignment = int(metadata.get("general.alignment", 32))
    start = -(-at // alignment) * alignment
    return Header(path, metadata, tokens, tensors), start + end


def _tensor_infos(data: mmap.mmap, at: int, count: int) -> Iterator[tuple[str, tuple[int, ...], str, int, int, int]]:
    """Yield name, shape, type, offset in the data, bytes, and where the next one begins, of every tensor."""
    import gguf

    for _ in range(count):
        name, at = _string(data, at)
        (num_dims,) = struct.unpack_from("<I", data, at)
        if num_dims > 4:  # GGML_MAX_DIMS
            raise ValueError(f"a tensor of {num_dims} dimensions")
        *dims, kind, offset = struct.unpack_from(f"<{num_dims}QIQ", data, at + 4)
        at += 4 + 8 * num_dims + 12
        quantization = gguf.GGMLQuantizationType(kind)
        block, num_bytes = gguf.GGML_QUANT_SIZES[quantization]
        size = num_bytes
        for dim in dims:
            size *= dim
        yield name.decode(), tuple(reversed(dims)), quantization.name, offset, size // block, at


def _string(data: mmap.mmap, at: int) -> tuple[bytes, int]:
    (length,) = struct.unpack_from("<Q", data, at)
    end = at + 8 + length
    if end > len(data):
        raise ValueError(f"a text of {length} bytes at {at}")
    return data[at + 8 : end], end


def _scalar(data: mmap.mmap, at: int, kind: int) -> tuple[Any, int]:
    if kind == _STRING:
        text, at = _string(data, at)
        return text.decode("utf-8", "replace"), at
    code = "<" + _SCALARS[kind]
    return struct.unpack_from(code, data, at)[0], at + struct.calcsize(code)


def _array(data: mmap.mmap, at: int, keep: list[bytes] | None) -> tuple[int, int]:
    """Return the length of an array, and where it ends; its texts go to `keep`."""
    kind, length = struct.unpack_from("<IQ", data, at)
    at += 12
    if kind != _STRING:
        return length, at + length * struct.calcsize("<" + _SCALARS[kind])
    for _ in range(length):
        text, at = _string(data, at)
        if keep is not None:
            keep.append(text)
    return length, at
