"""What llama.cpp sees of the machine, asked in a process of its own."""

from __future__ import annotations

import subprocess

from qrft.processes import command, environment


def has_gpu() -> bool:
    """Return whether llama.cpp sees a GPU. A process that looks takes some of its memory for as long as it lives."""
    words = command("qrft.sampling.backends.llama_cpp.devices")
    done = subprocess.run(words, env=environment(), capture_output=True, text=True)
    return bool(done.stdout.strip())  # nothing where it fails: whoever loads a model then says why
