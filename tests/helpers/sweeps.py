"""Rows of made-up sweeps whose laws are known, as the sweep stage hands them to its report."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Row = dict[str, Any]
NUM_TEST = 1000
STEP = (("accuracy", 0.8), ("low", 0.7), ("high", 0.9))  # what each step more leaves
SOURCES = ("small/sft", "medium/sft", "large/sft")
SIZES = {"small": 200_000, "medium": 800_000, "large": 1_800_000, "huge": 3_000_000}
SFT = {"small": 0.30, "medium": 0.42, "large": 0.50, "huge": 0.58}


def bounded(name: str, share: float) -> Row:
    half = 1.96 * math.sqrt(max(share * (1 - share), 1e-4) / NUM_TEST)
    return {f"{name}.accuracy": share, f"{name}.low": share - half, f"{name}.high": share + half}


def distinct(k: int) -> float:
    return 1 + 0.9 * k**0.45


def row(models: str, settings: Mapping[str, Any], sft: float, gain: float, noise: random.Random) -> Row:
    """All that a run of one model tells; settings by the sweep's own keys."""
    k = settings.get("num_samples", 30)
    sft, rft = sft + noise.gauss(0, 0.004), sft + gain + noise.gauss(0, 0.004)
    fraction, until = settings.get("train_fraction", 1), settings.get("sample.until") or {}
    dedup = settings.get("dedup", True)
    name = ",".join(f"{key}={value}" for key, value in settings.items())
    return {
        "variant": name, "model": models, **{f"sweep.{key}": value for key, value in settings.items()},
        **bounded("base", SFT[models] / 20), **bounded("icl", SFT[models] / 3), **bounded("sft", sft),
        **bounded("rft", rft), "gain": rft - sft,
        "gain_low": rft - sft - 0.02, "gain_high": rft - sft + 0.02,
        "num_test": NUM_TEST, "num_train": int(300 * fraction), "samples_per_problem": k,
        "distinct_paths": distinct(k),
        "distinct_paths_low": distinct(k) - 0.1, "distinct_paths_high": distinct(k) + 0.1,
        "distinct_curve": [[at, distinct(at)] for at in (1, 2, 5, 10, 20, 50, 100) if at <= k],
        "num_rows": int(300 * (distinct(k) if dedup else 1 + k / 2)), "sampled_tokens": 3000 * (18 if until else k),
        "base_model.num_parameters": SIZES[models], "base_model.loss": 1.6 - SFT[models],
        "cost.sft.flops": 1e12 * fraction * SIZES[models] / 1e5, "cost.rft.flops": 1e12 * (1 + k) * SIZES[models] / 1e5,
        "seconds": 300.0 + k, "paper.sft": 35.9, "paper.source": "Yuan et al. 2023",
        **{f"{stage}.pass@{at}": min(1, share + 0.1 * math.log2(at) * (1 if stage == "sft" else 0.8))
           for stage, share in (("sft", sft), ("rft", rft)) for at in (1, 4, 16)},
        "measures": [
            {"model": stage, "problems": "tiny-math/test", "few_shot": 0, "measure": f"pass@{at}", "value": value,
             "low": value - 0.03, "high": value + 0.03}
            for stage, share, spread in (("sft", sft, 0.1), ("rft", rft, 0.08)) for at in (1, 4, 16)
            for value in [share + spread * math.log2(at)]
        ],
        "by_steps": [
            {"steps": steps, "num_problems": 200, **{
                stage: {name: share * base ** (steps - 1) for name, base in STEP}
                for stage, share in (("sft", sft), ("rft", rft))}} for steps in (1, 2, 3, 4)
        ],
        "overlap": [{"sources": list(names), "count": 400 // len(names) ** 2 + 10 * len(names[0])}
                    for size in (1, 2, 3) for names in itertools.combinations(SOURCES, size)],
        "report": f"{name}/{models}/report.html",
    }  # fmt: skip


def rows(
    sweep: Mapping[str, Sequence[Any]],
    models: Sequence[str] = ("small",),
    sft: Callable[[str, Row], float] = lambda model, settings: SFT[model],
    gain: Callable[[str, Row], float] = lambda model, settings: 0.05,
    seed: int = 0,
) -> list[Row]:
    """A row for every model and combination of the sweep, with a little noise."""
    noise = random.Random(seed)
    made = []
    for values in itertools.product(*sweep.values()):
        settings = dict(zip(sweep, values, strict=True))
        made += [row(model, settings, sft(model, settings), gain(model, settings), noise) for model in models]
    return made
