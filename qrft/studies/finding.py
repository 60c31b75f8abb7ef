"""A finding: what the paper claims, what was measured here, and what the two say of each other.

A verdict is read off an interval. The first finding of a study is its primary one, at 95%. The others share 5% by
Holm's procedure (1979): all are held to the level of as many as are left, those that this decides are done, and the
rest is tried again at a lower one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from qrft.studies.measured import Measured

AGREES, DISAGREES, INCONCLUSIVE = "agrees", "does not agree", "inconclusive"
SMALLER, NOTHING = "smaller than the paper's", "equivalent to nothing"
FALSE_VERDICTS = 0.05  # the share of false verdicts that the primary finding may have, and all others together
NO_SPREAD = 1e-9  # a standard error below this, in a share, points or a slope, is rounding


@dataclass(frozen=True)
class Finding:
    """A claim about the sign of a figure, or that it is about 0, and the figure here."""

    claim: str  # who claims what: a sentence without its full stop
    name: str  # what the figure is
    unit: str
    measured: Measured | None  # None where no runs differ in it
    sign: int = 1  # the claim: 1 for above 0, -1 for below, 0 for no more than the margin away from it
    margin: float = 0.0  # what counts as nothing
    paper: tuple[float, float] | None = None  # the least and the largest figure of the paper, in this unit
    note: str = ""  # why it is inconclusive whatever the interval
    caveats: tuple[str, ...] = ()  # sentences on what the comparison does not tell apart
    bounds: tuple[float, float] = (-math.inf, math.inf)  # what the figure can be; the interval is cut there
    confidence: float = 1 - FALSE_VERDICTS

    @property
    def reason(self) -> str:
        """Return why the finding is inconclusive whatever is claimed; "" if it need not be."""
        if self.measured and self.measured.df and not self.note and self.measured.error < NO_SPREAD:
            return f"the {self.measured.units} do not differ at all, so they say nothing about others"
        return self.note

    @property
    def is_open(self) -> bool:
        """Return whether an interval can decide it."""
        return bool(self.measured and self.measured.df and not self.reason)

    @property
    def verdict(self) -> str:
        if not self.is_open:
            return INCONCLUSIVE
        assert self.measured is not None
        low, high = self.measured.interval(self.confidence)
        if self.sign < 0:
            low, high = -high, -low
        if self.sign:
            return self._of_sign(low, high)
        is_beyond = low > self.margin or high < -self.margin
        return AGREES if self._is_nothing(low, high) else DISAGREES if is_beyond else INCONCLUSIVE

    def _of_sign(self, low: float, high: float) -> str:
        """Return the verdict on an interval of how far the figure lies on the side that the claim names."""
        is_smaller = self.paper is not None and high < min(abs(end) for end in self.paper)
        if low > 0:
            return SMALLER if is_smaller else AGREES
        if high < 0:
            return DISAGREES
        return NOTHING if self._is_nothing(low, high) else SMALLER if is_smaller else INCONCLUSIVE

    def _is_nothing(self, low: float, high: float) -> bool:
        return -self.margin < low and high < self.margin

    @property
    def sentence(self) -> str:
        """Return `The paper found X. Here Y (interval): this agrees. The interval does not cover Z.`"""
        ends = {
            AGREES: "agrees",
            DISAGREES: "does not agree",
            INCONCLUSIVE: "is inconclusive",
            SMALLER: f"is smaller than the paper's{', and may be nothing' if self._may_be_nothing else ''}",
            NOTHING: f"is equivalent to nothing, within {self._margin}",
        }
        end = f"this {ends[self.verdict]}{self.reason and f' ({self.reason})'}"
        known = self.measured and self.measured.df
        not_covered = f"The interval does not cover {self.measured.uncovered}" if self.measured and known else ""
        return " ".join(
            f"{part}." for part in (self.claim, f"Here {self._here()}: {end}", not_covered, *self.caveats) if part
        )

    @property
    def _may_be_nothing(self) -> bool:
        low, high = self.measured.interval(self.confidence) if self.measured else (0.0, 0.0)
        return low <= 0 <= high

    @property
    def _margin(self) -> str:
        return f"±{signed(self.margin)[1:]} {self.unit}".rstrip()

    def _here(self) -> str:
        if self.measured is None:
            return f"{self.name} could not be measured, because no runs differ in it"
        said = f"{self.name} is {signed(self.measured.value)} {self.unit}".rstrip()
        if not self.measured.df:
            return f"{said} with {self.measured.units}, too few for an interval"
        if self.measured.error < NO_SPREAD:
            return f"{said} with each of {self.measured.units}, so without an interval"
        low, high = self.measured.interval(self.confidence)
        low, high = max(low, self.bounds[0]), min(high, self.bounds[1])
        level = f"{100 * self.confidence:.4g}%"
        return f"{said} ({level} interval {signed(low)} to {signed(high)}, over {self.measured.units})"

    def told(self) -> dict[str, str]:
        return {"verdict": self.verdict, "sentence": self.sentence}


def judged(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings, each with the confidence that its verdict is held to; the first is the primary one."""
    found = list(findings)
    left = [number for number, finding in enumerate(found) if number and finding.is_open]
    while left:
        for number in left:
            found[number] = replace(found[number], confidence=1 - FALSE_VERDICTS / len(left))
        still = [number for number in left if found[number].verdict == INCONCLUSIVE]
        if len(still) == len(left):
            break
        left = still
    return found


def signed(value: float) -> str:
    """Return a number with its sign and three digits, such as +1.94 or −12.3."""
    return f"{value:+.2f}".replace("-", "−") if abs(value) < 10 else f"{value:+.1f}".replace("-", "−")
