"""A finding: what the paper claims, what was measured here with each seed, and whether the two agree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from qrft.evaluation.stats import Estimate, mean, mean_interval

AGREES, DISAGREES, INCONCLUSIVE = "agrees", "does not agree", "inconclusive"
NO_SPREAD = 1e-9  # an interval narrower than this, in a share, points or a slope, is rounding


@dataclass(frozen=True)
class Finding:
    """A claim, whose figure should lie between `above` and `below`, and the figure here, once per seed."""

    claim: str  # who claims what: a sentence without its full stop
    name: str  # what the figure is
    unit: str
    values: Sequence[float]
    above: float = -math.inf
    below: float = math.inf
    is_change: bool = True  # shown with its sign
    note: str = ""  # why it is inconclusive whatever the interval
    bounds: tuple[float, float] = (-math.inf, math.inf)  # what the figure can be; the interval is cut there
    fitted: Estimate | None = None  # an estimate from the values that replaces their mean

    @property
    def estimate(self) -> Estimate:
        return self.fitted or Estimate(mean(self.values), *mean_interval(self.values))

    @property
    def reason(self) -> str:
        """Return why the finding is inconclusive whatever is claimed; "" if it need not be."""
        if len(self.values) > 1 and not self.note and self.estimate.high - self.estimate.low < NO_SPREAD:
            return "the seeds do not differ at all, so they say nothing about other seeds"
        return self.note

    @property
    def verdict(self) -> str:
        _, low, high = self.estimate
        if self.reason or len(self.values) < 2:
            return INCONCLUSIVE
        if low > self.above and high < self.below:
            return AGREES
        return DISAGREES if high < self.above or low > self.below else INCONCLUSIVE

    @property
    def sentence(self) -> str:
        """Return `The paper found X. Here Y (interval): this agrees.`"""
        ends = {AGREES: "this agrees", DISAGREES: "this does not agree", INCONCLUSIVE: "this is inconclusive"}
        return f"{self.claim}. Here {self._here()}: {ends[self.verdict]}{self.reason and f' ({self.reason})'}."

    def _here(self) -> str:
        if not self.values:
            return f"{self.name} could not be measured, because no runs differ in it"
        value, low, high = self.estimate
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
    """Return a number with its sign and three digits, such as +1.94 or −12.3."""
    return f"{value:+.2f}".replace("-", "−") if abs(value) < 10 else f"{value:+.1f}".replace("-", "−")
