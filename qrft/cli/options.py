"""The options that the commands take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from qrft.sampling.budget import Until

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
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="Where the run folders and the store lie.",
)
FILE = click.Path(path_type=Path)


def price(context: click.Context, option: click.Parameter, value: str | None) -> tuple[float, bool] | None:
    """0.30 is of a kWh, 1.10/h of an hour: the amount, and whether it is hourly."""
    if value is None:
        return None
    text = value.removesuffix("/h")
    try:
        amount = float(text)
    except ValueError:
        amount = -1.0
    if not 0 <= amount < float("inf"):
        raise click.BadParameter(
            f"{value!r} is neither a price of a kWh, such as 0.30, nor of an hour, such as 1.10/h."
        )
    return amount, text != value


PLAN = (
    click.argument("recipe"),
    OVERRIDES,
    OUTPUT_DIR,
    click.option("--gpu", metavar="NAME|GiB", help='Plan for this one, such as "RTX 3090" or 24GiB. [default: here]'),
    click.option("--price", callback=price, metavar="P|P/h", help="Of a kWh, such as 0.30, or of an hour: 1.10/h."),
    click.option("--watts", type=click.FloatRange(0, min_open=True), help="Drawn at work. [default: the GPU's board]"),
    click.option("--calibrate", "calibrates", is_flag=True, help="Measure 20 steps and 20 decodes here first."),
    click.option("--json", "as_json", is_flag=True, help="Print the figures as one JSON object."),
)


def plan_command(function: Callable[..., None]) -> Callable[..., None]:
    """The arguments of `qrft plan`."""
    for add in reversed(PLAN):
        function = add(function)
    return function


RULES = (
    click.option(
        "--mode",
        type=click.Choice(["default", "paper"]),
        default="default",
        show_default=True,
        help="paper: decide as the paper's own script does, without the four options that follow.",
    ),
    click.option(
        "--answer-format",
        type=click.Choice(["gsm8k", "boxed", "answer-is", "last-number", "auto"]),
        default="gsm8k",
        show_default=True,
        help="Where the answer stands.",
    ),
    click.option("--marker", help="The text after which the answer stands."),
    click.option(
        "--equations",
        type=click.Choice(["marked", "anywhere"]),
        default="marked",
        show_default=True,
        help="Check those between << and >>, or those in running text too.",
    ),
    click.option(
        "--order",
        type=click.Choice(["exact", "commutative"]),
        default="exact",
        show_default=True,
        help="Whether swapped operands of + and * make another path.",
    ),
)


def numbers(context: click.Context, option: click.Parameter, value: str | None) -> list[int] | None:
    """Whole numbers above 0 with commas between them; none for an empty text."""
    words = [word.strip() for word in (value or "").split(",") if word.strip()]
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise click.BadParameter(f"{value!r} is not whole numbers above 0 with commas between them, such as 1,4,16.")
    return None if value is None else [int(word) for word in words]


def samples_command(function: Callable[..., None], needs_problems: bool = True) -> Callable[..., None]:
    """The arguments of the commands that work on anyone's samples. The choices are those of core.Rules."""
    a_file_or_a_name = "A file (JSONL, Parquet) or a name, such as gsm8k/test."
    for add in reversed(
        (
            click.argument("samples", nargs=-1, required=True, type=FILE),
            click.option("--problems", required=needs_problems, help=a_file_or_a_name),
            *RULES,
            click.option("--threads", type=click.IntRange(1), help="How many to use. [default: all cores]"),
            click.option("--strict", is_flag=True, help="A malformed row is an error, and not skipped."),
            click.option("--json", "as_json", is_flag=True, help="Print the figures as one JSON object."),
        )
    ):
        function = add(function)
    return function


def until(context: click.Context, option: click.Parameter, value: str | None) -> Until:
    """Read `distinct=4` or `correct=8`; nothing given sets no goal."""
    from qrft.sampling.budget import Until

    if value is None:
        return Until()
    kind, _, number = value.partition("=")
    if kind not in ("distinct", "correct") or not number.isdecimal() or int(number) < 1:
        raise click.BadParameter(f"{value!r} is neither distinct=N nor correct=N, such as distinct=4.")
    return Until(**{kind: int(number)})


