"""The options that the commands take. Those that are settings too are made from the settings' fields."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qrft.cli.fields import option, options

if TYPE_CHECKING:
    from qrft.sampling.budget import Until
    from qrft.sampling.shards import Part


class _Path(click.Path):
    """A path that is not empty: pathlib takes '' for the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("the path is empty. Name a file or folder; the current folder is '.'.", param, ctx)
        return super().convert(value, param, ctx)


FILE = _Path(path_type=Path)
FOLDER = _Path(file_okay=False, path_type=Path)
Params = list[click.Parameter]
MOST_PARTS = 1_000_000  # of samples, made apart

OVERRIDES = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a key of the recipe by its path, such as seed=1. Can be repeated.",
)
OUTPUT_DIR = click.option(
    "--output-dir",
    "-o",
    type=FOLDER,
    default=Path("runs"),
    show_default=True,
    help="The folder that holds the run folders and the store.",
)


def threads() -> click.Option:
    """Make `--threads`."""
    return click.Option(["--threads"], type=click.IntRange(1), help="How many threads to use. [default: one per core]")


def as_json() -> click.Option:
    """Make `--json`."""
    return click.Option(["--json", "as_json"], is_flag=True, help="Print the results as one JSON object.")


def problem_file(name: str) -> str:
    """Say what `--problems` takes."""
    return f"The problems: a JSONL or Parquet file, or a name such as {name}."


# ------------------------------------------------------------------------------------------------------------ values


def price(context: click.Context, option: click.Parameter, value: str | None) -> tuple[float, bool] | None:
    """Read 0.30, a price per kWh, or 1.10/h, per hour: the amount, and whether it is per hour."""
    if value is None:
        return None
    text = value.removesuffix("/h")
    try:
        amount = float(text)
    except ValueError:
        amount = -1.0
    if not 0 <= amount < float("inf"):
        raise click.BadParameter(
            f"{value!r} is neither a price per kWh, such as 0.30, nor one per hour, such as 1.10/h."
        )
    return amount, text != value


def numbers(context: click.Context, option: click.Parameter, value: str | None) -> list[int] | None:
    """Read whole numbers above 0 with commas between them; an empty text holds none."""
    words = [word.strip() for word in (value or "").split(",") if word.strip()]
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise click.BadParameter(f"{value!r} is not a list of whole numbers above 0 with commas, such as 1,4,16.")
    return None if value is None else [int(word) for word in words]


def until(context: click.Context, option: click.Parameter, value: str | None) -> Until:
    """Read `distinct=4` or `correct=8`; without a value there is no goal."""
    from qrft.sampling.budget import Until

    if value is None:
        return Until()
    kind, _, number = value.partition("=")
    if kind not in ("distinct", "correct") or not number.isdecimal() or int(number) < 1:
        raise click.BadParameter(f"{value!r} is neither distinct=N nor correct=N, such as distinct=4.")
    return Until(**{kind: int(number)})


def part(context: click.Context, option: click.Parameter, value: str | None) -> Part:
    """Read `3/16`: the third of sixteen parts; without a value, all is made."""
    from qrft.sampling.shards import WHOLE, Part

    if value is None:
        return WHOLE
    number, _, count = value.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count) <= MOST_PARTS):
        raise click.BadParameter(f"{value!r} is not a part of several, such as 3/16.")
    return Part(int(number), int(count))


# ---------------------------------------------------------------------------------------------------------- commands


def plan_options() -> Params:
    """Make the arguments of `qrft plan`, except the recipe and the folder of the runs."""
    gpu = 'Plan for this GPU, such as "RTX 3090" or 24GiB. [default: the one of this machine]'
    ram = "Plan for so much main memory. [default: what is free on this machine]"
    money = "The price per kWh, such as 0.30, or per hour, such as 1.10/h."
    watts = "The power drawn while working, in watts. [default: that of the GPU's board]"
    first = "First measure 20 steps of training and 20 of sampling on this machine."
    return [
        click.Option(["--gpu"], metavar="NAME|GiB", help=gpu),
        click.Option(["--ram"], type=click.FloatRange(0, min_open=True), metavar="GiB", help=ram),
        click.Option(["--price"], callback=price, metavar="P|P/h", help=money),
        click.Option(["--watts"], type=click.FloatRange(0, min_open=True), help=watts),
        click.Option(["--calibrate", "calibrates"], is_flag=True, help=first),
        as_json(),
    ]


def train_options() -> Params:
    """Make the arguments of `qrft train`."""
    data = "The training set: a JSONL or Parquet file with a question and its completion per row."
    keys = "Set a key of the recipe's section train, such as lora_r=64, or prompt, system or seed. Can be repeated."
    return [
        click.Argument(["base"]),
        click.Option(["--data"], type=FILE, required=True, help=data),
        click.Option(
            ["--output", "-o"], type=FILE, default=Path("adapter"), show_default=True, help="The folder to write."
        ),
        click.Option(["--set", "overrides"], multiple=True, metavar="KEY=VALUE", help=keys),
        threads(),
        as_json(),
    ]


