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
from qrft.store import Store, disk_errors, lock, write_atomic

if TYPE_CHECKING:
    from qrft.console import Terminal

CARD = "pretraining.json"
STORE = "store"  # beside the run folders, so runs share what is equal


def run(path: str, overrides: Sequence[str], output_dir: Path, terminal: Terminal) -> dict[str, Any]:
    """All of a recipe; returns the summary."""
    quiet_libraries()
    recipe = _load(path, overrides)
    steps = pipeline.plan(recipe, _model(recipe))
    run_dir = output_dir / recipe.name
    artifacts = pipeline.execute(steps, Store(output_dir / STORE), run_dir, recipe, terminal)
    summary: dict[str, Any] = json.loads((artifacts["report"] / "summary.json").read_text(encoding="utf-8"))
    terminal.result(summary, run_dir)
    return summary


def show_plan(path: str, overrides: Sequence[str], output_dir: Path, terminal: Terminal) -> None:
    """The steps of a recipe, and which are there."""
    recipe = _load(path, overrides)
    store = Store(output_dir / STORE)
    steps = pipeline.plan(recipe, _model(recipe))
    terminal.plan([(step, store.has(step.stage, step.digest)) for step in steps])


def _load(path: str, overrides: Sequence[str]) -> Recipe:
    recipe = load(path, overrides)
    if recipe.name == STORE:
        raise RecipeError(f"{path}: name: found {STORE!r}, which is the folder of the artifacts. Choose another name.")
    return recipe


def _model(recipe: Recipe) -> Path:
    """The base model's folder, its weights' headers read: a file cut short is found before any work."""
    folder = models.find(recipe.base_model)
    open_weights(folder)
    return folder


def quiet_libraries() -> None:
    """The terminal is for this run's own progress: the libraries' bars and advice would tear it apart."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


def pretrain(path: str, overrides: Sequence[str], out: Path, terminal: Terminal) -> dict[str, Any]:
    """A base model from nothing into the new folder `out`, with `pretraining.json`: its recipe, losses and digest.

    Of a family each base gets a folder in `out`; those that are there are not made again.
    """
    quiet_libraries()
    recipe = load(path, overrides, PretrainRecipe)
    if recipe.family:
        return _pretrain_family(recipe, out, terminal)
    if out.exists():
        raise StoreError(f"{out}: is there already. Name a folder that is not, with --out.")
    return _pretrain_one(recipe, out, terminal)


def _pretrain_family(recipe: PretrainRecipe, out: Path, terminal: Terminal) -> dict[str, Any]:
    """Also writes held-out.jsonl, the text that the losses in the cards are of."""
    from qrft.problems import tiny_corpus

    cards = {}
    with lock(out, f"{out} is being made", ""):
        texts = (json.dumps({"text": text}) + "\n" for text in tiny_corpus.held_out())
        write_atomic(out / "held-out.jsonl", "".join(texts))
        for name, member in recipe.members().items():
            is_there = (out / name).exists()
            cards[name] = _card(out / name, member) if is_there else _pretrain_one(member, out / name, terminal)
    terminal.family(cards)
    return cards


def _card(folder: Path, recipe: PretrainRecipe) -> dict[str, Any]:
    """Of a base that is there. Raises StoreError when it is none of this recipe."""
    path = folder / CARD
    try:
        card: dict[str, Any] = json.loads(path.read_bytes())
        found = card["recipe"]
    except (OSError, ValueError, LookupError, TypeError):
        raise StoreError(
            f"{path}: no card of a base, so qrft did not make {folder}. Move it away, or choose another --out."
        ) from None
    for key, value in _settings(recipe).items():
        if found.get(key) != value:
            raise StoreError(
                f"{path}: {key} is {found.get(key)!r}, the recipe says {value!r}. Remove {folder} to make it anew, or "
                "choose another --out."
            )
    return card


def _settings(recipe: PretrainRecipe) -> dict[str, Any]:
    return recipe.model_dump(exclude={"family"})


def _pretrain_one(recipe: PretrainRecipe, out: Path, terminal: Terminal) -> dict[str, Any]:
    from qrft.training import pretrain as training

    partial = out.with_name(out.name + ".partial")
    with disk_errors(out.parent):
        partial.mkdir(parents=True, exist_ok=True)
        with terminal.bar(recipe.name) as progress:
            facts = training.pretrain(recipe, partial, progress)
        card = {"recipe": _settings(recipe), **facts, "digest": models.fingerprint(partial)}
        write_atomic(partial / CARD, json.dumps(card, indent=1) + "\n")
        os.replace(partial, out)
    held_out = facts["held_out"]
    terminal.console.print(
        f"{out}: loss {facts['final_loss']:.4f}, {held_out['nats_per_token']:.4f} held out "
        f"({held_out['bits_per_byte']:.4f} bits a byte), {facts['num_tokens']:,} tokens, digest {card['digest']}"
    )
    return card
