"""What `qrft run`, `qrft plan` and `qrft pretrain` do, callable from Python."""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qrft.cli.plan_tables import show_forecast
from qrft.cli.results import show_base, show_family, show_rows, show_run
from qrft.config.load import load
from qrft.config.pretrain import PretrainRecipe
from qrft.config.recipe import Recipe
from qrft.config.variants import expand_sweep, split_models
from qrft.data.disk import MARKER, check_place, disk_errors, lock, own_folder, publish, write_atomic
from qrft.errors import RecipeError, StoreError, UsageError
from qrft.models.architectures import architecture_name
from qrft.models.find import find_model, fingerprint
from qrft.models.json_file import read_json
from qrft.models.wording import CHAT, Wording
from qrft.pipeline.execute import execute
from qrft.pipeline.flow import plan
from qrft.pipeline.graph import Source
from qrft.pipeline.model_plan import with_fitting_sampler
from qrft.pipeline.store import Store

if TYPE_CHECKING:
    from qrft.cli.console import Terminal
    from qrft.pipeline.graph import Step
    from qrft.planning.basis import Speed
    from qrft.planning.devices import Device
    from qrft.planning.forecast import Forecast

COMMAND = "qrft pretrain"  # whose work folder it is
CARD = "pretraining.json"
STORE = "store"  # beside the run folders, so runs share what is equal
log = logging.getLogger(__name__)


