"""Find the folder of a base model, and identify it by a fingerprint, which enters the digests."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from qrft.data.file_hashes import file_hash
from qrft.errors import DataError, ModelError, QrftError
from qrft.models.architectures import ARCHITECTURES, architecture_name
from qrft.models.gguf.dequantize import dequantized
from qrft.models.json_file import read_json
from qrft.models.loading import check_tokenizer
from qrft.models.names import BUILTIN, PACKAGED, packaged_file

# The files that make a model what it is; a README or another format's weights do not.
MODEL_FILES = (
    "config.json",
    "generation_config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer*.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")


def find_model(base_model: str, *, is_exported: bool = False, with_weights: bool = True) -> Path:
    """Return the model's folder: built in, on this disk, made once of a GGUF file or a package's, or downloaded from
    the hub once.

    is_exported: refuse a model that qrft can't export to llama.cpp; transformers trains and samples any. with_weights:
    download the weights too, and require them; weights that are there are checked in any case.
    Raises ModelError when there is no such model, or one that is refused or not whole.
    """
    folder = BUILTIN.get(base_model) or Path(base_model).expanduser()
    if file := gguf_of(base_model):
        folder = dequantized(file)
    elif not folder.is_dir():
        folder = _download(base_model, [name for name in MODEL_FILES if with_weights or "safetensors" not in name])
    from qrft.models.whole import check_weights  # with numpy, which no help waits for

    _check(folder, is_exported)
    if with_weights or any(folder.glob("*.safetensors")):
        check_weights(folder)
    return folder


def gguf_of(base_model: str) -> Path | None:
    """Return the GGUF file that a base model's name means: itself, or one in a package. None for any other name.

    Raises ModelError for a package that is not installed.
    """
    if base_model in PACKAGED:
        return packaged_file(base_model)
    path = Path(base_model).expanduser()
    return path if path.suffix == ".gguf" and path.is_file() else None


def _download(name: str, files: list[str]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=files))
    except Exception as error:  # no network, no such model, no permission: each layer of the library raises its own
        raise ModelError(
            f"base_model: {name!r} is neither a local folder nor a GGUF file ({Path(name).absolute()}), and could not "
            f"be downloaded from the hub ({str(error).splitlines()[0]}). {_way_out(name, error)}"
        ) from error


def _way_out(name: str, error: Exception) -> str:
    from huggingface_hub.errors import GatedRepoError

    if isinstance(error, GatedRepoError):
        return (
            f"Its terms have to be accepted first, at https://huggingface.co/{name}; then log in with `hf auth login`."
        )
    return "Name a folder with the model, or a hub name that you may read."


def _check(folder: Path, is_exported: bool) -> None:
    path = folder / "config.json"
    config = read_json(path)
    architecture = architecture_name(config)
    if architecture not in ARCHITECTURES:
        if is_exported:
            raise ModelError(
                f"{path}: the architecture is {architecture}; for llama.cpp qrft exports {', '.join(ARCHITECTURES)}. "
                "Choose the sampler transformers, or a model of one of these."
            )
        _check_causal(path, architecture, config.get("model_type"))
    if not any((folder / name).is_file() for name in TOKENIZERS):
        raise ModelError(f"{folder}: has no tokenizer ({', '.join(TOKENIZERS)}). Copy the model's tokenizer there.")
    check_tokenizer(folder)
    from qrft.models.whole import check_config

    check_config(path)


def _check_causal(path: Path, architecture: str, model_type: object) -> None:
    """Raise ModelError for what is not one of transformers' causal language models."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as KNOWN

    names = KNOWN.get(model_type) if isinstance(model_type, str) else None
    if architecture not in ((names,) if isinstance(names, str) else names or ()):
        raise ModelError(
            f"{path}: the architecture is {architecture}, the model_type {str(model_type)[:80]}. Expected those of a "
            f"causal language model that transformers knows, such as {next(iter(ARCHITECTURES))}. Choose such a model."
        )


def fingerprint(path: Path) -> str:
    """Return a hash of the contents of a file, or of the files that make a model's folder or a folder of problems.

    Raises DataError for a file and ModelError for a model's file that can't be read.
    """
    if path.is_file():
        return _hash(path, DataError)
    files = sorted({file for pattern in MODEL_FILES for file in path.glob(pattern)})
    listed = [[file.name, _hash(file, ModelError)] for file in files]
    if not files:  # of problems; what is hidden, such as the hub's notes on its downloads, does not count
        names = sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())
        listed = [[name, _hash(path / name, DataError)] for name in names if not name.startswith(".")]
    return hashlib.blake2b(json.dumps(listed).encode(), digest_size=10).hexdigest()


def _hash(path: Path, fault: type[QrftError]) -> str:
    try:
        return file_hash(path)
    except OSError as error:
        raise fault(f"{path}: can't be read ({error.strerror}). Repair it, or name another in the recipe.") from error
