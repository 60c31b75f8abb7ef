"""`qrft init`: a recipe for a model, a card, problems and some hours, with comments."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qrft.cli.common import all_or_nothing, print_facts
from qrft.cli.options import FILE
from qrft.cli.upkeep import AS_JSON

if TYPE_CHECKING:
    from qrft.planning.fitting import Fitted

QUESTIONS = {
    "model": "Which model? A hub name (org/name), a folder, a GGUF file, tiny-base or smollm2-135m",
    "train": "Problems to learn from: a set such as gsm8k/train, or a file",
    "test": "Problems to be measured on",
    "gpu": 'For which card, such as "RTX 3090" or 24GiB? Empty: this machine',
    "hours": "For how many hours",
}
SECTIONS = ("problems", "train", "sample", "gguf", "grade", "evaluate")
STAGES = {"train": "to train", "sample": "to sample"}
DEFAULTS = {"train": "gsm8k/train", "test": "gsm8k/test", "gpu": "", "hours": "8"}


@click.command()
@click.argument("recipe", type=FILE, required=False)
@click.option("--model", help="The base model: a hub name, a folder, a GGUF file, or a known name.")
@click.option("--train", help="The problems to learn from: a set, or a file. [default: gsm8k/train]")
@click.option("--test", help="The problems to be measured on. [default: gsm8k/test]")
@click.option("--gpu", metavar="NAME|GiB", help="The card. [default: the one of this machine, or its processor]")
@click.option("--hours", type=click.FloatRange(0, min_open=True), help="How long it may take. [default: 8]")
@AS_JSON
@all_or_nothing
def init(recipe: Path | None, as_json: bool, **given: Any) -> None:
    """Write a recipe that fits your card and your time.

    What is not given is asked for, where there is a terminal. As many samples per problem are chosen as the plan says
    fit into the hours, and the most exact form of the model that fits into the memory. RECIPE is the new file; without
    it, it is named after the model.

    Example: qrft init --model Qwen/Qwen2.5-0.5B --gpu "RTX 3060" --hours 6
    """
    from qrft.cli import upkeep_tables as tables
    from qrft.cli.actions import quiet_libraries
    from qrft.data.disk import write_atomic
    from qrft.errors import UsageError
    from qrft.models.find import find_model
    from qrft.planning.devices import find
    from qrft.planning.fitting import fit

    quiet_libraries()
    wanted = {key: _asked(key, value, as_json) for key, value in given.items()}
    name = _name(wanted["model"])
    file = recipe or Path(f"{name}.yaml")
    if file.exists() or file.is_symlink():
        raise UsageError(f"{file}: already exists. Name another file: qrft init FILE ...")
    if not file.parent.is_dir():
        raise UsageError(f"{file}: there is no folder {file.parent}. Make it, or name another file.")
    device = find(wanted["gpu"] or None)
    folder = find_model(wanted["model"], with_weights=False)
    problems = {part: wanted[part] for part in ("train", "test")}
    found = fit(name, wanted["model"], folder, problems, device, float(wanted["hours"]))
    write_atomic(file, text(found, float(wanted["hours"]), file))
    facts = {"recipe": str(file), "values": found.values, "seconds": found.forecast.seconds, "device": device.name}
    print_facts(facts, as_json, lambda _, console: tables.show_new_recipe(console, facts))


def _name(model: str) -> str:
    """Return what the run is called: the model's last name."""
    last = model.rstrip("/").rpartition("/")[2].removesuffix(".gguf").lower()
    return re.sub(r"[^a-z0-9._-]+", "-", last).lstrip(".-") or "mine"


def _asked(key: str, value: Any, as_json: bool) -> str:
    """Return what was given, else what a person answers, else the default. Raises UsageError for what has none."""
    if value is not None:
        return str(value)
    if sys.stdin.isatty() and not as_json:
        default = DEFAULTS.get(key)
        return str(click.prompt(QUESTIONS[key], default=default, show_default=bool(default), err=True))
    if key in DEFAULTS:
        return DEFAULTS[key]
    raise click.UsageError(f"Missing option '--{key}'. Without a terminal nothing is asked.")


def text(found: Fitted, hours: float, file: Path) -> str:
    """Return the recipe in YAML, with what each choice is for."""
    from qrft.cli.tables import duration, size

    values, plan = found.values, found.forecast
    if plan.seconds is None:
        time = f"How long that takes is not known for {plan.device.name}."
    else:
        band = plan.speed.band
        least, most = duration(plan.seconds / band), duration(plan.seconds * band)
        time = f"The plan estimates {duration(plan.seconds)} ({least} to {most}), of {hours:g} h that you allowed."
    memory = {stage: max((row.memory for row in plan.rows if row.stage == stage), default=0) for stage in STAGES}
    needs = ", ".join(f"{size(memory[stage])} {words}" for stage, words in STAGES.items())
    head = f"# Made by `qrft init` for {plan.device.name}. {time}\n# Memory: {needs}. Each step: qrft plan {file}\n"
    plain = {key: value for key, value in values.items() if key not in SECTIONS}
    sections = {key: value for key, value in values.items() if key in SECTIONS}
    lines = [head, *_lines(plain)]
    for key, inner in sections.items():
        lines += [f"\n{key}:\n", *_lines(inner, key)]
    return "".join(lines)


def _lines(values: Mapping[str, Any], section: str = "") -> list[str]:
    indent, path = ("  ", f"{section}.") if section else ("", "")
    return [f"{indent}{key}: {_yaml(value)}{_comment(path + key)}\n" for key, value in values.items()]


COMMENTS = {
    "prompt": "chat: the model's own template",
    "start": "its own answers are sampled first; leave this out to fine-tune on the worked solutions before (SFT)",
    "problems.num_train": "fewer than there are, so that it fits into the time",
    "train.sequence_len": "tokens of an example",
    "train.micro_batch_size": "times gradient_accumulation_steps: examples per optimizer step",
    "train.vram": "GiB; chooses what of them is in memory at once. Another card: --set train.vram=12",
    "train.quantization": "nf4: the frozen base in 4 bits; none: as it is",
    "sample.max_new_tokens": "a longer answer is cut off, and is no training row",
    "sample.num_samples": "solutions per problem; more can be drawn later, none is lost",
    "gguf.quant": "the file that is sampled from",
    "grade.answer_format": "wherever the answer stands",
}


def _comment(key: str) -> str:
    return f"  # {COMMENTS[key]}" if key in COMMENTS else ""


def _yaml(value: Any) -> str:
    """Return a value as YAML reads it back; a text that is none of YAML's other values stands without quotes."""
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9/._-]*", value) and value not in ("none", "null"):
        return value
    return "none" if value == "none" else json.dumps(value)