TRAIN = (
    click.argument("base"),
    click.option("--data", type=FILE, required=True, help="JSONL or Parquet: a question and its completion a row."),
    click.option("--output", "-o", type=FILE, default=Path("adapter"), show_default=True, help="The folder to make."),
    click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="A key of the recipe's section train, or prompt or seed, such as lora_r=64. Can be repeated.",
    ),
    click.option("--threads", type=click.IntRange(1), help="How many to use. [default: all cores]"),
    click.option("--json", "as_json", is_flag=True, help="Print the figures as one JSON object."),
)


def train_command(function: Callable[..., None]) -> Callable[..., None]:
    """The arguments of `qrft train`. The keys of --set are those of recipe.Training."""
    for add in reversed(TRAIN):
        function = add(function)
    return function


def sample_command(function: Callable[..., None]) -> Callable[..., None]:
    """The arguments of `qrft sample`. The defaults are those of SamplingParams and of commands.sample."""
    for add in reversed(
        (
            click.argument("base"),
            click.option("--adapter", type=FILE, help="A LoRA adapter: a peft folder or a .gguf."),
            click.option("--problems", required=True, help="A file (JSONL, Parquet) or a name, such as gsm8k/train."),
            click.option("--num-samples", "-k", type=click.IntRange(1), required=True, help="Samples per problem."),
            click.option("--limit", type=click.IntRange(1), help="Take only the first problems."),
            click.option("--temperature", type=click.FloatRange(0), default=0.7, show_default=True),
            click.option("--top-p", type=click.FloatRange(0, 1, min_open=True), default=1.0, show_default=True),
            click.option("--top-k", type=click.IntRange(0), default=0, show_default=True, help="0 is off."),
            click.option("--min-p", type=click.FloatRange(0, 1), default=0.0, show_default=True, help="0 is off."),
            click.option("--max-new-tokens", type=click.IntRange(1), default=512, show_default=True),
            click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True),
            click.option(
                "--stop",
                multiple=True,
                metavar="TEXT",
                help="Ends a completion where it begins; \\n is a line end. Can be repeated. "
                "[default with --few-shot: what the next example begins with]",
            ),
            click.option(
                "--prompt", type=click.Choice(["plain", "alpaca", "chat"]), default="plain", show_default=True
            ),
            click.option(
                "--few-shot",
                type=click.IntRange(0),
                default=0,
                show_default=True,
                help="Worked examples in the prompt.",
            ),
            click.option(
                "--examples", help="Where they come from. [default: the set's own train split, else PROBLEMS]"
            ),
            click.option(
                "--until",
                callback=until,
                metavar="KIND=N",
                help="distinct=N or correct=N: sample a problem, up to -k times, until it has N such paths.",
            ),
            click.option(
                "--sampler",
                type=click.Choice(["llama.cpp", "transformers", "openai"]),
                default="llama.cpp",
                show_default=True,
                help="openai: any server that speaks its interface.",
            ),
            click.option(
                "--quant",
                type=click.Choice(["f32", "f16", "q8_0", "q4_k_m"]),
                default="f16",
                show_default=True,
                help="How llama.cpp's file of BASE holds its weights.",
            ),
            click.option("--tokenizer", type=FILE, help="For a .gguf: the folder of its Hugging Face tokenizer."),
            click.option(
                "--parity/--no-parity", default=True, help="Compare llama.cpp with transformers once. [default]"
            ),
            click.option("--server", metavar="URL", help="For openai, such as http://localhost:8080/v1."),
            click.option("--chat", is_flag=True, help="For openai: send the prompt as a chat message."),
            click.option("--api-key-env", metavar="NAME", help="For openai: the environment variable with the key."),
            click.option(
                "--max-in-flight",
                type=click.IntRange(1),
                default=16,
                show_default=True,
                help="For openai: requests at once.",
            ),
            click.option(
                "--requests-per-minute", type=click.FloatRange(0, min_open=True), help="For openai: at most so many."
            ),
            click.option("--threads", type=click.IntRange(1), help="How many to use. [default: all cores]"),
            *RULES,
            click.option(
                "--samples-per-shard",
                type=click.IntRange(1),
                default=2048,
                show_default=True,
                help="What a kill can lose; fewer cost some speed.",
            ),
            click.option(
                "--output",
                "-o",
                type=click.Path(file_okay=False, path_type=Path),
                default=Path("samples"),
                show_default=True,
                help="The folder.",
            ),
            click.option("--json", "as_json", is_flag=True, help="Print the figures as one JSON object."),
        )
    ):
        function = add(function)
    return function
