"""What a run consists of: steps, each a stage with its settings and what it reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from qrft.models.find import fingerprint
from qrft.pipeline import store
from qrft.pipeline.stages import curate, evaluate, export, grade, problems, report, sample, sweep, train

STAGES: dict[str, ModuleType] = {
    "problems": problems,
    "curate": curate,
    "train": train,
    "export": export,
    "sample": sample,
    "grade": grade,
    "evaluate": evaluate,
    "report": report,
    "sweep": sweep,
}


@dataclass(frozen=True)
class Source:
    """What comes from outside: a person's file, or a model's folder."""

    path: Path

    @cached_property
    def digest(self) -> str:
        return fingerprint(self.path)


@dataclass(frozen=True)
class Step:
    """One stage with its settings and what it reads; its digest names its artifact in the store."""

    name: str  # its place in the run folder
    stage: str
    config: Mapping[str, Any]
    inputs: Mapping[str, Step | Source]

    @cached_property
    def digest(self) -> str:
        inputs = {name: source.digest for name, source in self.inputs.items()}
        return store.digest(self.stage, STAGES[self.stage].VERSION, self.config, inputs)


def beneath(step: Step) -> set[str]:
    """The digests of a step and of all that it stands on."""
    found, above = {step.digest}, [step]
    while above:
        for source in above.pop().inputs.values():
            if isinstance(source, Step) and source.digest not in found:
                found.add(source.digest)
                above.append(source)
    return found
