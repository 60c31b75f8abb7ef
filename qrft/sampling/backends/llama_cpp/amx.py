"""Whether llama.cpp's kernels for Intel's AMX may have the weights: they are tried first, in a process of their own.

As GCC 12 builds them, they crash: its intrinsic declares 8 of the 64 bytes of the tile configuration as read, and it
drops most of what is written. As Clang builds them they run, and a 135M Llama in Q8_0 samples 1.7 times as fast
(docs/log.md). Nothing that the library says of itself tells the two apart.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import llama_cpp.llama_cpp as lib
import numpy as np
from numpy.typing import NDArray

from qrft import processes
from qrft.data.disk import cache_folder
from qrft.data.sealed import read_sealed, write_sealed

_TOKENS = 64  # of a batch: two are enough for the crash, and more go through another of the kernels
_SECONDS = 600  # after which a trial counts as failed: as long as a large file may take to be read twice
_FEWEST_ALIKE = 0.99  # the correlation of logits; the kernels round what they multiply to 8 bits, as the others do


def may_have_weights(base_gguf: str) -> bool:
    """Tell whether a model's weights may be laid out for AMX; true where this build does not know it.

    A build is tried once on each file, with a short decode; the answer is kept in $XDG_CACHE_HOME/qrft/amx.json.
    """
    if b"AMX_INT8 = 1" not in lib.llama_print_system_info():
        return True
    path, key = cache_folder() / "amx.json", _key(base_gguf)
    kept = read_sealed(path)
    if key not in kept:
        kept[key] = is_right(base_gguf)
        write_sealed(path, {**read_sealed(path), **kept})
    return bool(kept[key])


def is_right(base_gguf: str) -> bool:
    """Decode with the weights laid out for the processor and without, in a process that may crash, and compare."""
    command = [*processes.command("qrft.sampling.backends.llama_cpp.amx"), base_gguf]
    try:
        done = subprocess.run(command, env=processes.environment(), capture_output=True, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _key(base_gguf: str) -> str:
    """Return what a trial is of: the file by its size, and the libraries by the time of their making."""
    libraries = Path(lib._lib._name).parent
    made = max(file.stat().st_mtime_ns for file in libraries.iterdir())
    return f"{Path(base_gguf).stat().st_size} {made}"


def _logits(base_gguf: str, is_laid_out: bool) -> NDArray[np.float32]:
    """Return the logits (vocabulary,) after some tokens, on one thread."""
    params = lib.llama_model_default_params()
    params.use_extra_bufts, params.n_gpu_layers = is_laid_out, 0
    model = lib.llama_model_load_from_file(os.fsencode(base_gguf), params)
    settings = lib.llama_context_default_params()
    settings.n_ctx, settings.n_batch, settings.n_threads, settings.n_threads_batch = 256, _TOKENS, 1, 1
    context = lib.llama_init_from_model(model, settings)
    num_vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
    tokens = (ctypes.c_int32 * _TOKENS)(*(3 + 7 * i % max(1, num_vocab - 3) for i in range(_TOKENS)))
    for count in (_TOKENS, 2):  # a batch of two crashes where a larger one may not
        if lib.llama_decode(context, lib.llama_batch_get_one(tokens, count)):
            raise SystemExit(1)
    return np.ctypeslib.as_array(lib.llama_get_logits(context), (num_vocab,)).copy()


def main() -> None:
    lib.llama_backend_init()
    plain, laid_out = (_logits(sys.argv[1], is_laid_out) for is_laid_out in (False, True))
    sys.exit(not np.corrcoef(plain, laid_out)[0, 1] >= _FEWEST_ALIKE)  # also where one is not a number


if __name__ == "__main__":
    main()
