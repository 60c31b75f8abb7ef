"""The command line. Heavy modules are imported by the command that needs them, so that `qrft --help` is instant."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from qrft.cli import setup, upkeep
from qrft.cli.browsing import browse
from qrft.cli.common import all_or_nothing, bar, bytes_bar, command, print_facts
from qrft.cli.fields import Command
from qrft.cli.options import (
    FILE,
    FOLDER,
    OUTPUT_DIR,
    OVERRIDES,
    curate_options,
    evaluate_options,
    grade_options,
    numbers,
    plan_options,
    sample_options,
    train_options,
)
from qrft.cli.trained import ask, export
from qrft.cli.visible import Group, echo
from qrft.progress import unwatched


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="qrft")
def main() -> None:
    """Teach a language model to reason with its own correct answers (RFT), on one GPU or on none."""


main.add_command(export)
main.add_command(ask)


@main.command()
@click.argument("recipe")
@OVERRIDES
@OUTPUT_DIR
@click.option("--name", help="The name of the run folder, instead of the recipe's name.")
@command
def run(recipe: str, overrides: tuple[str, ...], output_dir: Path, name: str | None) -> None:
    """Run RECIPE from start to finish, from SFT to the report.

    The steps are: fine-tune (SFT), sample, grade, keep the correct and distinct solutions, fine-tune again (RFT),
    evaluate, report. Finished steps are not repeated, so the same command continues after any stop. RECIPE is a YAML
    file; docs/recipe.md lists its keys.

    Example: qrft run recipes/tiny.yaml --set sample.num_samples=8
    """
    from qrft.cli import actions
    from qrft.cli.console import Terminal

    actions.run(recipe, _named(overrides, name), output_dir, Terminal())


@main.command(cls=Command, late=plan_options)
@click.argument("recipe")
@OVERRIDES
@OUTPUT_DIR
@command
def plan(recipe: str, overrides: tuple[str, ...], output_dir: Path, as_json: bool, **settings: Any) -> None:
    """Show what each step of RECIPE needs, and whether it is done.

    The needs are tokens, memory, disk space, time and cost. Nothing is written, and no model is loaded unless
    --calibrate is given.

    Example: qrft plan recipes/models/qwen2.5-0.5b.yaml --gpu "RTX 3060"
    """
    from qrft.cli.actions import show_plan
    from qrft.cli.console import Terminal
    from qrft.cli.tables import plain_console

    terminal = Terminal(plain_console(stderr=as_json))
    show_plan(recipe, overrides, output_dir, terminal, as_json=as_json, **settings)


@main.command()
@click.argument("recipe")
@OVERRIDES
@click.option(
    "--output",
    "--out",
    "-o",
    "out",
    type=FOLDER,
    required=True,
    help="The folder for the model or the family. A model that already exists is not made again.",
)
@command
def pretrain(recipe: str, overrides: tuple[str, ...], out: Path) -> None:
    """Train a tiny base model from scratch, as RECIPE says.

    RECIPE is a YAML file; the end of docs/recipe.md lists its keys.

    Example: qrft pretrain recipes/tiny-base.yaml -o my-base
    """
    from qrft.cli import actions
    from qrft.cli.console import Terminal

    actions.pretrain(recipe, overrides, out, Terminal())


@main.command(cls=Command, late=sample_options)
@command
def sample(base: str, problems: str, num_samples: int, output: Path, as_json: bool, **options: Any) -> None:
    """Sample k solutions per problem from BASE.

    BASE is a model known by name (tiny-base, smollm2-135m), a model folder, a hub name or a .gguf file. With --sampler
    openai it is the name of a model on the server. The samples are written as Parquet files into a folder. The same
    command continues after any stop, and -k can be raised later. The options from --mode to --order say how --until
    judges the samples.

    Example: qrft sample tiny-base --problems train.jsonl -k 16
    """
    from qrft.cli.actions import quiet_libraries
    from qrft.commands import sample as work
    from qrft.config.options import from_options
    from qrft.grading.rules import Rules

    quiet_libraries()
    rules = from_options(Rules, {name: options.pop(name) for name in Rules.model_fields})
    options["stop"] = [text.replace("\\n", "\n") for text in options["stop"]]
    part = options.pop("part")
    choice, spec = work.prepare(base, problems, num_samples, rules=rules, **options)
    with bar("samples") as progress:
        facts = work.run(choice, spec, output, progress, part)
    print_facts(facts, as_json, lambda results, console: results.show_samples(console, facts, output))


@main.command()
@click.argument("folders", nargs=-1, required=True, type=FOLDER)
@click.option("--output", "-o", type=FOLDER, required=True, help="The folder to write.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as one JSON object.")
@all_or_nothing
def merge(folders: tuple[Path, ...], output: Path, as_json: bool) -> None:
    """Put the parts of `qrft sample --shard` together.

    FOLDERS are those of all parts. What is written is the folder that one command without --shard would have made; the
    same command continues in it, with a larger -k for example.

    Example: qrft merge part-1 part-2 -o samples
    """
    from qrft.commands import merge as work

    facts = work.run(folders, output)
    print_facts(facts, as_json, lambda results, console: results.show_merge(console, facts, output))


@main.command(cls=Command, late=train_options)
@command
def train(base: str, data: Path, output: Path, overrides: tuple[str, ...], threads: int | None, as_json: bool) -> None:
    """Fine-tune BASE on worked solutions.

    What is trained is a QLoRA adapter, or every weight with --set adapter=none. BASE is a model known by name
    (tiny-base, smollm2-135m), a model folder, a hub name or a .gguf file. The same command continues after any stop. On
    several GPUs, start it as accelerate launch -m qrft train ...

    Example: qrft train tiny-base --data training.jsonl -o adapter/ --set num_epochs=2
    """
    from qrft.cli.actions import quiet_libraries
    from qrft.cli.console import Terminal
    from qrft.cli.tables import plain_console
    from qrft.commands import train as work
    from qrft.training.finetune import is_main

    quiet_libraries()
    task = work.task(base, data, overrides, threads=threads)
    if not is_main():  # the first process speaks for all
        work.run(task, output, unwatched)
        return
    facts = work.finished(task, output)
    if facts is None:
        with Terminal(plain_console(stderr=True)).bar("train", len("train")) as progress:
            facts = work.run(task, output, progress)
    print_facts(facts, as_json, lambda results, console: results.show_training(console, facts, output))


def _given() -> dict[str, str]:
    """Return the options on the command line: the parameter's name, and the option as it is written."""
    context = click.get_current_context()
    return {
        option.name: option.opts[0]
        for option in context.command.params
        if option.name and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE
    }


