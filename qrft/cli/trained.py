"""The commands on what `qrft run` and `qrft train` left behind."""

from __future__ import annotations

from pathlib import Path

import click

from qrft.cli.common import all_or_nothing, bar, print_facts
from qrft.cli.options import FILE, problem_file

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
    from qrft.errors import UsageError

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
        push=push,
        is_private=private,
        is_dry=dry_run,
        num_threads=threads,
    )
    facts = work.run(order, bar)
    print_facts(facts, as_json, lambda results, console: results.show_export(console, facts))
