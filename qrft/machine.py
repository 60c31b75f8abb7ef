"""What memory this machine has to give. Linux."""

from __future__ import annotations

import os
from pathlib import Path


def free_memory() -> int:
    """Bytes that are free in this machine, or in the control group where that allows less."""
    return min(_machine_memory(), _group_memory())


def in_gib(size: float) -> str:
    return f"{size / 2**30:.2f} GiB"


def _machine_memory() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


def _group_memory() -> int:
    """What the control group, version 2 or 1, still allows; files in memory count as free, as they can be dropped."""
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
