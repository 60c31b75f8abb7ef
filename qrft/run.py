"""What the commands do, callable from Python: `run`, `show_plan`, `pretrain`."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qrft import models, pipeline
from qrft.errors import RecipeError, StoreError
from qrft.gguf.weights import open_weights
from qrft.recipe import PretrainRecipe, Recipe, load
from qrft.store import Store, disk_errors, write_atomic

if TYPE_CHECKING:
    from qrft.console import Terminal

STORE = "store"  # beside the run folders, so runs share what is equal


def run(path: str, overrides: Sequence[str], output_dir: Path, terminal: Terminal) -> dict[str, Any]:
    """All of a recipe; returns the summary, and of several models or runs their `rows` of the table."""
    quiet_libraries()
    recipe = _load(path, overrides)
    steps = pipeline.plan(recipe, _models(recipe))
    run_dir = output_dir / recipe.name
    artifacts = pipeline.execute(steps, Store(output_dir / STORE), run_dir, recipe, terminal)
    if "sweep" in artifacts:
        lines = (artifacts["sweep"] / "sweep.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        terminal.rows(rows, run_dir)
        return {"name": recipe.name, "rows": rows}
    summary: dict[str, Any] = json.loads((artifacts["report"] / "summary.json").read_text(encoding="utf-8"))
    terminal.result(summary, run_dir)
    return summary


def show_plan(path: str, overrides: Sequence[str], output_dir: Path, terminal: Terminal) -> None:
    """The steps of a recipe, and which are there."""
    recipe = _load(path, overrides)
    store = Store(output_dir / STORE)
    steps = pipeline.plan(recipe, _models(recipe))
    terminal.plan([(step, store.has(step.stage, step.digest)) for step in steps])


def _load(path: str, overrides: Sequence[str]) -> Recipe:
    recipe = load(path, overrides)
    if recipe.name == STORE:
        raise RecipeError(f"{path}: name: found {STORE!r}, which is the folder of the artifacts. Choose another name.")
    return recipe


def _models(recipe: Recipe) -> dict[str, Path]:
    """The folders of all base models, their weights' headers read: a file cut short is found before any work."""
    names = {own.base_model for variant in recipe.variants() for own in variant.recipe.by_model().values()}
    folders = {name: models.find(name) for name in sorted(filter(None, names))}
    for folder in folders.values():
        open_weights(folder)
    return folders


def quiet_libraries() -> None:
    """The terminal is for this run's own progress: the libraries' bars and advice would tear it apart."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


def pretrain(path: str, overrides: Sequence[str], out: Path, terminal: Terminal) -> dict[str, Any]:
    """A base model from nothing into the new folder `out`, with `pretraining.json`: its recipe, loss and digest."""
    from qrft.training import pretrain as training

    quiet_libraries()
    recipe = load(path, overrides, PretrainRecipe)
    if out.exists():
        raise StoreError(f"{out}: is there already. Name a folder that is not, with --out.")
    partial = out.with_name(out.name + ".partial")
    with disk_errors(out.parent):
        partial.mkdir(parents=True, exist_ok=True)
        with terminal.bar("pretrain") as progress:
            facts = training.pretrain(recipe, partial, progress)
        card = {"recipe": recipe.model_dump(), **facts, "digest": models.fingerprint(partial)}
        write_atomic(partial / "pretraining.json", json.dumps(card, indent=1) + "\n")
        os.replace(partial, out)
    terminal.console.print(
        f"{out}: loss {facts['final_loss']:.4f}, {facts['num_tokens']:,} tokens, digest {card['digest']}"
    )
    return card
