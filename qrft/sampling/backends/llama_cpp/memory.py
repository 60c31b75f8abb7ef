"""What memory there is, and how much of a model and its context it holds. Linux, and the GPUs that llama.cpp sees."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as lib

from qrft.errors import SamplerError
from qrft.machine import free_memory, in_gib
from qrft.sampling.api import EngineOptions
from qrft.sampling.backends.llama_cpp.devices import gpus

# ggml_type: bytes of one number; q8_0 keeps 32 numbers in 34 bytes.
_CACHE_BYTES = {"f32": 4.0, "f16": 2.0, "q8_0": 34 / 32}
# Of what is free after loading, the share that the cache may take; the rest is for activations, logits and the others.
_CACHE_SHARE = 0.75


def check_fits(options: EngineOptions) -> None:
    """Refuse files that are larger than the free memory, by a SamplerError, before anything is loaded."""
    files = [Path(name) for name in (options.base_gguf, options.adapter_gguf) if name is not None]
    needed, free = sum(path.stat().st_size for path in files), available()
    if needed > free:
        raise SamplerError(
            f"{options.base_gguf} needs {in_gib(needed)}, with its adapter, and {in_gib(free)} of memory are free "
            f"({_where()}). Use a smaller quantisation, or end what else uses the memory."
        )


def cells_that_fit(engine: Any) -> int:
    """Return how many tokens a context of this model may hold: `n_ctx`, or what the free memory allows."""
    if engine.options.n_ctx is not None:
        return int(engine.options.n_ctx)
    free = available() - (0 if gpus() else lib.llama_model_size(engine.model))
    return max(0, int(_CACHE_SHARE * free / bytes_per_cell(engine)))


def bytes_per_cell(engine: Any) -> float:
    """Return the size of the keys and values of one token in all layers."""
    model = engine.model
    arch = _metadata(model, "general.architecture")
    usual = lib.llama_model_n_embd(model) // lib.llama_model_n_head(model)
    numbers = sum(int(_metadata(model, f"{arch}.attention.{kind}_length") or usual) for kind in ("key", "value"))
    heads = lib.llama_model_n_layer(model) * lib.llama_model_n_head_kv(model)
    return float(heads * numbers * _CACHE_BYTES[engine.options.cache_type])


def in_words(engine: Any) -> str:
    """Say why `cells_that_fit` returns what it returns."""
    if engine.options.n_ctx is not None:
        return f"n_ctx {engine.options.n_ctx}"
    return f"{in_gib(available())} are free, a token takes {bytes_per_cell(engine) / 1024:.0f} KiB"


def available() -> int:
    """Return the free bytes: of all GPUs together where there are any, else of this machine or control group."""
    found = gpus()
    return sum(gpu.free for gpu in found) if found else free_memory()


def _metadata(model: Any, key: str) -> str:
    buffer = ctypes.create_string_buffer(128)
    length = lib.llama_model_meta_val_str(model, key.encode(), buffer, len(buffer))
    return buffer.value.decode() if length >= 0 else ""


def _where() -> str:
    return "on the GPU" if gpus() else "in this machine or control group"
