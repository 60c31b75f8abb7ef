"""The commands on what `qrft run` and `qrft train` left behind."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from qrft.cli.common import all_or_nothing, bar, ends_with_a_message, print_facts
from qrft.cli.options import FILE, problem_file
from qrft.cli.visible import echo
from qrft.errors import DataError, UsageError

RUN = click.argument("run", type=FILE)
BASE = click.option("--base", help="Where the base model is now, if it has moved: a folder or a hub name.")
THREADS = click.option("--threads", type=click.IntRange(1), help="How many threads to use. [default: one per core]")
JSON = click.option("--json", "as_json", is_flag=True, help="Print the results as one JSON object.")

EXAMPLE_EXPORT = """\b
Examples:
  qrft export runs/tiny --to gguf:q4_k_m -o tiny-gguf
  qrft export runs/tiny --to merged -o tiny-merged --push me/tiny --dry-run"""


@click.command(epilog=EXAMPLE_EXPORT)
@RUN
@click.option(
    "--to",
    "to",
    required=True,
    metavar="KIND",
    help="What to make: gguf:q4_k_m, gguf:q8_0 or gguf:f16 (llama.cpp, Ollama, LM Studio), merged (transformers, "
    "vLLM), adapter (PEFT), or ollama (the same as gguf:q4_k_m).",
)
@click.option("--output", "-o", type=FILE, required=True, help="The folder to write, which must be new or empty.")
@click.option(
    "--model",
    metavar="rft|sft|control|base",
    help="Which model of the run. [default: the one after the last RFT]",
)
@BASE
@click.option("--problems", help=f"{problem_file('gsm8k/test')} It is asked them as a proof. [default: the run's own]")
@click.option(
    "--check",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    help="How many problems to answer as a proof, before and after.",
)
@click.option(
    "--max-new-tokens", type=click.IntRange(1), help="The longest of these answers. [default: as in the evaluation]"
)
@click.option("--push", metavar="ORG/NAME", help="Upload the folder to the Hugging Face hub, under this name.")
@click.option("--private", is_flag=True, help="Make the uploaded repository private. Only with --push.")
@click.option("--dry-run", is_flag=True, help="Write the folder, and say what would be uploaded. Only with --push.")
@THREADS
@JSON
@all_or_nothing
def export(
    run: Path,
    to: str,
    output: Path,
    model: str | None,
    base: str | None,
    problems: str | None,
    check: int,
    max_new_tokens: int | None,
    push: str | None,
    private: bool,
    dry_run: bool,
    threads: int | None,
    as_json: bool,
) -> None:
    """Write a model of RUN as files for other programs.

    The prompt that it was trained with is inside. What was written is loaded again and asked problems by its own
    template, and its answers are compared with the trained model's. RUN is the folder of a run, or one that `qrft
    train` wrote.
    """
    from qrft.cli.actions import quiet_libraries
    from qrft.commands import export as work
    from qrft.commands.hub import check_name
    from qrft.commands.shipped import target

    for option, is_given in (("--private", private), ("--dry-run", dry_run)):
        if is_given and push is None:
            raise UsageError(f"{option}: has no effect without --push. Leave it out, or add --push ORG/NAME.")
    if push is not None:
        check_name(push)
    quiet_libraries()
    order = work.Order(
        run,
        target(to),
        output,
        phase=model,
        base=base,
        problems=problems,
        num_questions=check,
        max_new_tokens=max_new_tokens,
        push=push,
        is_private=private,
        is_dry=dry_run,
        num_threads=threads,
    )
    facts = work.run(order, bar)
    print_facts(facts, as_json, lambda results, console: results.show_export(console, facts))


EXAMPLE_ASK = """\b
Examples:
  qrft ask runs/tiny "Tom has 3 apples and buys 4. How many has he?"
  qrft ask runs/tiny --compare base,sft,rft -n 8"""


def _phases(context: click.Context, option: click.Parameter, value: str | None) -> tuple[str, ...]:
    """Read names of models with commas between them, each once."""
    return tuple(dict.fromkeys(word.strip() for word in (value or "").split(",") if word.strip()))


@click.command(epilog=EXAMPLE_ASK)
@RUN
@click.argument("question", required=False)
@click.option(
    "--compare",
    "--model",
    "phases",
    callback=_phases,
    metavar="NAME,...",
    help="Which models of the run to ask, such as base,sft,rft. [default: the one after the last RFT]",
)
@click.option(
    "-n",
    "num_samples",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="How many answers of each model; with several, they vote. One is the greedy answer.",
)
@click.option("--temperature", type=click.FloatRange(0), help="How random they are. [default: 0.7, of one answer 0]")
@click.option("--max-new-tokens", type=click.IntRange(1), help="The longest answer. [default: as in the evaluation]")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="For several answers.")
@click.option(
    "--sampler",
    type=click.Choice(["llama.cpp", "transformers"]),
    help="What runs the model. [default: llama.cpp where it can]",
)
@BASE
@THREADS
@JSON
@ends_with_a_message("")
def ask(
    run: Path,
    question: str | None,
    phases: tuple[str, ...],
    num_samples: int,
    temperature: float | None,
    max_new_tokens: int | None,
    seed: int,
    sampler: str | None,
    base: str | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Ask the models of RUN a question, side by side.

    They get the prompt that they were trained with. Every equation is marked right or wrong, and a path is told to be
    sound or why it is not. Without a question, they are read from the terminal, or one from a pipe. RUN is the folder
    of a run, or one that `qrft train` wrote.
    """
    from qrft.cli.actions import quiet_libraries
    from qrft.cli.answers import show_answers
    from qrft.cli.tables import plain_console
    from qrft.commands.ask import Panel, Settings

    quiet_libraries()
    settings = Settings(phases, num_samples, temperature, max_new_tokens, seed, base, sampler, threads)
    with Panel(run, settings, bar) as panel:
        for text in _questions(question):
            with _goes_on_with_the_next(question is None and sys.stdin.isatty()):
                facts = panel.ask(text)
                if as_json:
                    click.echo(json.dumps(_without_pieces(facts)))
                else:
                    show_answers(plain_console(), facts)


def _questions(given: str | None) -> Iterator[str]:
    """Yield the question, or those that a person types until an empty line, or what a pipe holds."""
    if given is not None or not sys.stdin.isatty():
        yield sys.stdin.read().strip() if given is None else given
        return
    click.echo("Ask a question; an empty line ends.", err=True)
    while text := _typed():
        yield text


@contextmanager
def _goes_on_with_the_next(is_typed: bool) -> Iterator[None]:
    """Say what is wrong with a typed question, and let a person type another one."""
    try:
        yield
    except (DataError, UsageError) as error:
        if not is_typed:
            raise
        echo(f"Error: {error}", err=True)


def _typed() -> str:
    import readline  # noqa: F401 # the line can then be edited, and earlier ones come back

    try:
        return input("> ").strip()
    except EOFError:
        click.echo(err=True)
        return ""


def _without_pieces(facts: dict[str, Any]) -> dict[str, Any]:
    """Leave out what only the terminal shows: the text in pieces."""
    models = [
        {
            **model,
            "answers": [{key: part for key, part in answer.items() if key != "pieces"} for answer in model["answers"]],
        }
        for model in facts["models"]
    ]
    return {**facts, "models": models}
