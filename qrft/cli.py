"""The command line. Heavy modules are imported by the command that needs them: `qrft --help` is instant."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from qrft.errors import QrftError


def command(function: Callable[..., None]) -> Callable[..., None]:
    """A QrftError ends the command with its message and its exit code, without a traceback."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            function(*args, **kwargs)
        except QrftError as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("\nStopped. What is finished is kept: run the same command again.", err=True)
            sys.exit(130)

    return wrapped


OVERRIDES = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a key of the recipe by its path, such as sample.num_samples=10. Can be repeated.",
)
OUTPUT_DIR = click.option(
    "--output-dir",
    "-o",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="Where the run folders and the store lie.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="qrft")
def main() -> None:
    """Teach a language model to reason with its own correct answers (RFT), on one GPU or on none."""


@main.command()
@click.argument("recipe")
@OVERRIDES
@OUTPUT_DIR
@click.option("--name", help="Name of the run folder in place of the recipe's.")
@command
def run(recipe: str, overrides: tuple[str, ...], output_dir: Path, name: str | None) -> None:
    """Do all of RECIPE: SFT, sample, grade, keep what is right and new, fine-tune again, evaluate, report.

    What is there already is not done again, so the same command goes on after any stop.
    """
    from qrft import console
    from qrft import run as runs

    runs.run(recipe, _named(overrides, name), output_dir, console.Terminal())


@main.command()
@click.argument("recipe")
@OVERRIDES
@OUTPUT_DIR
@command
def plan(recipe: str, overrides: tuple[str, ...], output_dir: Path) -> None:
    """Show the steps of RECIPE and which of them are there."""
    from qrft import console
    from qrft import run as runs

    runs.show_plan(recipe, overrides, output_dir, console.Terminal())


@main.command()
@click.argument("recipe")
@OVERRIDES
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="The model's folder; must not exist."
)
@command
def pretrain(recipe: str, overrides: tuple[str, ...], out: Path) -> None:
    """Make a tiny base model from nothing, as RECIPE says."""
    from qrft import console
    from qrft import run as runs

    runs.pretrain(recipe, overrides, out, console.Terminal())


@main.command()
@click.option("--pretrain", is_flag=True, help="The schema of a pre-training recipe.")
def schema(pretrain: bool) -> None:
    """Print the JSON schema of a recipe, for editors."""
    from qrft.recipe import PretrainRecipe, Recipe, json_schema

    click.echo(json.dumps(json_schema(PretrainRecipe if pretrain else Recipe), indent=2))


def _named(overrides: tuple[str, ...], name: str | None) -> tuple[str, ...]:
    """`--name` among the overrides, in quotes: its value is a text whatever YAML would make of it."""
    return overrides if name is None else (*overrides, f"name={json.dumps(name)}")
