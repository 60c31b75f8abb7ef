"""On what a figure was measured."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from qrft.machine import nvidia_smi

PACKAGES = ("qrft", "torch", "transformers", "peft", "bitsandbytes", "llama-cpp-python", "numpy", "pyarrow")


def describe() -> dict[str, object]:
    """The processor, cores, memory in GiB, the GPU with its memory and driver, and versions."""
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "?: unknown")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": cpu.partition(":")[2].strip(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory, 1),
        "gpu": gpu(),
        "python": platform.python_version(),
        **{name: installed(name) for name in PACKAGES},
    }


def gpu() -> str:
    """The first GPU as its driver describes it; "none" without one."""
    gpus = nvidia_smi("name", "memory.total", "driver_version")
    return "{}, {} MiB, {}".format(*gpus[0]) if gpus else "none"


def installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def in_words() -> str:
    """One line for the foot of a table."""
    facts = describe()
    packages = ", ".join(f"{name} {facts[name]}" for name in ("python", *PACKAGES))
    gpus = "" if facts["gpu"] == "none" else f"{facts['gpu']}; "
    return f"{gpus}{facts['cores']} cores of {facts['cpu']}, {facts['memory_gib']} GiB; {packages}."
