"""Processes that run a module of ours, from whatever folder they are started."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

_PACKAGE = __name__.rpartition(".")[0]
_ROOT = Path(__file__).parents[4]


def command(module: str) -> list[str]:
    """Return what starts a module of this package. -P: modules of the current folder stay out."""
    return [sys.executable, "-P", "-m", f"{_PACKAGE}.{module}"]


def environment(changes: Mapping[str, str]) -> dict[str, str]:
    """Return this process's variables with these changes, and qrft where Python finds it."""
    path = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, **changes, "PYTHONPATH": path}


def has_gpu() -> bool:
    """Return whether llama.cpp sees a GPU. A process that looks takes some of its memory for as long as it lives."""
    done = subprocess.run(command("devices"), env=environment({}), capture_output=True, text=True)
    return bool(done.stdout.strip())  # nothing where it fails: whoever loads a model then says why
