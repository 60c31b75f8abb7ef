"""Does RFT beat SFT on recipes/tiny.yaml, and would more epochs change that?

    python bench/tiny_gain.py [--out docs/results] [--runs runs]

First an epoch sweep at seed 0: SFT for each number of epochs, and RFT for each on the same samples. Then the recipe as
it is for seeds 0, 1 and 2. Writes tiny-gain.json and tiny-gain.md. About 20 minutes on two cores; what is in the store
of `--runs` is not done again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import machine

from qrft import models, pipeline
from qrft.console import Terminal
from qrft.recipe import Recipe, load
from qrft.run import STORE, run
from qrft.stats import mean, wilson
from qrft.store import Store, manifest

RECIPE = "recipes/tiny.yaml"
EPOCHS = (12, 24, 48)
SEEDS = (0, 1, 2)


def accuracy(model: str, overrides: Sequence[str], runs: Path) -> dict[str, Any]:
    """Greedy test accuracy of "sft" or "rft": the steps that it needs are run, no others."""
    recipe = load(RECIPE, overrides)
    steps = pipeline.plan(recipe, models.find(recipe.base_model))
    wanted = next(step for step in steps if step.name == f"{model}/test-graded")
    graded = make(wanted, Store(runs / STORE), {}, recipe)
    report = manifest(graded)["report"]
    low, high = wilson(report["num_correct"], report["num_samples"])
    return {"accuracy": report["num_correct"] / report["num_samples"], "low": low, "high": high}


def make(step: pipeline.Step, store: Store, done: dict[str, Path], recipe: Recipe) -> Path:
    """The step's artifact, after those it reads."""
    for source in step.inputs.values():
        if isinstance(source, pipeline.Step) and source.digest not in done:
            make(source, store, done, recipe)
    if not store.has(step.stage, step.digest):
        pipeline.run_step(step, store, done, recipe, Terminal())
    done[step.digest] = store.path(step.stage, step.digest)
    return done[step.digest]


def sweep(runs: Path) -> list[dict[str, Any]]:
    return [
        {
            "epochs": epochs,
            "sft": accuracy("sft", [f"sft.num_epochs={epochs}"], runs),
            "rft": accuracy("rft", [f"rft.num_epochs={epochs}"], runs),
        }
        for epochs in EPOCHS
    ]


def markdown(result: dict[str, Any]) -> str:
    def cell(row: dict[str, Any]) -> str:
        return f"{row['accuracy']:.1%} ({row['low']:.1%} to {row['high']:.1%})"

    lines = [
        "# RFT against SFT on tiny-math",
        "",
        "Made by `python bench/tiny_gain.py`. Greedy accuracy on 1,000 test problems, 95% Wilson intervals.",
        "",
        "## Three seeds, equal epochs",
        "",
        "| seed | base | SFT | RFT | gain (points) | p (McNemar) | new paths a problem |",
        "|---|---|---|---|---|---|---|",
    ]
    for seed, row in zip(SEEDS, result["seeds"], strict=True):
        cells = [cell(row[model]) for model in ("base", "sft", "rft")]
        gain = f"{100 * row['gain']:+.1f}"
        lines.append(
            f"| {seed} | {' | '.join(cells)} | {gain} | {row['p_value']:.2g} | {row['paths_per_problem']:.2f} |"
        )
    lines += [
        "",
        f"Mean gain: {100 * result['mean_gain']:+.1f} points.",
        "",
        "## More epochs (seed 0)",
        "",
        f"SFT by its number of epochs; RFT by its own, always on the samples of the recipe's SFT model "
        f"({result['recipe_epochs']:.0f} epochs).",
        "",
        "| epochs | SFT | RFT |",
        "|---|---|---|",
        *(f"| {row['epochs']} | {cell(row['sft'])} | {cell(row['rft'])} |" for row in result["sweep"]),
        "",
        machine.in_words(),
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    args = parser.parse_args()
    seeds = [run(RECIPE, [f"name=tiny-seed-{s}", f"seed={s}"], args.runs, Terminal()) for s in SEEDS]
    result = {
        "recipe_epochs": load(RECIPE).train.num_epochs,
        "seeds": seeds,
        "mean_gain": mean(row["gain"] for row in seeds),
        "sweep": sweep(args.runs),
        "machine": machine.describe(),
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "tiny-gain.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (args.out / "tiny-gain.md").write_text(markdown(result), encoding="utf-8")
    print(markdown(result))


if __name__ == "__main__":
    main()
