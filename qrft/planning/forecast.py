"""Each step of a plan with its tokens, memory by part, disk and time; sums, energy and cost. Nothing is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from qrft.pipeline.graph import Step
from qrft.pipeline.store import Store
from qrft.planning import sampling, small_stages, training
from qrft.planning.amounts import Amounts, assumptions
from qrft.planning.basis import Basis, Estimate, Speed
from qrft.planning.devices import Device
from qrft.training import memory

JOULE_PER_KWH = 3.6e6

ESTIMATES: dict[str, Callable[[Step, Basis], Estimate]] = {
    "problems": small_stages.problems,
    "curate": small_stages.curate,
    "pairs": small_stages.pairs,
    "train": training.estimate,
    "export": small_stages.export_model,
    "sample": sampling.estimate,
    "outside": small_stages.outside,
    "vote": small_stages.problems,
    "grade": small_stages.grade,
    "evaluate": small_stages.next_to_nothing,
    "report": small_stages.report,
    "sweep": small_stages.next_to_nothing,
}


@dataclass(frozen=True)
class Row(Estimate):
    """A step, named by its path in the run folder, and what it needs; a finished one has only tokens and disk."""

    name: str = ""
    stage: str = ""
    reads: str = ""
    is_there: bool = False

    @property
    def memory(self) -> int:
        return sum(self.parts.values())

    @property
    def error(self) -> int:
        return memory.error(self.parts)

    def as_json(self) -> dict[str, Any]:
        return {
            "step": self.name,
            "stage": self.stage,
            "is_there": self.is_there,
            "tokens": self.tokens,
            "memory_bytes": self.memory,
            "memory_error_bytes": self.error,
            "memory_by_part": self.parts,
            "memory_in_ram": self.in_ram,
            "disk_bytes": self.disk,
            "seconds": self.seconds,
            "notes": list(self.notes),
            "faults": list(self.faults),
        }


@dataclass(frozen=True)
class Forecast:
    """What all steps of a plan need. price: per kWh, or per hour with is_hourly."""

    rows: tuple[Row, ...]
    device: Device
    speed: Speed
    price: float | None = None
    is_hourly: bool = False
    assumptions: tuple[str, ...] = ()

    @property
    def todo(self) -> list[Row]:
        return [row for row in self.rows if not row.is_there]

    @property
    def seconds(self) -> float | None:
        times = [row.seconds for row in self.todo]
        return None if None in times else sum(time for time in times if time)

    @property
    def disk(self) -> int:
        return sum(row.disk for row in self.todo)

    @property
    def kwh(self) -> float | None:
        """Return the energy at full board power, an upper bound for the GPU, without the rest of the machine."""
        seconds, watts = self.seconds, self.device.watts
        return None if seconds is None or watts is None else seconds * watts / JOULE_PER_KWH

    @property
    def cost(self) -> float | None:
        if self.price is None or self.seconds is None:
            return None
        if self.is_hourly:
            return self.price * self.seconds / 3600
        return None if self.kwh is None else self.price * self.kwh

    def as_json(self) -> dict[str, Any]:
        device = {"name": self.device.name, "memory_bytes": self.device.memory, "is_gpu": self.device.is_gpu}
        device |= {"ram_bytes": self.device.ram} if self.device.is_gpu else {}
        return {
            "steps": [row.as_json() for row in self.rows],
            "device": {**device, "watts": self.device.watts},
            "is_calibrated": self.speed.is_measured,
            "seconds": self.seconds,
            "seconds_factor_either_way": self.speed.band,
            "disk_bytes": self.disk,
            "kwh": self.kwh,
            "cost": self.cost,
            "assumptions": list(self.assumptions),
        }


def forecast(
    steps: Iterable[Step],
    store: Store,
    device: Device,
    speed: Speed | None = None,
    *,
    amounts: Amounts | None = None,
    **price: Any,
) -> Forecast:
    """Forecast the steps of a plan, each after what it reads; `price` and `is_hourly` as in Forecast.

    amounts: those of an earlier forecast, which need not be counted again. Raises LookupError for a step whose stage
    has no estimate.
    """
    basis = Basis(amounts or Amounts(store), device, speed or Speed())
    steps = list(steps)
    rows = tuple(row_of(step, basis) for step in steps)
    todo = (step for step, row in zip(steps, rows, strict=True) if not row.is_there)
    return Forecast(rows, device, basis.speed, **price, assumptions=assumptions(todo))


def row_of(step: Step, basis: Basis) -> Row:
    reads = ", ".join(source.path if isinstance(source, Step) else source.path.name for source in step.inputs.values())
    is_there = basis.amounts.is_there(step)
    needs = finished(step, basis) if is_there else estimate(step, basis)
    return Row(**vars(needs), name=step.path, stage=step.stage, reads=reads, is_there=is_there)


def finished(step: Step, basis: Basis) -> Estimate:
    folder = basis.amounts.store.path(step.stage, step.digest)
    disk = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return Estimate(tokens=int(basis.amounts.report(step).get("num_tokens") or 0), disk=disk)


def estimate(step: Step, basis: Basis) -> Estimate:
    if step.stage not in ESTIMATES:
        raise LookupError(
            f"{step.path}: the stage {step.stage!r} has no estimate in qrft.planning.forecast.ESTIMATES. Add one; "
            f"there are {', '.join(ESTIMATES)}."
        )
    return ESTIMATES[step.stage](step, basis)
