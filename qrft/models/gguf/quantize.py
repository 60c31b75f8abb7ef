"""Write a GGUF file in fewer bits with llama.cpp's own quantiser.

It runs in a process of its own, `python -m qrft.models.gguf.quantize SOURCE OUT QUANT THREADS`: llama.cpp aborts where
Python would raise.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from qrft import processes
from qrft.data.disk import whole_file
from qrft.errors import ModelError
from qrft.models.gguf.quant import Quant

FTYPES = {"q8_0": 7, "q4_k_m": 15}  # enum llama_ftype
_LOG_LINES = 15


def quantize(source: Path, out: Path, quant: Quant, n_threads: int | None = None) -> None:
    """Write the f32 or f16 GGUF `source` as `quant`, one of FTYPES, to `out`, which appears when whole.

    Matrices whose rows don't divide into the blocks of `quant` (256 values for q4_k_m, 32 for q8_0) get the nearest
    larger type that they fit; vectors stay f32. Raises ModelError with llama.cpp's last log lines when it fails.
    """
    with whole_file(out) as partial, tempfile.TemporaryFile() as log:
        words = [source.absolute(), partial.absolute(), quant, n_threads or len(os.sched_getaffinity(0))]
        code = subprocess.run(
            [*processes.command("qrft.models.gguf.quantize"), *map(str, words)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=processes.environment(),
        ).returncode
        if code != 0:
            log.seek(0)
            raise ModelError(_failure(source, quant, code, log.read()))


def _failure(source: Path, quant: Quant, code: int, log: bytes) -> str:
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else "failed"
    lines = "\n".join(log.decode("utf-8", "replace").splitlines()[-_LOG_LINES:])
    return (
        f"{source}: llama.cpp's quantiser to {quant} {how}. If memory or disk ran out, make room and run the same "
        f"command again; otherwise choose gguf.quant f16.\nIts last log lines:\n{lines}"
    )


def main() -> None:
    """Run as the process: exit with 0 when the file is whole."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C, and ends this process
    processes.end_with_parent()
    source, out, quant, n_threads = sys.argv[1:]

    import llama_cpp.llama_cpp as lib

    from qrft.sampling.backends.llama_cpp import engine as llama_cpp

    llama_cpp.set_log()
    params = lib.llama_model_quantize_default_params()
    params.ftype, params.nthread = FTYPES[quant], int(n_threads)
    status = lib.llama_model_quantize(os.fsencode(source), os.fsencode(out), ctypes.byref(params))
    sys.stderr.flush()
    os._exit(int(status != 0))  # llama.cpp's destructors may call a log callback that no longer exists


if __name__ == "__main__":
    main()
