"""A finding: what the paper claims, what was measured here, one figure a seed, and whether the two agree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from qrft.stats import mean, mean_interval

AGREES, DISAGREES, OPEN = "agrees", "does not agree", "can't be told"


@dataclass(frozen=True)
class Finding:
    """A claim, whose figure should lie between `above` and `below`, and the figure here, one a seed."""

    claim: str  # whose, and what: a sentence without its full stop
    name: str  # what the figure is
    unit: str
    values: Sequence[float]
    above: float = -math.inf
    below: float = math.inf
    is_change: bool = True  # said with its sign
    note: str = ""  # why it can't be told whatever the interval

    @property
    def interval(self) -> tuple[float, float]:
        return mean_interval(self.values)

    @property
    def verdict(self) -> str:
        low, high = self.interval
        if self.note or len(self.values) < 2:
            return OPEN
        if low > self.above and high < self.below:
            return AGREES
        return DISAGREES if high < self.above or low > self.below else OPEN

    @property
    def sentence(self) -> str:
        """`The paper found X. Here Y (interval): this agrees.`"""
        end = {AGREES: "this agrees", DISAGREES: "this does not agree", OPEN: "whether this agrees can't be told"}
        return f"{self.claim}. Here {self._here()}: {end[self.verdict]}{self.note and f' ({self.note})'}."

    def _here(self) -> str:
        if not self.values:
            return f"{self.name} could not be measured, for lack of runs that differ"
        said = f"{self.name} is {self._said(mean(self.values))} {self.unit}".rstrip()
        if len(self.values) < 2:
            return f"{said} with a single seed, so without an interval"
        low, high = self.interval
        return f"{said} (95% interval {self._said(low)} to {self._said(high)}, {len(self.values)} seeds)"

    def _said(self, value: float) -> str:
        return signed(value) if self.is_change else f"{value:.2f}"

    def told(self) -> dict[str, str]:
        return {"verdict": self.verdict, "sentence": self.sentence}


def signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−") if abs(value) < 10 else f"{value:+.1f}".replace("-", "−")
