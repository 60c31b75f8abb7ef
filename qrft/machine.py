"""What this machine has: free memory, its processor, its GPUs; and how torch says that memory is out (Linux)."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

# torch.OutOfMemoryError is the caching allocator's alone; cuBLAS, cuDNN and the driver allocate beside it, and say so
# in a RuntimeError or torch.AcceleratorError. The last is what the processor's allocator says.
_OUT_OF_MEMORY = ("out of memory", "STATUS_ALLOC_FAILED", "can't allocate memory")


def free_memory() -> int:
    """Return how many bytes are free on this machine, or in its control group where that allows less."""
    return min(_machine_memory(), _group_memory())


def has_bfloat16_unit() -> bool:
    """Return whether the processor computes in bfloat16 by instructions of its own (AMX, AVX512-BF16)."""
    return not {"amx_bf16", "avx512_bf16"}.isdisjoint(_of_processor("flags").split())


def processor() -> str:
    """Return the processor's name and what it can do, by which one is told from another."""
    return f"{_of_processor('model name')} {_of_processor('flags')}"


def _of_processor(key: str) -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(rf"^{key}\s*:(.*)$", info.read_text() if info.exists() else "", re.MULTILINE)
    return found[1].strip() if found else ""


def nvidia_smi(*fields: str, timeout: float | None = None) -> list[list[str]]:
    """Return what NVIDIA's driver says of each GPU: a text for each field of `nvidia-smi --help-query-gpu`.

    Returns nothing without that program, and without a GPU that it sees. Sizes are in MiB. Raises
    subprocess.TimeoutExpired.
    """
    query = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=False, timeout=timeout)
    except OSError:
        return []
    rows = [[value.strip() for value in line.split(", ")] for line in done.stdout.splitlines()]
    return [row for row in rows if len(row) == len(fields)]  # it prints its failures there too


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether an error of torch's says that a GPU, or this machine, has no memory left."""
    import torch

    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)


def let_gpu_memory_grow() -> None:
    """Have torch take GPU memory in segments that grow, unless the user has set its allocator.

    Where rows differ in length, freed blocks seldom have the size that is asked for next; segments that grow leave no
    such gaps. torch reads the variable when CUDA starts in this process.
    """
    if not any(f"PYTORCH_{kind}ALLOC_CONF" in os.environ for kind in ("", "CUDA_", "HIP_")):
        os.environ["PYTORCH_ALLOC_CONF"] = "expandable_segments:True"


def in_gib(size: float) -> str:
    return f"{size / 2**30:.2f} GiB"


def _machine_memory() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


def _group_memory() -> int:
    """Return what the control group, version 2 or 1, still allows; cached files count as free: they can be dropped."""
    for folder, limit, used, files in (
        ("/sys/fs/cgroup", "memory.max", "memory.current", "file "),
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache "),
    ):
        try:
            allowed = (Path(folder) / limit).read_text().strip()
            if allowed == "max":
                break
            taken = int((Path(folder) / used).read_text())
            lines = (Path(folder) / "memory.stat").read_text().splitlines()
        except OSError:
            continue
        cached = next((int(line.split()[1]) for line in lines if line.startswith(files)), 0)
        return max(0, int(allowed) - taken + cached)
    return 2**63