def _refuse(names: Iterable[str], why: str) -> None:
    """Raise UsageError when one of these options was given."""
    from qrft.errors import UsageError

    given = _given()
    for name in names:
        if name in given:
            raise UsageError(f"{given[name]}: {why}")


@main.command(cls=Command, late=grade_options)
@click.option("--output", "-o", type=FILE, required=True, help="The .parquet file to write.")
@all_or_nothing
def grade(output: Path, as_json: bool, **settings: Any) -> None:
    """Judge each of the SAMPLES.

    The verdict says what the answer is, whether it is correct, and whether the equations are right. SAMPLES are JSONL
    or Parquet files, or folders of Parquet files, with a problem_id and a completion per row.

    Example: qrft grade samples/ --problems gsm8k/test -o graded.parquet
    """
    from qrft.commands import grade as work

    settings["judges_paths"] = settings.pop("sound")
    _on_samples(as_json, settings, lambda task: work.run(task, output))


@main.command(cls=Command, late=curate_options)
@click.option("--output", "-o", type=FILE, required=True, help="The .jsonl or .parquet file to write.")
@click.option("--gold/--no-gold", default=True, show_default=True, help="Include the gold solutions.")
@click.option(
    "--pairs",
    type=FILE,
    help="Also write preference pairs (a correct and a wrong path) to this file, in TRL's columns.",
)
@all_or_nothing
def curate(output: Path, gold: bool, pairs: Path | None, as_json: bool, **settings: Any) -> None:
    """Make a training set from the correct and distinct SAMPLES.

    The gold solutions come with it. SAMPLES are JSONL or Parquet files, or folders of Parquet files, with a
    problem_id and a completion per row.

    Example: qrft curate samples/ --problems gsm8k/train -o training.jsonl
    """
    from qrft.commands import curate as work
    from qrft.config.options import from_options
    from qrft.grading.pairing import Pairing
    from qrft.grading.rules import Selection

    pairing = from_options(Pairing, {name: settings.pop(name) for name in Pairing.model_fields})
    selection = from_options(Selection, {name: settings.pop(name) for name in Selection.model_fields})
    if pairs is None:
        _refuse(Pairing.model_fields, "has no effect without --pairs. Leave it out, or add --pairs.")
    written = work.Output(output, gold, pairs, pairing)
    settings["judges_paths"] = selection.sound != "off"
    _on_samples(as_json, settings, lambda task: work.run(task, written, selection))


