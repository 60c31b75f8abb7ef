"""The device that computes: a GPU by its name or its memory, this machine's GPU, or its processor."""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass, replace

from qrft.errors import UsageError
from qrft.machine import free_memory, has_bfloat16_unit, nvidia_smi
from qrft.training.memory import GIB


@dataclass(frozen=True)
class Device:
    """What computes. memory: usable bytes. ram: those of main memory beside a GPU's. flops: per second, a dense
    multiply-add counting as two. bandwidth: bytes per second. None: unknown. is_gpu: if false, it is this machine's
    processor, and memory is main memory. has_bfloat16: it computes in bfloat16 by itself.
    """

    name: str
    memory: float
    flops: float | None = None
    bandwidth: float | None = None
    watts: float | None = None
    is_gpu: bool = True
    has_bfloat16: bool = True
    ram: float = math.inf

    def available(self, in_ram: bool) -> float:
        """Return the bytes that a step may use, in main memory or where the device computes."""
        return self.ram if in_ram and self.is_gpu else self.memory


def _gpu(name: str, gib: float, tflops: float, gigabytes: float, watts: float, has_bfloat16: bool = True) -> Device:
    return Device(name, gib * GIB, tflops * 1e12, gigabytes * 1e9, watts, True, has_bfloat16)


# Memory as the driver reports it (GiB), dense bfloat16 with float32 sums (TFLOP/s), memory bandwidth (GB/s), board
# power (W). From NVIDIA's white papers on GA102, Ada (AD102) and RTX Blackwell, and the data sheets of the others.
# The T4 has no bfloat16: qrft computes in float32 on it.
GPUS = [
    _gpu("RTX 3060", 12, 25, 360, 170),
    _gpu("RTX 3090", 24, 71, 936, 350),
    _gpu("RTX 4060 Ti", 16, 44, 288, 165),
    _gpu("RTX 4070", 12, 58, 504, 200),
    _gpu("RTX 4080", 16, 97, 717, 320),
    _gpu("RTX 4090", 24, 165, 1008, 450),
    _gpu("RTX 5090", 31.8, 209, 1792, 575),
    _gpu("A100 40GB", 39.4, 312, 1555, 400),
    _gpu("A100 80GB", 79.2, 312, 2039, 400),
    _gpu("H100", 79.6, 989, 3350, 700),
    _gpu("H200", 139.8, 989, 4800, 700),
    _gpu("T4", 14.6, 8.1, 320, 70, has_bfloat16=False),
    _gpu("L4", 22.5, 121, 300, 72),
]


def find(name: str | None, ram: float | None = None) -> Device:
    """Find a GPU by a name such as "RTX 3090" or "3090", or by memory such as 24GiB; None takes this machine's.

    ram: bytes of main memory; None takes what is free on this machine. Raises UsageError for a name that fits no GPU of
    the table, or several.
    """
    device = here() if name is None else _named(name)
    ram = free_memory() if ram is None else ram
    return replace(device, ram=ram) if device.is_gpu else replace(device, memory=min(device.memory, ram))


def _named(name: str) -> Device:
    size = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:GiB|GB|G)?", name, re.IGNORECASE)
    if size and 0 < (gib := float(size[1])) <= 1000:  # more is a name, such as 3090
        return Device(f"a GPU of {gib:g} GiB", gib * GIB)
    known = _by_name(name)
    if len(known) != 1:
        kinds = ", ".join(device.name for device in known or GPUS)
        raise UsageError(
            f"--gpu: found {name!r}. Expected {'one of ' if known else ''}{kinds}, or memory such as 24GiB."
        )
    return known[0]


def _by_name(name: str) -> list[Device]:
    words = set(re.findall(r"[a-z]+|\d+", name.lower()))
    alike = [device for device in GPUS if words <= set(re.findall(r"[a-z]+|\d+", device.name.lower()))]
    return [device for device in alike if device.name.lower() == name.lower()] or alike


def here() -> Device:
    """Return this machine's first GPU, with its free memory; without a GPU, its processor."""
    if gpus := nvidia_smi("name", "memory.free"):
        return _described(*gpus[0])
    flops, bandwidth = _processor_speed()
    has_bfloat16 = has_bfloat16_unit()
    return Device("this machine's processor", free_memory(), flops, bandwidth, is_gpu=False, has_bfloat16=has_bfloat16)


def _described(name: str, free_mib: str) -> Device:
    """Describe a GPU by the longest name of the table that is in the driver's, such as NVIDIA GeForce RTX 4060 Ti."""
    words = re.findall(r"[a-z]+|\d+", name.lower())
    known = [d for d in GPUS if set(re.findall(r"[a-z]+|\d+", d.name.lower())) <= {*words, "gb"}]
    best = max(known, key=lambda d: len(d.name), default=Device(name, 0))
    return Device(name, float(free_mib) * 2**20, best.flops, best.bandwidth, best.watts, True, best.has_bfloat16)


def _processor_speed() -> tuple[float, float]:
    """Measure float32 products of matrices, and copies larger than the caches, in some tens of milliseconds."""
    import numpy as np

    square, long = np.ones((768, 768), np.float32), np.ones(2**24, np.float32)
    flops = 2 * 768**3 / min(_seconds(lambda: square @ square) for _ in range(5))
    return flops, 2 * long.nbytes / min(_seconds(long.copy) for _ in range(2))


def _seconds(work: object) -> float:
    start = time.perf_counter()
    work()  # type: ignore[operator]
    return time.perf_counter() - start
