"""Every verdict on sweeps whose law is known, nulls among them: how often it is false, and how often it is found."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers.laws import Noise, Row, World, drawn, tally
from helpers.paths import ROOT

from qrft.studies import results
from qrft.studies.finding import AGREES, DISAGREES
from qrft.studies.registry import STUDIES

FRACTIONS = [1, 1 / 2, 1 / 4, 1 / 8]
KS = [1, 3, 10, 30, 100]
POOLS = [[], ["a", "b"], ["a", "b", "c", "d"]]


def fractions(rise: float, bend: float) -> World:
    def sft(_: str, settings: Row) -> float:
        doublings = math.log2(settings["train_fraction"])
        return 60 + rise * doublings + bend * (doublings + 1.5) ** 2

    return World("data-fraction", {"train_fraction": FRACTIONS}, sft=sft)


def over_k(rise: float, rows: float) -> World:
    def also(row: Row) -> None:
        row["distinct_paths"] = 1 + 0.6 * row["sweep.num_samples"] ** 0.45

    def gain(_: str, settings: Row) -> float:
        return rise * math.log2(settings["num_samples"]) + rows * (not settings["dedup"])

    return World("num-samples", {"num_samples": KS, "dedup": [True, False]}, gain=gain, also=also)


def bases(rng: np.random.Generator | None) -> dict[str, Row]:
    """Six bases, each with a gain of its own beside what the law gives it."""
    levels, own = (rng.uniform(20, 80, 6), rng.normal(0, 1, 6)) if rng else (np.linspace(20, 80, 6), np.zeros(6))
    return {f"base-{i}": {"level": levels[i], "own": own[i]} for i in range(6)}


def gains(mean: float, per_point: float) -> World:
    def gain(_: str, settings: Row) -> float:
        return mean + per_point * (settings["level"] - 50) + settings["own"]

    return World("gain", {}, sft=lambda _, settings: settings["level"], gain=gain, models=bases)


def pools(models: float) -> World:
    sweep = {"curate.pool": POOLS, "num_samples": [8, 16, 32]}
    return World("pooling", sweep, gain=lambda _, s: models * math.log2(max(len(s["curate.pool"]), 1)) / 2)


def losses(by_loss: float, by_size: float, scatter: float) -> World:
    """24 bases, whose accuracy falls with the loss and rises with the size; loss and size correlate by -0.7."""

    def models(rng: np.random.Generator | None) -> dict[str, Row]:
        size, tokens, own = (rng or np.random.default_rng(0)).normal(0, 1, (3, 24))
        loss = -(0.5**0.5) * (size + tokens)
        level = 50 - by_loss * loss + by_size * size + scatter * own
        columns = {"base_model.loss": loss, "base_model.num_parameters": 2 ** (20 + size), "icl.accuracy": level / 300}
        return {
            f"base-{i}": {"level": level[i], **{name: values[i] for name, values in columns.items()}} for i in range(24)
        }

    with_loss, with_size = -by_loss - by_size * 0.5**0.5, by_loss * 0.5**0.5 + by_size  # covariances
    variance = by_loss**2 + by_size**2 + 2 * by_loss * by_size * 0.5**0.5 + scatter**2
    better = (with_loss**2 - with_size**2) / variance
    known = [better, with_loss, better, with_loss / 3]
    return World("pretraining-loss", {}, sft=lambda _, settings: settings["level"], models=models, known=known)


def selections(farthest: float, exact: float) -> World:
    sweep = {"keep": ["farthest", "first", "random"], "order": ["exact", "commutative"]}
    return World(
        "selection", sweep, gain=lambda _, s: farthest * (s["keep"] == "farthest") + exact * (s["order"] == "exact")
    )


def budgets(change: float) -> World:
    def also(row: Row) -> None:
        row["sampled_tokens"] = 30_000

    sweep = {"until": [{}, {"correct": 8}]}
    return World("budget", sweep, gain=lambda _, s: change * bool(s["until"]), also=also)


def in_rounds(rise: float, diversity: float) -> World:
    def also(row: Row) -> None:
        row["sft.pass@16"] = row["sft.pass@1"] + 0.2
        row["rft.pass@16"] = row["rft.pass@1"] + 0.2 + (diversity - rise * 3) / 100

    return World("rounds", {"rounds": [1, 2, 3]}, gain=lambda _, s: rise * s["rounds"], also=also)


# Each with nothing to find, what is just worth finding, at the margins that verdicts are held to, the paper's figures,
# and their opposite.
WORLDS = {
    "no rise with data": fractions(0, 0), "data as in the paper": fractions(1.94, 0),
    "a bend at the margin": fractions(5, 1), "a falling line": fractions(-5, 0),
    "no rise with k": over_k(0, 0), "k as in the paper": over_k(0.6, 0), "duplicates at the margin": over_k(0.44, 2),
    "no gain": gains(0, 0), "a gain as small as the paper's": gains(1.9, 0), "weak bases gain more": gains(4, -0.1),
    "a loss": gains(-2, 0), "a gain at the margin": gains(1.5, 0.05),
    "pools are nothing": pools(0), "pools as in the paper": pools(0.6), "pools at the margin": pools(-1.5),
    "pools gain 3 points": pools(3),
    "loss and size alike": losses(5, 5, 10), "loss alone": losses(10, 0, 5), "size alone": losses(0, 10, 5),
    "neither": losses(0, 0, 10),
    "any path will do": selections(0, 0), "paths at the margin": selections(1.5, -1.5),
    "no change of budget": budgets(0), "a change at the margin": budgets(1.5), "as DART-Math": budgets(3.5),
    "rounds are nothing": in_rounds(0, 0), "rounds help": in_rounds(1, -2),
    "rounds at the margin": in_rounds(0.75, 1.5),
}  # fmt: skip

# Two seeds, where the unit is the base; otherwise few, so that a test is short. Coverage does not depend on it.
FEW_SEEDS = {"pretraining-loss": 2}
SLACK = 3.3  # standard errors: one of a thousand shares lies farther from its expectation


def most(num_sweeps: int) -> float:
    """The share of false verdicts that a rate of 5% may show in so many sweeps."""
    return 0.05 + SLACK * math.sqrt(0.05 * 0.95 / num_sweeps)


NULLS = [
    "no rise with data", "no rise with k", "no gain", "pools are nothing", "loss and size alike", "any path will do",
    "no change of budget", "rounds are nothing",
]  # fmt: skip


def test_false_verdicts_of_worlds_without_an_effect() -> None:
    found = [tally(WORLDS[name], 12, FEW_SEEDS.get(WORLDS[name].study, 5)) for name in NULLS]
    assert np.mean([one.primary for one in found]) <= most(12 * len(NULLS)), found
    assert np.mean([one.others for one in found]) <= most(12 * len(NULLS)), found


@pytest.mark.slow
@pytest.mark.parametrize("name", WORLDS)
def test_false_verdicts_of_every_world(name: str) -> None:
    found = tally(WORLDS[name], 600, FEW_SEEDS.get(WORLDS[name].study, 8))
    assert found.primary <= most(600) and found.others <= most(600), found


def test_false_verdicts_where_wordings_differ(num_sweeps: int = 30) -> None:
    """What an arm does to one wording more than to another counts as a gain of those that were asked, without units."""
    noise = Noise(training=1, wording=15)
    found = tally(WORLDS["no change of budget"], num_sweeps, 8, noise=noise, num_wordings=12)
    assert found.primary <= most(num_sweeps), found
    world = WORLDS["no change of budget"]
    without = [
        results.findings("budget", [{**row, "by_cluster": None} for row in drawn(world, n, 8, noise, 12)])[0].verdict
        for n in range(num_sweeps)
    ]
    assert without.count(AGREES) + without.count(DISAGREES) > num_sweeps / 4, "as seeds alone would say of others"


def stated() -> list[list[str]]:
    """The rows of the table of power in docs/studies.md."""
    text = (ROOT / "docs" / "studies.md").read_text(encoding="utf-8")
    table = text.partition("| world |")[2].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def power(name: str, num_seeds: str, verdict: str, num_sweeps: int) -> float:
    return tally(WORLDS[name], num_sweeps, int(num_seeds)).told[0][verdict]


def test_the_page_states_the_power_of_each_study() -> None:
    assert {WORLDS[name].study for name, *_ in stated()} == set(STUDIES)
    name, _, seeds, verdict, share = next(row for row in stated() if row[0] == "as DART-Math")
    assert power(name, seeds, verdict, 20) == pytest.approx(float(share.rstrip("%")) / 100, abs=0.25)


@pytest.mark.slow
@pytest.mark.parametrize("row", stated(), ids=lambda row: row[0])
def test_the_power_that_the_page_states(row: list[str]) -> None:
    name, study, seeds, verdict, share = row
    assert WORLDS[name].study == study
    assert power(name, seeds, verdict, 200) == pytest.approx(float(share.rstrip("%")) / 100, abs=0.1)