@main.command(cls=Command, late=evaluate_options)
@click.option(
    "--maj",
    callback=numbers,
    metavar="K,...",
    help="The values of K for maj@K. [default: the powers of 2, and all samples]",
)
@click.option(
    "--pass", "passes", callback=numbers, metavar="K,...", help="The values of K for pass@K. [default: as for --maj]"
)
@all_or_nothing
def evaluate(maj: list[int] | None, passes: list[int] | None, as_json: bool, **settings: Any) -> None:
    """Measure how often SAMPLES are correct.

    It is measured for a single sample (maj1@1), for the most frequent answer of K samples (maj@K), and for at least one
    of K samples (pass@K). SAMPLES are JSONL or Parquet files, or folders of Parquet files, with a problem_id and a
    completion per row. If they are two run folders, the runs are compared problem by problem.

    Example: qrft evaluate samples.jsonl --problems gsm8k/test --maj 4,16
    """
    from qrft.commands import compare

    if any(map(compare.is_run, settings["samples"])) or any(map(compare.runs_within, settings["samples"])):
        _compare(settings["samples"], as_json)
        return
    if settings["problems"] is None:
        raise click.UsageError("Missing option '--problems'. Only the comparison of two run folders works without it.")
    from qrft.commands import evaluate as work

    _on_samples(as_json, settings, lambda task: work.run(task, maj, passes))


def _compare(runs: tuple[Path, ...], as_json: bool) -> None:
    from qrft.commands import compare

    given = [name for name in _given() if name not in ("samples", "as_json")]
    _refuse(given, "applies only to samples. Two run folders are compared as they were evaluated: leave it out.")
    facts = compare.run(runs)
    print_facts(facts, as_json, lambda results, console: results.show_comparison(console, facts))


@main.command()
@click.argument("base")
@click.option(
    "--text",
    type=FILE,
    required=True,
    help='A JSONL file with "text" in each row, or any other file, which is one text.',
)
@click.option(
    "--context", type=click.IntRange(1), default=1024, show_default=True, help="How many tokens a window has."
)
@click.option(
    "--stride",
    type=click.IntRange(1),
    help="How many tokens lie between the starts of successive windows. [default: half of --context]",
)
@click.option("--limit", type=click.IntRange(1), help="How many texts to use, counted from the first. [default: all]")
@click.option("--json", "as_json", is_flag=True, help="Print the results as one JSON object.")
@all_or_nothing
def loss(base: str, text: Path, context: int, stride: int | None, limit: int | None, as_json: bool) -> None:
    """Measure how well BASE predicts a text.

    The loss is given in nats per token and in bits per byte. Only bits per byte can be compared between models with
    different tokenizers. BASE is a model known by name (tiny-base, smollm2-135m), a model folder, a hub name or a .gguf
    file.

    Example: qrft loss tiny-base --text held-out.jsonl
    """
    from qrft.cli.actions import quiet_libraries
    from qrft.commands import loss as work

    quiet_libraries()
    with bar("texts") as progress:
        facts = work.run(base, text, context, stride, limit, progress)
    print_facts(facts, as_json, lambda results, console: results.show_loss(console, facts))


