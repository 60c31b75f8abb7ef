"""On what a figure was measured."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("qrft", "torch", "transformers", "peft", "bitsandbytes", "llama-cpp-python", "numpy", "pyarrow")


def describe() -> dict[str, object]:
    """The processor, cores, memory in GiB, and versions."""
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "?: unknown")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": cpu.partition(":")[2].strip(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory, 1),
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }


def in_words() -> str:
    """One line for the foot of a table."""
    facts = describe()
    packages = ", ".join(f"{name} {facts[name]}" for name in ("python", *PACKAGES))
    return f"{facts['cores']} cores of {facts['cpu']}, {facts['memory_gib']} GiB; {packages}."
