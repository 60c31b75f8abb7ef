"""Where a base model lies, and what it is: the fingerprint that enters the digests."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from qrft.errors import DataError, ModelError, QrftError

BUILTIN = {"tiny-base": Path(__file__).parent / "bases" / "tiny-base"}
# What of a model's folder makes it what it is; a README or another format's weights do not.
MODEL_FILES = (
    "config.json",
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
ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")


def find(base_model: str, *, is_exported: bool = True, with_weights: bool = True) -> Path:
    """The model's folder: built in, on this disk, or downloaded from the hub once, on request without its weights.

    Raises ModelError when there is none, or with is_exported one that qrft can't export.
    """
    folder = BUILTIN.get(base_model) or Path(base_model).expanduser()
    if not folder.is_dir():
        folder = _download(base_model, [name for name in MODEL_FILES if with_weights or "safetensors" not in name])
    if is_exported:
        _check(folder)
    return folder


def _download(name: str, files: list[str]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=files))
    except Exception as error:  # no network, no such model, no permission: each library layer has its own
        raise ModelError(
            f"base_model: {name!r} is no folder here ({Path(name).absolute()}), and the hub did not give it "
            f"({str(error).splitlines()[0]}). Name a folder with the model, or a hub name that you may read."
        ) from error


def _check(folder: Path) -> None:
    path = folder / "config.json"
    try:
        found = (json.loads(path.read_text(encoding="utf-8")).get("architectures") or ["none"])[0]
    except (OSError, ValueError, AttributeError, LookupError, TypeError) as error:  # the latter: JSON of another shape
        reason = error.strerror if isinstance(error, OSError) else error
        raise ModelError(
            f"{path}: can't be read ({reason}). Name a model's folder: config.json, *.safetensors, tokenizer.json."
        ) from error
    if found not in ARCHITECTURES:
        raise ModelError(
            f"{path}: the architecture is {found}; qrft exports {', '.join(ARCHITECTURES)}. Choose a model of these."
        )
    if not any((folder / name).is_file() for name in TOKENIZERS):
        raise ModelError(f"{folder}: no tokenizer in it ({', '.join(TOKENIZERS)}). Put the model's own there.")


def fingerprint(path: Path) -> str:
    """A hash of the contents of a file, or of the files that make a model's folder.

    Raises DataError or ModelError for what can't be read.
    """
    if path.is_file():
        return _hash(path, DataError)
    files = sorted({file for pattern in MODEL_FILES for file in path.glob(pattern)})
    listed = [[file.name, _hash(file, ModelError)] for file in files]
    return hashlib.blake2b(json.dumps(listed).encode(), digest_size=10).hexdigest()


def _hash(path: Path, fault: type[QrftError]) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=10)).hexdigest()
    except OSError as error:
        raise fault(f"{path}: can't be read ({error.strerror}). Mend it, or name another in the recipe.") from error
