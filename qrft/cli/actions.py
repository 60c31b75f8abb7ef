"""What the commands do, callable from Python: `run`, `show_plan`, `pretrain`."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qrft.config.load import load
from qrft.config.pretrain import PretrainRecipe
from qrft.config.recipe import Recipe
from qrft.config.variants import expand_sweep, split_models
from qrft.data.disk import disk_errors, lock, write_atomic
from qrft.errors import RecipeError, StoreError, UsageError
from qrft.models.find import find_model, fingerprint
from qrft.models.weights import open_weights
from qrft.pipeline.execute import execute
from qrft.pipeline.flow import plan
from qrft.pipeline.store import Store

if TYPE_CHECKING:
    from qrft.cli.console import Terminal
    from qrft.pipeline.graph import Step
    from qrft.planning.basis import Basis, Speed

CARD = "pretraining.json"
STORE = "store"  # beside the run folders, so runs share what is equal


def run(path: str, overrides: Sequence[str], output_dir: Path, terminal: Terminal) -> dict[str, Any]:
    """All of a recipe; returns the summary, and of several models or runs their `rows` of the table."""
    quiet_libraries()
    recipe = _load(path, overrides)
    steps = plan(recipe, _models(recipe))
    run_dir = output_dir / recipe.name
    artifacts = execute(steps, Store(output_dir / STORE), run_dir, recipe, terminal)
    if "sweep" in artifacts:
        lines = (artifacts["sweep"] / "sweep.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        terminal.rows(rows, run_dir)
        return {"name": recipe.name, "rows": rows}
    summary: dict[str, Any] = json.loads((artifacts["report"] / "summary.json").read_text(encoding="utf-8"))
    terminal.result(summary, run_dir)
    return summary


def show_plan(
    path: str,
    overrides: Sequence[str],
    output_dir: Path,
    terminal: Terminal,
    *,
    gpu: str | None = None,
    price: tuple[float, bool] | None = None,
    watts: float | None = None,
    calibrates: bool = False,
    as_json: bool = False,
) -> None:
    """The steps of a recipe, which are there, and what each needs: tokens, memory, disk, time, energy and cost.

    gpu: a name or its memory, None for this machine; price: of a kWh, or with True of an hour; watts: drawn at work.
    Raises UsageError for a GPU that is not known, and for a calibration that is to speak for another machine.
    """
    from qrft.planning import devices
    from qrft.planning.amounts import Amounts
    from qrft.planning.basis import Basis
    from qrft.planning.forecast import forecast

    quiet_libraries()
    recipe = _load(path, overrides)
    store = Store(output_dir / STORE)
    steps = plan(recipe, _models(recipe, with_weights=calibrates))
    if calibrates and gpu is not None:
        raise UsageError(f"--calibrate measures this machine, --gpu asks about {gpu}. Give one of the two.")
    device = devices.find(gpu)
    device = device if watts is None else replace(device, watts=watts)
    speed = _calibrated(steps, Basis(Amounts(store), device), recipe, terminal) if calibrates else None
    amount, is_hourly = price or (None, False)
    has_many = steps[-1].stage == "sweep"
    distinct = list({step.digest: step for step in steps}.values()) if has_many else steps
    needs = forecast(distinct, store, device, speed, price=amount, is_hourly=is_hourly)
    if as_json:
        print(json.dumps(needs.as_json()))
        return
    if has_many:
        terminal.plan([(step, store.has(step.stage, step.digest)) for step in steps])
    terminal.forecast(needs, shows_steps=not has_many)


def _calibrated(steps: Sequence[Step], basis: Basis, recipe: Recipe, terminal: Terminal) -> Speed:
    from qrft.planning.calibrate import calibrate

    with terminal.bar("calibrate", len("calibrate")) as progress:
        return calibrate(steps, basis, recipe.num_threads, progress)


def _load(path: str, overrides: Sequence[str]) -> Recipe:
    recipe = load(path, overrides)
    if recipe.name == STORE:
        raise RecipeError(f"{path}: name: found {STORE!r}, which is the folder of the artifacts. Choose another name.")
    return recipe


def _models(recipe: Recipe, with_weights: bool = True) -> dict[str, Path]:
    """The folders of all base models, their weights' headers read: a file cut short is found before any work.

    Without weights none are downloaded, nor missed.
    """
    names = {own.base_model for variant in expand_sweep(recipe) for own in split_models(variant.recipe).values()}
    folders = {name: find_model(name, with_weights=with_weights) for name in sorted(filter(None, names))}
    for folder in folders.values():
        if with_weights or any(folder.glob("*.safetensors")):
            open_weights(folder)
    return folders


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
    from qrft.data.problems import tiny_corpus

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
        card = {"recipe": _settings(recipe), **facts, "digest": fingerprint(partial)}
        write_atomic(partial / CARD, json.dumps(card, indent=1) + "\n")
        os.replace(partial, out)
    held_out = facts["held_out"]
    terminal.console.print(
        f"{out}: loss {facts['final_loss']:.4f}, {held_out['nats_per_token']:.4f} held out "
        f"({held_out['bits_per_byte']:.4f} bits a byte), {facts['num_tokens']:,} tokens, digest {card['digest']}"
    )
    return card
