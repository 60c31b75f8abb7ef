"""Sweeps drawn from worlds whose laws are known, with noise as on tiny-math, and how their verdicts fare in these."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from qrft.studies import results
from qrft.studies.finding import AGREES, DISAGREES, INCONCLUSIVE, NOTHING, SMALLER, Finding

Row = dict[str, Any]
Law = Callable[[str, Row], float]  # of a model and its settings, in points


class Noise(NamedTuple):
    """Standard deviations in points: what is the same for all runs of a draw; of a training; of its test answers; and
    what a setting does to one wording more than to another."""

    draw: float = 10.0
    training: float = 3.1
    test: float = 1.2
    wording: float = 5.0


NOISE, QUIET = Noise(), Noise(0, 0, 0, 0)


class World(NamedTuple):
    """The laws of a sweep: the level of SFT, and RFT's gain over it. distinct_paths and the like are set by `also`."""

    study: str
    sweep: Mapping[str, Sequence[Any]]
    sft: Law = lambda model, settings: 40.0
    gain: Law = lambda model, settings: 0.0
    models: Callable[[np.random.Generator | None], dict[str, Row]] = lambda rng: {"tiny": {}}  # None: without noise
    also: Callable[[Row], None] = lambda row: None
    known: Sequence[float] = ()  # the true figures of the findings, where a sweep without noise does not have them


def drawn(world: World, seed: int, num_seeds: int, noise: Noise = NOISE, num_wordings: int = 0) -> list[Row]:
    """The rows of one sweep of this world."""
    rng, rows = np.random.default_rng(seed), []
    models = world.models(None if noise == QUIET else rng)
    arms: dict[Any, Any] = {}
    for number, (model, own) in itertools.product(range(num_seeds), models.items()):
        draw = rng.normal(0, noise.draw)
        trainings: dict[float, float] = {}
        for values in itertools.product(*world.sweep.values()):
            settings = {**dict(zip(world.sweep, values, strict=True)), **own}
            level = world.sft(model, settings)
            sft = trainings.setdefault(level, level + draw + rng.normal(0, noise.training))
            rft = level + draw + world.gain(model, settings) + rng.normal(0, noise.training)
            row = {"model": model, "variant": "", "sweep.seed": number, "hashes.problems": str(number), **own}
            row |= {f"sweep.{key}": value for key, value in zip(world.sweep, values, strict=True)}
            runs = {"sft": sft, "rft": rft, "control": level + draw + rng.normal(0, noise.training)}
            for stage, share in runs.items():
                row[f"{stage}.pass@1"] = share / 100
                row[f"{stage}.accuracy"] = (share + rng.normal(0, noise.test)) / 100
            if num_wordings:
                by_arm = arms.setdefault((model, *map(str, values)), rng.normal(0, noise.wording, (3, num_wordings)))
                ease = arms.setdefault("ease", rng.normal(0, 20, num_wordings))
                answers = rng.normal(0, noise.test * num_wordings**0.5, (3, num_wordings))
                row["by_cluster"] = [
                    {"cluster": str(w), "num_problems": 3, **{
                        stage: {name: row[f"{stage}.{name}"] + (ease[w] + by_arm[i, w] + answers[i, w]) / 100
                                for name in ("accuracy", "pass@1")} for i, stage in enumerate(runs)}}
                    for w in range(num_wordings)
                ]  # fmt: skip
                for stage, name in itertools.product(runs, ("accuracy", "pass@1")):
                    row[f"{stage}.{name}"] = float(np.mean([entry[stage][name] for entry in row["by_cluster"]]))
            world.also(row)
            rows.append(row)
    return rows


def truths(world: World) -> list[float]:
    """The true figures of a study's findings: those of a sweep without noise, where the world does not name them."""
    found = results.findings(world.study, drawn(world, 0, 2, QUIET))
    return list(world.known) or [round(finding.measured.value, 9) if finding.measured else 0.0 for finding in found]


def is_false(finding: Finding, truth: float) -> bool:
    """Whether the world contradicts a verdict."""
    along, verdict = truth * (finding.sign or 1), finding.verdict
    is_nothing = abs(truth) < finding.margin
    if verdict == AGREES:
        return along <= 0 if finding.sign else not is_nothing
    if verdict == DISAGREES:
        return along >= 0 if finding.sign else is_nothing
    if verdict == SMALLER:
        assert finding.paper is not None
        return along >= min(map(abs, finding.paper))
    return verdict == NOTHING and not is_nothing


class Tally(NamedTuple):
    """Of many sweeps: how often the primary verdict is false, how often any other is, and how often each is told."""

    primary: float
    others: float
    told: list[dict[str, float]]


def tally(world: World, num_sweeps: int, num_seeds: int, **options: Any) -> Tally:
    known = truths(world)
    false: list[list[bool]] = []
    verdicts: list[list[str]] = []
    for number in range(num_sweeps):
        found = results.findings(world.study, drawn(world, number, num_seeds, **options))
        false.append([is_false(finding, truth) for finding, truth in zip(found, known, strict=True)])
        verdicts.append([finding.verdict for finding in found])
    shares = [{name: column.count(name) / num_sweeps for name in VERDICTS} for column in zip(*verdicts, strict=True)]
    return Tally(
        sum(row[0] for row in false) / num_sweeps,
        sum(any(row[1:]) for row in false) / num_sweeps,
        [dict(share) for share in shares],
    )


VERDICTS = (AGREES, DISAGREES, SMALLER, NOTHING, INCONCLUSIVE)
