"""What every estimate of a plan starts from: the amounts, the device, and what was measured."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from qrft.machine import in_gib
from qrft.planning.amounts import Amounts
from qrft.planning.devices import Device
from qrft.training import memory
from qrft.training.memory import Parts

# A time is assumed to lie between the estimate divided by its band and the estimate times its band.
BAND, CALIBRATED_BAND = 2.0, 1.25


@dataclass(frozen=True)
class Speed:
    """What --calibrate measured: factors of the estimated times, and bytes above the estimated memory."""

    train: float = 1.0
    decode: float = 1.0
    train_bytes: int = 0
    is_measured: bool = False

    @property
    def band(self) -> float:
        return CALIBRATED_BAND if self.is_measured else BAND


@dataclass(frozen=True)
class Basis:
    """What an estimate is made from, beside the step."""

    amounts: Amounts
    device: Device
    speed: Speed = Speed()

    @property
    def cores(self) -> int:
        """The cores of this machine that may be used."""
        return len(os.sched_getaffinity(0))

    @property
    def arithmetic(self) -> dict[str, Any]:
        """Return the arithmetic and the cores of the device, as qrft.training.memory takes them."""
        device = self.device
        return {"on_gpu": device.is_gpu, "has_bfloat16": device.has_bfloat16, "cores": self.cores}

    def may_be_too_large(self, parts: Parts, *, in_ram: bool = False) -> bool:
        return sum(parts.values()) + memory.error(parts) > self.device.available(in_ram)

    def sizes(self, parts: Parts, *, in_ram: bool = False) -> str:
        """Say how much memory is needed, and how much there is."""
        needed = f"{in_gib(sum(parts.values()))} needed, give or take {in_gib(memory.error(parts))}"
        kind = " of main memory" if in_ram and self.device.is_gpu else ""
        return f"{needed}, {in_gib(self.device.available(in_ram))}{kind} available"


@dataclass(frozen=True)
class Estimate:
    """What a step needs. tokens: trained on, or sampled. disk: bytes that stay. seconds: None where the speed is not
    known."""

    tokens: int = 0
    parts: Parts = field(default_factory=dict)
    in_ram: bool = False  # and not in the GPU's memory
    disk: int = 0
    seconds: float | None = 0.0
    notes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
