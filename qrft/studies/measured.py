"""Figures of a study with their standard errors, by the unit that a claim is about: seeds, question wordings, bases."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from qrft.evaluation.stats import clustered, mean, student_t
from qrft.report.sweep.points import seed

Row = Mapping[str, Any]
Rows = Sequence[Row]
Measure = Callable[[Rows], float | None]  # linear in the accuracies of the rows; None where they do not determine it


@dataclass(frozen=True)
class Measured:
    """A figure, its standard error with its degrees of freedom, what it is over, and what that does not cover."""

    value: float
    error: float
    df: int
    units: str
    uncovered: str

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Return Student's interval; infinite where there is a single unit."""
        half = student_t(self.df, confidence) * self.error if self.df else math.inf
        return self.value - half, self.value + half


class Cell(NamedTuple):
    """A measure of the rows of one seed: of one base and on the problems of one wording, where these are told apart."""

    seed: int
    wording: str
    base: str
    value: float
    weight: float


def over_seeds(rows: Rows, measure: Measure, *, over_each_base: bool = False) -> Measured | None:
    """Return the mean of a measure over the seeds; where the rows tell it by question wording, over these as well.

    A seed's noise is that of training, sampling and, where they vary, of its problems. A wording's is that a model
    often learns the whole of it or not. over_each_base: whether to measure each base's rows alone, and count bases too.
    None where no seed determines the measure.
    """
    groups, has_wordings = by_seed(rows), all(row.get("by_cluster") for row in rows)
    cells = [
        Cell(number, wording, base, value, weight)
        for number, group in enumerate(groups)
        for base, of_base in (_by_base(group) if over_each_base else [("", group)])
        for wording, own, weight in (_by_wording(of_base) if has_wordings else [("", of_base, 1.0)])
        if (value := measure(own)) is not None
    ]
    ways = {"seed": "seed", "base": "base" * over_each_base, "wording": "question wording" * has_wordings}
    uncovered = [
        *(["other training problems"] if not _problems_vary(groups) else []),
        *(["other question wordings"] if not has_wordings else []),
        *(["other bases"] if not over_each_base else []),
    ]
    return _over_cells(cells, {way: noun for way, noun in ways.items() if noun}, listed(uncovered) or "nothing else")


def over_bases(rows: Rows, measure: Measure, num_fitted: int) -> Measured | None:
    """Return a measure of all bases, with its jackknife error: how much it changes where each base is left out in turn.

    rows: those that the measure reads. num_fitted: how many parameters it fits to the bases, which the degrees of
    freedom lack.
    """
    names = dict.fromkeys(row["model"] for row in rows)
    value = measure(rows)
    if value is None:
        return None
    without = [measure([row for row in rows if row["model"] != name]) for name in names]
    known = [one for one in without if one is not None]
    count = len(known)
    spread = sum((one - mean(known)) ** 2 for one in known) * (count - 1) / max(count, 1)
    df = count - num_fitted if len(known) == len(names) else 0
    units, uncovered = _counted(len(names), "base"), "other question wordings or families of bases"
    return Measured(value, math.sqrt(spread), max(df, 0), units, uncovered)


def _over_cells(cells: Sequence[Cell], ways: Mapping[str, str], uncovered: str) -> Measured | None:
    """Return the weighted mean of cells that are clustered in each of these ways, which have a noun each."""
    if not cells:
        return None
    labels = [np.array([getattr(cell, way) for cell in cells]) for way in ways]
    sizes = [len(np.unique(label)) for label in labels]
    units = listed([_counted(size, noun) for size, noun in zip(sizes, ways.values(), strict=True)], "and")
    weights = np.array([cell.weight for cell in cells], np.float64)
    found = clustered(np.array([cell.value for cell in cells]), *labels, weights=weights)
    df = min(sizes) - 1
    return Measured(found.value, (found.high - found.value) / student_t(df) if df else 0.0, df, units, uncovered)


def by_seed(rows: Rows) -> list[Rows]:
    """Return the rows of each seed."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(seed(row), []).append(row)
    return list(groups.values())


def _by_base(rows: Rows) -> list[tuple[str, Rows]]:
    names = dict.fromkeys(row["model"] for row in rows)
    return [(name, [row for row in rows if row["model"] == name]) for name in names]


def _by_wording(rows: Rows) -> Iterator[tuple[str, Rows, float]]:
    """Yield each wording, the rows with their accuracies on its problems alone, and how many these are."""
    own: dict[str, list[Row]] = {}
    for row in rows:
        for entry in row["by_cluster"]:
            stages = {stage: shares for stage, shares in entry.items() if isinstance(shares, Mapping)}
            flat = {f"{stage}.{name}": share for stage, shares in stages.items() for name, share in shares.items()}
            own.setdefault(entry["cluster"], []).append({**row, **flat, "num_problems": entry["num_problems"]})
    yield from ((name, found, found[0]["num_problems"]) for name, found in own.items())


def _problems_vary(groups: Sequence[Rows]) -> bool:
    """Return whether every seed has training problems of its own; no where the rows do not tell."""
    sets = [{row.get("hashes.problems") for row in group} for group in groups]
    return all(None not in found for found in sets) and len(set.union(set(), *sets)) >= len(groups) > 1


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def listed(words: Sequence[str], last: str = "or") -> str:
    """Return words as an enumeration, such as `a, b or c`."""
    return f" {last} ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
