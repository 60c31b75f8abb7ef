"""The devices that llama.cpp sees."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import llama_cpp.llama_cpp as lib

from qrft.errors import SamplerError
from qrft.machine import in_gib

_GPU, _INTEGRATED_GPU = 1, 2  # of enum ggml_backend_dev_type
PLUGIN = "GGML_BACKEND_PATH"


@dataclass(frozen=True)
class Gpu:
    """A GPU's name and its memory in bytes: what is free now, and all of it."""

    name: str
    free: int
    total: int


def load_plugin() -> None:
    """Load the backend, such as one for CUDA, that the environment names as llama.cpp's own programs have it named.

    Raises SamplerError when llama.cpp can't load it.
    """
    path = os.environ.get(PLUGIN)
    if path and not _ggml().ggml_backend_load(os.fsencode(path)):
        raise SamplerError(
            f"{PLUGIN} names {path}, which llama.cpp can't load as a backend. Unset it, or build the backend from the "
            "same release of llama.cpp."
        )


def gpus() -> list[Gpu]:
    """Return the GPUs over which llama.cpp spreads a model's layers; one that shares main memory where no other is."""
    ggml = _ggml()
    devices = [ctypes.c_void_p(ggml.ggml_backend_dev_get(index)) for index in range(ggml.ggml_backend_dev_count())]
    kinds = [ggml.ggml_backend_dev_type(device) for device in devices]
    wanted = _GPU if _GPU in kinds else _INTEGRATED_GPU
    return [_gpu(ggml, device) for device, kind in zip(devices, kinds, strict=True) if kind == wanted]


def in_words() -> str:
    """Return the GPUs with their memory; nothing where there are none."""
    return ", ".join(f"{gpu.name} ({in_gib(gpu.total)})" for gpu in gpus())


def build() -> str:
    """Return the release of llama.cpp that runs, and the instructions that it was built for."""
    system: bytes = lib.llama_print_system_info()
    return f"llama-cpp-python {version('llama-cpp-python')}, {system.decode('utf-8', 'replace').strip()}"


def _gpu(ggml: Any, device: ctypes.c_void_p) -> Gpu:
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    ggml.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
    name = ggml.ggml_backend_dev_description(device).decode("utf-8", "replace")
    return Gpu(name, free.value, total.value)


def _ggml() -> Any:
    """Return the libggml that libllama itself uses: the package holds copies of it under other names."""
    ggml = lib._lib
    ggml.ggml_backend_load.restype = ctypes.c_void_p
    ggml.ggml_backend_dev_count.restype = ctypes.c_size_t
    ggml.ggml_backend_dev_get.restype = ctypes.c_void_p
    ggml.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    ggml.ggml_backend_dev_description.restype = ctypes.c_char_p
    return ggml


if __name__ == "__main__":
    lib.llama_backend_init()
    load_plugin()
    print(in_words())