def run(path: str, overrides: Sequence[str], output_dir: Path, terminal: Terminal) -> dict[str, Any]:
    """Run all of a recipe; return the summary, or for several models or runs their `rows` of the table."""
    quiet_libraries()
    recipe = _load(path, overrides)
    models = _models(recipe)
    steps = plan(recipe, models)
    _say_what_samples(recipe, models, terminal)
    _say_how_it_starts(recipe, steps, terminal)
    _say_how_answers_end(steps, terminal)
    run_dir = output_dir / recipe.name
    with terminal.messages():
        artifacts = execute(steps, Store(output_dir / STORE), run_dir, recipe, terminal)
    if "sweep" in artifacts:
        lines = (artifacts["sweep"] / "sweep.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        show_rows(terminal.console, rows, run_dir)
        return {"name": recipe.name, "rows": rows}
    summary: dict[str, Any] = json.loads((artifacts["report"] / "summary.json").read_text(encoding="utf-8"))
    show_run(terminal.console, summary, run_dir)
    return summary


def show_plan(
    path: str,
    overrides: Sequence[str],
    output_dir: Path,
    terminal: Terminal,
    *,
    gpu: str | None = None,
    ram: float | None = None,
    price: tuple[float, bool] | None = None,
    watts: float | None = None,
    calibrates: bool = False,
    as_json: bool = False,
) -> None:
    """Show the steps of a recipe, which are done, and what each needs: tokens, memory, disk, time, energy and cost.

    gpu: a name or an amount of memory; None for the GPU of this machine. ram: GiB of main memory; None for what is free
    here. price: an amount, and whether it is per hour instead of per kWh. watts: the power drawn at work. Raises
    UsageError for an unknown GPU, and for a calibration together with `gpu`, since only this machine can be measured.
    """
    from qrft.planning.devices import find

    quiet_libraries()
    recipe = _load(path, overrides)
    store = Store(output_dir / STORE)
    models = _models(recipe, with_weights=calibrates)
    steps = plan(recipe, models)
    _say_what_samples(recipe, models, terminal)
    _say_how_it_starts(recipe, steps, terminal)
    _say_how_answers_end(steps, terminal)
    if calibrates and gpu is not None:
        raise UsageError(f"--calibrate measures this machine, but --gpu asks about {gpu}. Give one of the two.")
    device = find(gpu, None if ram is None else ram * 2**30)
    device = device if watts is None else replace(device, watts=watts)
    has_many = steps[-1].stage == "sweep"
    distinct = list({step.digest: step for step in steps}.values()) if has_many else steps
    speed = _calibrated(steps, store, device, recipe, terminal) if calibrates else None
    needs = _needs(distinct, store, device, speed, price)
    if as_json:
        print(json.dumps(needs.as_json()))
        return
    if has_many:
        terminal.plan([(step, store.has(step.stage, step.digest)) for step in steps])
    show_forecast(terminal.console, needs, shows_steps=not has_many)


def _say_what_samples(recipe: Recipe, models: Mapping[str, Path], terminal: Terminal) -> None:
    for name, folder in models.items():
        if with_fitting_sampler(recipe, folder) is not recipe:
            terminal.console.print(
                f"{name}: qrft makes no GGUF file of a {architecture_name(read_json(folder / 'config.json'))}, so "
                "transformers samples it (sample.sampler transformers).\n",
                markup=False,
            )


def _say_how_it_starts(recipe: Recipe, steps: Sequence[Step], terminal: Terminal) -> None:
    if recipe.start is None and not any(step.phase == "sft" for step in steps):
        terminal.console.print(
            "There is no SFT: no problem of problems.train has a worked solution, so the first round samples the base "
            "model (start: base).\n"
        )


def _say_how_answers_end(steps: Sequence[Step], terminal: Terminal) -> None:
    """Say how the prompts of chat models end and what ends an answer. Raises ModelError, before any work, for a chat
    template that fails."""
    chats = {
        (base.path, step.settings.wording)
        for step in steps
        if isinstance(step.settings, Wording) and isinstance(base := step.inputs.get("model"), Source)
        if step.settings.prompt == CHAT
    }
    if chats:
        from qrft.models.light_tokenizer import load_light_tokenizer
        from qrft.models.prompts import told_ends

        with terminal.messages():
            for folder, wording in sorted(chats, key=str):
                log.info("%s", told_ends(load_light_tokenizer(folder), wording))


def _needs(
    steps: Sequence[Step], store: Store, device: Device, speed: Speed | None, price: tuple[float, bool] | None
) -> Forecast:
    from qrft.planning.forecast import forecast

    amount, is_hourly = price or (None, False)
    return forecast(steps, store, device, speed, price=amount, is_hourly=is_hourly)


def _calibrated(steps: Sequence[Step], store: Store, device: Device, recipe: Recipe, terminal: Terminal) -> Speed:
    from qrft.planning.amounts import Amounts
    from qrft.planning.basis import Basis
    from qrft.planning.calibrate import calibrate

    with terminal.bar("calibrate", len("calibrate")) as progress:
        return calibrate(steps, Basis(Amounts(store), device), recipe.num_threads, progress)


def _load(path: str, overrides: Sequence[str]) -> Recipe:
    recipe = load(path, overrides)
    if recipe.name == STORE:
        raise RecipeError(f"{path}: name: found {STORE!r}, which is the folder of the artifacts. Choose another name.")
    return recipe


def _models(recipe: Recipe, with_weights: bool = True) -> dict[str, Path]:
    """Return the folders of all base models. Without weights, none are downloaded and none are required."""
    names = {own.base_model for variant in expand_sweep(recipe) for own in split_models(variant.recipe).values()}
    return {name: find_model(name, with_weights=with_weights) for name in sorted(filter(None, names))}


def quiet_libraries() -> None:
    """Keep the libraries' bars and advice off the terminal, which shows the progress of this run."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if transformers := sys.modules.get("transformers"):  # imported before it could read the environment
        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


def pretrain(path: str, overrides: Sequence[str], out: Path, terminal: Terminal) -> dict[str, Any]:
    """Make a base model from nothing in the new folder `out`, with `pretraining.json`: its recipe, losses and digest.

    Each base of a family gets a folder in `out`; those that already exist are not made again.
    """
    quiet_libraries()
    check_place(out)
    recipe = load(path, overrides, PretrainRecipe)
    if recipe.family:
        return _pretrain_family(recipe, out, terminal)
    if out.exists():
        raise StoreError(f"{out}: already exists. Choose a new folder with --out.")
    return _pretrain_one(recipe, out, terminal)


def _pretrain_family(recipe: PretrainRecipe, out: Path, terminal: Terminal) -> dict[str, Any]:
    """Make each base, and write held-out.jsonl, the text on which the losses in the cards are measured."""
    from qrft.data.problems import tiny_corpus

    cards = {}
    with lock(out, f"{out} is being made", ""):
        texts = (json.dumps({"text": text}) + "\n" for text in tiny_corpus.held_out())
        write_atomic(out / "held-out.jsonl", "".join(texts))
        for name, member in recipe.members().items():
            is_there = (out / name).exists()
            cards[name] = _card(out / name, member) if is_there else _pretrain_one(member, out / name, terminal)
    show_family(terminal.console, cards)
    return cards


def _card(folder: Path, recipe: PretrainRecipe) -> dict[str, Any]:
    """Return the card of a base that already exists. Raises StoreError if this recipe did not make it."""
    path = folder / CARD
    try:
        card: dict[str, Any] = json.loads(path.read_bytes())
        found = card["recipe"]
    except (OSError, ValueError, LookupError, TypeError):
        raise StoreError(
            f"{path}: is not the card of a base, so qrft did not make {folder}. Move it away, or choose another --out."
        ) from None
    for key, value in _settings(recipe).items():
        if found.get(key) != value:
            raise StoreError(
                f"{path}: {key} is {found.get(key)!r}, but the recipe says {value!r}. Remove {folder} to make it "
                "again, or choose another --out."
            )
    return card


def _settings(recipe: PretrainRecipe) -> dict[str, Any]:
    return recipe.model_dump(exclude={"family"})


def _pretrain_one(recipe: PretrainRecipe, out: Path, terminal: Terminal) -> dict[str, Any]:
    from qrft.training import pretrain as training

    partial = out.with_name(out.name + ".partial")
    with disk_errors(out.parent):
        own_folder(partial, COMMAND)
        with terminal.bar(recipe.name) as progress:
            facts = training.pretrain(recipe, partial, progress)
        card = {"recipe": _settings(recipe), **facts, "digest": fingerprint(partial)}
        write_atomic(partial / CARD, json.dumps(card, indent=1) + "\n")
        (partial / MARKER).unlink()
        publish(partial, out)
    show_base(terminal.console, card, out)
    return card
