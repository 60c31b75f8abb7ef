"""The settings of a run's report: the run's name and recipe, and what each of its inputs is."""

from __future__ import annotations

from typing import Any

from qrft.config.section import Count, Section
from qrft.config.sections import Paper
from qrft.grading.rules import KeepOrDrop, Rules, Sound


class Input(Section):
    """A step of the run that is an input: its name there and in the report's tables, and what it is for.

    `kind`, `phase` and `part` are those of qrft.pipeline.graph.Step; `model` is that of another model of the same run,
    and "" for this one's own steps and for what all share.
    """

    name: str
    kind: str
    phase: str = ""
    part: str = ""
    model: str = ""


class Pooled(Section):
    """Samples that RFT chose among: what their rows are called ("" where there is one source alone), and the inputs."""

    name: str
    samples: str
    graded: str


class Settings(Section):
    """`recipe` is shown as it is; `paper` holds the figures to compare with.

    The rest is how the run graded and chose: by `rules`, and the answers to the test problems by `test_rules`;
    `first_samples` of each problem and source were looked at (None: all); `pool` is what RFT chose among,
    and empty without RFT.
    """

    name: str
    recipe: dict[str, Any]
    steps: tuple[Input, ...]
    paper: Paper = Paper()
    rules: Rules = Rules()
    test_rules: Rules = Rules()
    judges_expressions: bool = False
    dedup: bool = True
    cut_off: KeepOrDrop = "drop"
    sound: Sound = "off"
    first_samples: Count | None = None
    pool: tuple[Pooled, ...] = ()

    @property
    def runtime_keys(self) -> frozenset[str]:
        """A setting that is off changes nothing of the report."""
        return frozenset({"sound"}) if self.sound == "off" else frozenset()
