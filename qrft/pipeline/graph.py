"""What a run consists of: steps, each a stage with its settings and what it reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from qrft.config.section import Section
from qrft.models.find import fingerprint
from qrft.pipeline import store
from qrft.pipeline.stages import (
    curate,
    evaluate,
    export,
    grade,
    outside,
    pairs,
    problems,
    report,
    sample,
    sweep,
    train,
    vote,
)

STAGES: dict[str, ModuleType] = {
    "problems": problems,
    "curate": curate,
    "pairs": pairs,
    "train": train,
    "export": export,
    "sample": sample,
    "outside": outside,
    "vote": vote,
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
        store.verify_around(self.path)  # it may be another run's
        return fingerprint(self.path)


@dataclass(frozen=True)
class Step:
    """One stage with its settings and what it reads; its digest names its artifact in the store.

    Its purpose, which does not affect the artifact: `kind` is what it makes, such as training, gguf or samples;
    `phase` where in RFT (base, sft, round-1, rft, control; "" where there is none); `part` which problems, or which
    answers to the test problems; `model` whose it is ("" where the run has one, or all share it); `variant` the run of
    a sweep.
    """

    stage: str
    settings: Section
    inputs: Mapping[str, Step | Source]
    kind: str
    phase: str = ""
    part: str = ""
    model: str = ""
    variant: str = ""

    @property
    def name(self) -> str:
        """Return its name in a run of one model, such as problems/test or sft/test-samples."""
        if self.kind == "problems":
            return f"problems/{self.part}"
        return joined(self.phase, "-".join(filter(None, [self.part, self.kind])))

    @property
    def path(self) -> str:
        """Return its place in the run folder."""
        return joined(self.variant, self.model, self.name)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Return the settings that decide the artifact, JSON-ready."""
        return self.settings.identity()

    @cached_property
    def digest(self) -> str:
        inputs = {name: source.digest for name, source in self.inputs.items()}
        return store.digest(self.stage, STAGES[self.stage].VERSION, self.identity, inputs)


@dataclass
class Plan:
    """The steps of one run, each after what it reads."""

    variant: str = ""
    steps: list[Step] = field(default_factory=list)

    def add(
        self,
        stage: str,
        settings: Section,
        inputs: Mapping[str, Step | Source],
        *,
        kind: str,
        phase: str = "",
        part: str = "",
        model: str = "",
    ) -> Step:
        """Add a step and return it, to be an input of later ones."""
        self.steps.append(Step(stage, settings, inputs, kind, phase, part, model, self.variant))
        return self.steps[-1]


def joined(*folders: str) -> str:
    return "/".join(filter(None, folders))


def beneath(step: Step) -> set[str]:
    """Return the digests of a step and of all that it stands on."""
    known, above = {step.digest}, [step]
    while above:
        for source in above.pop().inputs.values():
            if isinstance(source, Step) and source.digest not in known:
                known.add(source.digest)
                above.append(source)
    return known
