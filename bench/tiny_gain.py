"""Does RFT beat SFT on recipes/tiny.yaml, and would more epochs change that?

    python bench/tiny_gain.py [--out docs/results] [--runs runs]

Seeds 0, 1 and 2, with both models trained for 48 epochs (where more no longer help), then with the 24 of the recipe.
Then the sweep that shows where that is, at seed 0: SFT for each number of epochs, and RFT for each on the samples of
SFT's 48. Writes tiny-gain.json and tiny-gain.md. About 50 minutes on two cores; what is in the store of `--runs` is not
done again.
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
SEEDS = (0, 1, 2)
PLATEAU = 48  # epochs
SWEEP = (12, 24, 48, 96)


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


def seeds(num_epochs: int, runs: Path) -> dict[str, Any]:
    """The whole recipe for each seed, both models trained for `num_epochs`."""
    overrides = [f"train.num_epochs={num_epochs}"]
    rows = [
        run(RECIPE, [*overrides, f"name=tiny-{num_epochs}-seed-{seed}", f"seed={seed}"], runs, Terminal())
        for seed in SEEDS
    ]
    return {"epochs": num_epochs, "rows": rows, "mean_gain": mean(row["gain"] for row in rows)}


def sweep(runs: Path) -> list[dict[str, Any]]:
    return [
        {
            "epochs": epochs,
            "sft": accuracy("sft", [f"sft.num_epochs={epochs}"], runs),
            "rft": accuracy("rft", [f"sft.num_epochs={PLATEAU}", f"rft.num_epochs={epochs}"], runs),
        }
        for epochs in SWEEP
    ]


def cell(row: dict[str, Any]) -> str:
    return f"{row['accuracy']:.1%} ({row['low']:.1%} to {row['high']:.1%})"


def seeds_table(result: dict[str, Any]) -> list[str]:
    lines = [
        f"## Three seeds, {result['epochs']:.0f} epochs each",
        "",
        "| seed | base | SFT | RFT | gain (points) | p (McNemar) | new paths a problem |",
        "|---|---|---|---|---|---|---|",
    ]
    for seed, row in zip(SEEDS, result["rows"], strict=True):
        cells = " | ".join(cell(row[model]) for model in ("base", "sft", "rft"))
        gain, paths = f"{100 * row['gain']:+.1f}", f"{row['paths_per_problem']:.2f}"
        lines.append(f"| {seed} | {cells} | {gain} | {row['p_value']:.2g} | {paths} |")
    return [*lines, "", f"Mean gain: {100 * result['mean_gain']:+.1f} points.", ""]


def markdown(result: dict[str, Any]) -> str:
    lines = [
        "# RFT against SFT on tiny-math",
        "",
        "Made by `python bench/tiny_gain.py`. Greedy accuracy on 1,000 test problems, 95% Wilson intervals.",
        "",
        *seeds_table(result["trained_out"]),
        *seeds_table(result["as_the_recipe"]),
        "## Where more epochs stop helping (seed 0)",
        "",
        f"SFT by its number of epochs; RFT by its own, always on the samples of the SFT model of {PLATEAU} epochs.",
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
    result = {
        "trained_out": seeds(PLATEAU, args.runs),
        "sweep": sweep(args.runs),
        "as_the_recipe": seeds(int(load(RECIPE).train.num_epochs), args.runs),
        "machine": machine.describe(),
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "tiny-gain.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (args.out / "tiny-gain.md").write_text(markdown(result), encoding="utf-8")
    print(markdown(result))


if __name__ == "__main__":
    main()
