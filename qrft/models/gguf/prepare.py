"""Make the GGUF files that a sampler needs of a base and an adapter once, and keep them in a cache folder."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from qrft.data.disk import cache_folder
from qrft.data.made_once import made_once
from qrft.data.sealed import read_sealed, write_sealed
from qrft.errors import ModelError
from qrft.models.find import find_model, fingerprint
from qrft.models.gguf.adapter import export_adapter
from qrft.models.gguf.base import export_base
from qrft.models.gguf.header import check_adapter, check_base, check_vocabulary
from qrft.models.gguf.parity import Parity, check_parity
from qrft.models.gguf.quant import Quant

_JUDGED = "2"  # what a kept comparison has judged: raised when another is needed
VERSION = 2  # of the files: raise it when the same model and settings would give other files


def prepare_base(
    base: str,
    tokenizer: Path | None = None,
    quant: Quant = "f16",
    *,
    adapter: Path | None = None,
    cache_dir: Path | None = None,
    n_threads: int | None = None,
) -> Path:
    """Return the GGUF file of a base model: of a folder, a hub name or a built-in name, converted and quantised once;
    a .gguf is used as it is.

    `tokenizer`: for a .gguf, the Hugging Face folder whose tokenizer makes its token ids; with a config.json in it the
    whole model is compared. `adapter`: a peft folder to be merged in before quantising, for a base that is not a .gguf.
    `cache_dir`: None for the user's own. `n_threads`: of the quantiser, None for all cores.
    Raises ModelError for what can't be exported, and for a file that does not fit the tokenizer; StoreError for a full
    or read-only disk.
    """
    if is_gguf(base):
        return _ready(Path(base).expanduser(), tokenizer, adapter)
    folder = find_model(base)
    parts = [fingerprint(folder), quant, _adapter_fingerprint(adapter) if adapter else ""]
    out = _place(cache_dir, folder.name, quant, "base", *parts)
    return made_once(out, lambda: export_base(folder, out, quant, adapter, n_threads=n_threads))


def prepare_adapter(adapter: Path, base: str, tokenizer: Path | None = None, cache_dir: Path | None = None) -> Path:
    """Return the GGUF file of a LoRA adapter: of a peft folder, converted once; a .gguf is used as it is.

    `base`, `tokenizer`: as prepare_base takes them; converting a peft folder needs the base's Hugging Face folder.
    Raises ModelError for an adapter that is not for this base or can't be exported exactly (DoRA, trained embeddings).
    """
    folder = _model_folder(base, tokenizer)
    if is_gguf(str(adapter)):
        check_adapter(adapter, folder)
        return adapter
    if folder is None:
        raise ModelError(
            f"{adapter}: converting a peft folder needs the base model's config.json and weights, which {base} does "
            "not hold. Name the base model's folder, or give the adapter as a .gguf."
        )
    parts = [fingerprint(folder), _adapter_fingerprint(adapter)]
    out = _place(cache_dir, adapter.resolve().name, "lora", "adapter", *parts)
    return made_once(out, lambda: export_adapter(adapter, folder, out))


def check_once(
    model_dir: Path,
    base_gguf: Path,
    adapter_dir: Path | None,
    adapter_gguf: Path | None,
    prompts: Sequence[list[int]],
    *,
    again: bool = False,
    cache_dir: Path | None = None,
    n_threads: int | None = None,
) -> Parity:
    """Run check_parity and keep its result, so that these files are not compared again by this build of llama.cpp,
    whatever the prompts. `again` compares them all the same.

    Raises ModelError when llama.cpp and transformers disagree.
    """
    files = [fingerprint(model_dir), fingerprint(base_gguf)]
    files.append(_adapter_fingerprint(adapter_dir) if adapter_dir else "")
    files.append(fingerprint(adapter_gguf) if adapter_gguf else "")
    kept = _place(cache_dir, base_gguf.stem, "parity", "parity", _JUDGED, _engine(), *files).with_suffix(".json")
    known = {} if again else read_sealed(kept)
    if not known:
        result = check_parity(model_dir, base_gguf, adapter_dir, adapter_gguf, list(prompts), n_threads=n_threads)
        if not prompts:  # nothing was compared
            return result
        write_sealed(kept, result)
        return result
    return cast(Parity, known)


def _engine() -> str:
    """Tell one build of llama.cpp from another, such as one for CUDA, without loading it: by its libraries' sizes."""
    package = find_spec("llama_cpp")
    folders = package.submodule_search_locations if package else None
    files = sorted(path for folder in folders or () for path in Path(folder).glob("lib/*"))
    sizes = [f"{path.name} {path.stat().st_size}" for path in files]
    return "\n".join([*sizes, os.environ.get("GGML_BACKEND_PATH", "")])


def base_file(base: Path) -> Path:
    """Return the GGUF file of a step's input `base`: a ready file itself, or the one in an artifact."""
    return base if base.is_file() else base / "base.gguf"


def is_gguf(name: str) -> bool:
    """Return whether the name of a base or an adapter is that of a GGUF file."""
    return name.endswith(".gguf")


def default_cache_dir() -> Path:
    """Return $XDG_CACHE_HOME/qrft/gguf, by default ~/.cache/qrft/gguf."""
    return cache_folder() / "gguf"


def _ready(path: Path, tokenizer: Path | None, adapter: Path | None) -> Path:
    if tokenizer is None:
        raise ModelError(
            f"{path}: a .gguf needs the Hugging Face tokenizer that makes its token ids. Name the tokenizer's folder."
        )
    if adapter is not None:
        raise ModelError(f"{path}: an adapter can't be merged into a .gguf. Name the base model's Hugging Face folder.")
    if (tokenizer / "config.json").is_file():
        check_base(path, tokenizer)
    else:
        check_vocabulary(path, tokenizer)
    return path


def _model_folder(base: str, tokenizer: Path | None) -> Path | None:
    """Return the Hugging Face folder of a base; None when there is only a tokenizer."""
    if not is_gguf(base):
        return find_model(base)
    return tokenizer if tokenizer is not None and (tokenizer / "config.json").is_file() else None


def _place(cache_dir: Path | None, name: str, kind: str, *parts: str) -> Path:
    digest = hashlib.blake2b(json.dumps([VERSION, *parts]).encode(), digest_size=10).hexdigest()
    return (cache_dir or default_cache_dir()) / f"{name}-{kind}-{digest}.gguf"


def _adapter_fingerprint(folder: Path) -> str:
    settings = folder / "adapter_config.json"
    if not settings.is_file():
        inside = folder / "adapter"  # of a training's folder
        guess = f" Did you mean {inside}?" if (inside / settings.name).is_file() else ""
        raise ModelError(
            f"{settings}: not found.{guess} Expected an adapter's folder as peft saves it; check the path."
        )
    return fingerprint(settings) + fingerprint(folder)
