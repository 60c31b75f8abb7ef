"""A finding: what the paper claims, what was measured here, one figure a seed, and whether the two agree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from qrft.evaluation.stats import Estimate, mean, mean_interval

AGREES, DISAGREES, OPEN = "agrees", "does not agree", "can't be told"
NO_SPREAD = 1e-9  # of a share, its points or a slope: below is rounding


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
    bounds: tuple[float, float] = (-math.inf, math.inf)  # what the figure can be; the interval is cut there
    estimate: Estimate | None = None  # of the values; None: their mean

    @property
    def found(self) -> Estimate:
        return self.estimate or Estimate(mean(self.values), *mean_interval(self.values))

    @property
    def reason(self) -> str:
        """Why it can't be told whatever the claim; "" where it can."""
        if len(self.values) > 1 and not self.note and self.found.high - self.found.low < NO_SPREAD:
            return "the seeds do not differ at all, which tells nothing about other seeds"
        return self.note

    @property
    def verdict(self) -> str:
        _, low, high = self.found
        if self.reason or len(self.values) < 2:
            return OPEN
        if low > self.above and high < self.below:
            return AGREES
        return DISAGREES if high < self.above or low > self.below else OPEN

    @property
    def sentence(self) -> str:
        """`The paper found X. Here Y (interval): this agrees.`"""
        end = {AGREES: "this agrees", DISAGREES: "this does not agree", OPEN: "whether this agrees can't be told"}
        return f"{self.claim}. Here {self._here()}: {end[self.verdict]}{self.reason and f' ({self.reason})'}."

    def _here(self) -> str:
        if not self.values:
            return f"{self.name} could not be measured, for lack of runs that differ"
        value, low, high = self.found
        said = f"{self.name} is {self._said(value)} {self.unit}".rstrip()
        if len(self.values) < 2:
            return f"{said} with a single seed, so without an interval"
        if high - low < NO_SPREAD:
            return f"{said} with each of {len(self.values)} seeds, so without an interval"
        low, high = max(low, self.bounds[0]), min(high, self.bounds[1])
        return f"{said} (95% interval {self._said(low)} to {self._said(high)}, {len(self.values)} seeds)"

    def _said(self, value: float) -> str:
        return signed(value) if self.is_change else f"{value:.2f}"

    def told(self) -> dict[str, str]:
        return {"verdict": self.verdict, "sentence": self.sentence}


def signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−") if abs(value) < 10 else f"{value:+.1f}".replace("-", "−")