@main.command("import")
@click.argument("files", nargs=-1, required=True, type=FILE)
@click.option(
    "--problems",
    default="gsm8k/train",
    show_default=True,
    help="The problems that the files belong to: a JSONL or Parquet file, or a name.",
)
@click.option(
    "--model",
    help="The model that sampled. [default: the name of the file for a training set, of the folder for samples]",
)
@click.option("--output", "-o", type=FILE, required=True, help="The folder to write, which must not exist yet.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as one JSON object.")
@all_or_nothing
def import_(files: tuple[Path, ...], problems: str, model: str | None, output: Path, as_json: bool) -> None:
    """Import FILES from the paper's repository.

    data/rft/*.jsonl becomes a training set, for `qrft train`. raw_generation_*.json becomes samples, for `qrft grade`,
    `curate` and `evaluate`.

    Example: qrft import data/rft/u13b.jsonl -o u13b
    """
    from qrft.commands import imports as work

    with bar("files") as progress:
        facts = work.run(files, problems, output, model, progress)
    print_facts(facts, as_json, lambda results, console: results.show_import(console, facts, output))


def _on_samples(as_json: bool, settings: dict[str, Any], work: Callable[[Any], dict[str, Any]]) -> None:
    """Do the work of a command on samples, with a bar on stderr, and show what it found on stdout."""
    from qrft.commands.grading import task

    with bytes_bar() as progress:
        facts = work(task(**settings, progress=progress, warn=lambda message: echo(message, err=True)))
    print_facts(facts, as_json, lambda results, console: results.show_facts(console, facts))


@main.command()
@click.argument("run", type=FOLDER)
@click.option("--json", "as_json", is_flag=True, help="Print the results as one JSON object.")
@all_or_nothing
def verify(run: Path, as_json: bool) -> None:
    """Read all of RUN, and say which of its files are damaged.

    RUN is a run folder or a store. `qrft run` notices files that have changed; this also finds what the disk itself has
    lost. The exit code is 1 where something is damaged; the same `qrft run` then makes it again.

    Example: qrft verify runs/tiny
    """
    from qrft.commands import verify as work
    from qrft.errors import DamagedError

    with bar("artifacts") as progress:
        facts = work.run(run, progress)
    print_facts(facts, as_json, lambda results, console: results.show_verified(console, facts))
    if damaged := facts["damaged"]:
        raise DamagedError(
            f"{len(damaged)} of {facts['num_artifacts']} artifacts in {run} are damaged: {', '.join(damaged)}. Run the "
            "same `qrft run` again: it makes them again."
        )


@main.command()
@click.option("--pretrain", is_flag=True, help="Print the schema of a pre-training recipe.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print docs/recipe.md, the page of all keys, instead.")
def schema(pretrain: bool, as_markdown: bool) -> None:
    """Print the JSON schema of a recipe, for editors.

    Example: qrft schema > recipe.schema.json
    """
    if as_markdown:
        from qrft.config.reference import markdown

        click.echo(markdown(), nl=False)
        return
    from qrft.config.load import json_schema
    from qrft.config.pretrain import PretrainRecipe
    from qrft.config.recipe import Recipe

    click.echo(json.dumps(json_schema(PretrainRecipe if pretrain else Recipe), indent=2))


def _named(overrides: tuple[str, ...], name: str | None) -> tuple[str, ...]:
    """Add `--name` to the overrides, in quotes: its value is a text, whatever YAML would make of it."""
    return overrides if name is None else (*overrides, f"name={json.dumps(name)}")


for more in (setup.init, upkeep.doctor, upkeep.ls, upkeep.show, upkeep.gc, browse):
    main.add_command(more)