def samples_options(needs_problems: bool = True) -> Params:
    """Make the arguments that grade, curate and evaluate share."""
    from qrft.grading.rules import Rules, Verdicts

    return [
        click.Argument(["samples"], nargs=-1, required=True, type=FILE),
        click.Option(["--problems"], required=needs_problems, help=problem_file("gsm8k/test")),
        *options(Rules),
        *options(Verdicts),
        threads(),
        click.Option(["--strict"], is_flag=True, help="Stop at a malformed row instead of skipping it."),
        as_json(),
    ]


def grade_options() -> Params:
    """Make the arguments of `qrft grade`, except the file that it writes."""
    from qrft.grading.rules import Gold, Judging

    return [*samples_options(), *options(Gold), *options(Judging)]


def curate_options() -> Params:
    """Make the arguments of `qrft curate`, except the files that it writes."""
    from qrft.grading.pairing import Pairing
    from qrft.grading.rules import Gold, Selection

    note = "Only with --pairs."
    return [
        *samples_options(),
        *options(Gold),
        *options(Selection),
        *options(Pairing, **dict.fromkeys(Pairing.model_fields, note)),
    ]


def evaluate_options() -> Params:
    """Make the arguments of `qrft evaluate`, which needs no problems to compare two runs."""
    return samples_options(needs_problems=False)


def browse_options() -> Params:
    """Make the arguments of `qrft browse`, which needs no problems for a run folder."""
    from qrft.grading.rules import Judging

    return [*(one for one in samples_options(needs_problems=False) if one.name != "as_json"), *options(Judging)]


def sample_options() -> Params:
    """Make the arguments of `qrft sample`."""
    from qrft.grading.rules import Rules
    from qrft.sampling.api import SamplingParams

    stop_note = "\\n is a line break. [default with --few-shot: what the next example begins with]"
    return [
        *_sampled_model(),
        *_sampled_problems(),
        *options(SamplingParams, stop=stop_note),
        *_sampler(),
        *options(Rules),
        *_written_samples(),
    ]


def _sampled_model() -> Params:
    from qrft.models.gguf.quant import Gguf

    return [
        click.Argument(["base"]),
        click.Option(["--adapter"], type=FILE, help="The LoRA adapter to apply: a PEFT folder or a .gguf file."),
        click.Option(
            ["--tokenizer"], type=FILE, help="The folder of the Hugging Face tokenizer, when BASE is a .gguf file."
        ),
        option(Gguf, "quant"),
        option(Gguf, "parity"),
        click.Option(["--no-parity", "parity"], flag_value="off", help="The same as --parity off."),
    ]


def _sampled_problems() -> Params:
    from qrft.models.wording import Wording

    kind = (
        "Stop sampling a problem once it has N correct samples (correct=N) or N distinct correct paths (distinct=N), "
        "and at -k in any case."
    )
    places = (
        "The problems that the worked examples are taken from. [default: the set's train split, or else --problems]"
    )
    shots = "How many worked examples to put into the prompt."
    return [
        click.Option(["--problems"], required=True, help=problem_file("gsm8k/train")),
        click.Option(
            ["--num-samples", "-k"],
            type=click.IntRange(1),
            required=True,
            help="How many samples to draw per problem (k).",
        ),
        click.Option(["--until"], callback=until, metavar="KIND=N", help=kind),
        click.Option(
            ["--limit"], type=click.IntRange(1), help="How many problems to use, counted from the first. [default: all]"
        ),
        *options(Wording),
        click.Option(["--few-shot"], type=click.IntRange(0), default=0, show_default=True, help=shots),
        click.Option(["--examples"], help=places),
    ]


def _sampler() -> Params:
    from qrft.sampling.backends import registry

    notes = {key: f"Only with --sampler {' or '.join(registry.readers(key))}." for key in registry.all_keys()}
    notes["server_model"] = f"Needed only if the samples should bear another name, BASE. {notes['server_model']}"
    return options(registry.combined_settings(), **notes)


def _written_samples() -> Params:
    from qrft.sampling import budget

    shard = "How many samples to write per file. A killed command loses at most one file; small files cost some speed."
    parts = "Make the I-th of N parts alone, on this machine; `qrft merge` puts the parts together."
    folder, size = Path("samples"), budget.SAMPLES_PER_SHARD
    return [
        click.Option(["--shard", "part"], callback=part, metavar="I/N", help=parts),
        click.Option(["--samples-per-shard"], type=click.IntRange(1), default=size, show_default=True, help=shard),
        click.Option(["--output", "-o"], type=FOLDER, default=folder, show_default=True, help="The folder to write."),
        threads(),
        as_json(),
    ]
