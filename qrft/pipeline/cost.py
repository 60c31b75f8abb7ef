"""What a stage cost: floating-point operations by the paper's formulas, processor and GPU time, tokens,
and energy where the machine has meters that may be read. An unknown cost is left out, never guessed."""

from __future__ import annotations

import ctypes
import resource
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from qrft.config.section import Section
from qrft.config.training import Training
from qrft.errors import ModelError
from qrft.models.any_shape import read_shape
from qrft.models.flops import forward_flops, training_flops

RAPL = Path("/sys/class/powercap")
Facts = dict[str, float]  # cpu_seconds, gpu_seconds, num_tokens, flops, cpu_joules, gpu_joules: those that are known

READ_EVERY = 60.0  # seconds; RAPL's counters begin again at 0 after some ten minutes of full load

# ------------------------------------------------------------------------------------------------------- FLOPs ----


def of_stage(stage: str, settings: Section, inputs: Mapping[str, Path], report: Mapping[str, Any]) -> Facts:
    """Return the tokens and FLOPs of a training or a sampling, from its settings and report; {} for other stages.

    And the GPU seconds of a sampler in a process of its own, which Meter can't see.
    """
    needed = {"train": {"num_tokens", "num_trained"}, "sample": {"num_tokens", "num_samples", "num_problems"}}
    if stage not in needed or not needed[stage] <= report.keys() or "model" not in inputs:
        return {}
    num_tokens = report["num_tokens"]
    known = {name: report[name] for name in ("num_tokens", "gpu_seconds") if name in report}
    try:
        shape = read_shape(inputs["model"])
    except ModelError:  # an architecture whose parameters qrft can't count
        return known
    if isinstance(settings, Training):
        adapter = None if settings.adapter == "none" else report["num_trained"]
        return {**known, "flops": training_flops(shape, num_tokens, adapter)}
    num_samples, num_prompts = max(1, report["num_samples"]), max(1, report["num_problems"])
    num_prompt_tokens = report.get("num_prompt_tokens", 0)  # a prompt is decoded once for all its samples
    n_ctx = num_prompt_tokens / num_prompts + num_tokens / num_samples
    return {**known, "flops": forward_flops(shape, num_prompt_tokens + num_tokens, n_ctx)}


def of_first(facts: Facts, report: Mapping[str, Any], num_tokens: float) -> Facts:
    """Return what a sampling would have cost for only the samples that a run looked at, with num_tokens in all.

    The prompts were decoded once and count whole. FLOPs, time and energy are shared out by the tokens decoded, which
    assumes samples of about the same length.
    """
    num_prompt_tokens = report.get("num_prompt_tokens", 0)
    share = (num_prompt_tokens + num_tokens) / max(1, num_prompt_tokens + report["num_tokens"])
    return {**{name: share * value for name, value in facts.items()}, "num_tokens": num_tokens}


def total(costs: Mapping[str, Facts]) -> Facts:
    """Add up what is known of each step."""
    names = list(dict.fromkeys(name for cost in costs.values() for name in cost))
    return {name: sum(cost.get(name, 0) for cost in costs.values()) for name in names}


# ----------------------------------------------------------------------------------------------- time and energy ----


class Meter:
    """Measure what runs inside it: `with Meter() as meter: ...`, then `meter.facts`.

    cpu_seconds: this process and its children that ended. gpu_seconds: the whole time, if torch had memory on a GPU.
    cpu_joules, gpu_joules: what the meters of the whole machine showed, which includes other work on it.
    """

    def __init__(self, rapl: Path = RAPL) -> None:
        self.seconds = 0.0
        self.facts: Facts = {}
        self._energy = [_Counted("cpu_joules", *package) for package in rapl_packages(rapl)]
        if gpu_joules() is not None:
            self._energy.append(_Counted("gpu_joules", gpu_joules, None))
        self._ended = threading.Event()
        self._reader = threading.Thread(target=self._read_energy, daemon=True)

    def __enter__(self) -> Meter:
        self._start, self._cpu, self._gpu = time.monotonic(), _cpu_seconds(), _gpu_memory(reset=True)
        self._reader.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.seconds = time.monotonic() - self._start
        self._ended.set()
        self._reader.join()
        self.facts["cpu_seconds"] = _cpu_seconds() - self._cpu
        if _gpu_memory() > self._gpu:
            self.facts["gpu_seconds"] = self.seconds
        for name in {counted.name for counted in self._energy}:
            joules = [counted.joules for counted in self._energy if counted.name == name]
            if None not in joules:
                self.facts[name] = sum(filter(None, joules))

    def _read_energy(self) -> None:
        while self._energy and not self._ended.wait(READ_EVERY):
            for counted in self._energy:
                counted.read()
        for counted in self._energy:
            counted.read()


class _Counted:
    """Add up the increase of a counter. `span`: the value at which it begins again at 0."""

    def __init__(self, name: str, counter: Callable[[], float | None], span: float | None) -> None:
        self.name, self._counter, self._span = name, counter, span
        self._last = counter()
        self.joules: float | None = 0.0

    def read(self) -> None:
        now = self._counter()
        if now is None or self._last is None or self.joules is None or (now < self._last and self._span is None):
            self.joules = None  # a meter that failed in between gives no sum
            return
        self.joules += now - self._last + (self._span or 0.0 if now < self._last else 0.0)
        self._last = now


def _cpu_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _gpu_memory(reset: bool = False) -> int:
    """Return the most bytes that torch held on the GPU since the last reset; 0 where torch uses no GPU."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return 0
    if reset:
        torch.cuda.reset_peak_memory_stats()
    return int(torch.cuda.max_memory_allocated())


def rapl_packages(root: Path) -> list[tuple[Callable[[], float | None], float]]:
    """Return for each processor package (Linux, Intel and AMD) a reader of its joules, and where they begin again at 0.

    The list is empty when one of them can't be read: on most systems only root may.
    """
    readers = []
    for folder in sorted(root.glob("intel-rapl:*")):
        try:
            if (folder / "name").read_text().startswith("package"):
                span = int((folder / "max_energy_range_uj").read_text()) / 1e6
                int((folder / "energy_uj").read_text())
                readers.append((_reader(folder / "energy_uj"), span))
        except (OSError, ValueError):
            return []
    return readers


def _reader(path: Path) -> Callable[[], float | None]:
    def read() -> float | None:
        try:
            return int(path.read_text()) / 1e6
        except (OSError, ValueError):
            return None

    return read


def gpu_joules() -> float | None:
    """Return the joules of all GPUs since their driver was loaded, from NVML (Volta and later); None without them."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    count, joules = ctypes.c_uint(), 0.0
    if nvml.nvmlInit_v2() or nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) or not count.value:
        return None
    for index in range(count.value):
        device, millijoules = ctypes.c_void_p(), ctypes.c_ulonglong()
        if nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device)):
            return None
        if nvml.nvmlDeviceGetTotalEnergyConsumption(device, ctypes.byref(millijoules)):
            return None
        joules += millijoules.value / 1000
    return joules
