"""The command that shows samples in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qrft.cli.common import bytes_bar, ends_with_a_message
from qrft.cli.fields import Command
from qrft.cli.options import browse_options
from qrft.cli.visible import echo

if TYPE_CHECKING:
    from qrft.browse.bank import Bank


@click.command(cls=Command, late=browse_options)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="The port to serve on. [default: any free one]")
@ends_with_a_message("The pages are gone.")
def browse(port: int, **settings: Any) -> None:
    """Show SAMPLES in a browser, to search and compare.

    SAMPLES is a run folder, or JSONL and Parquet files with the --problems that they solve. The pages are served on
    this machine alone, to whoever has the address that is printed, until Ctrl-C. Nothing is written but a temporary
    file of the texts.

    Example: qrft browse runs/tiny
    """
    from qrft.browse.server import Server

    bank = _bank(settings)
    name = ", ".join(path.name for path in settings["samples"])
    with Server(bank, name, port) as server:
        click.echo(f"{len(bank):,} samples: {server.address}\nCtrl-C ends it.")
        server.serve_forever()


def _bank(settings: dict[str, Any]) -> Bank:
    from qrft.browse import bank
    from qrft.commands.grading import task

    samples: tuple[Path, ...] = settings["samples"]
    if settings["problems"] is None:
        if len(samples) == 1 and samples[0].is_dir() and not list(samples[0].glob("*.parquet")):
            return bank.of_run(samples[0])
        raise click.UsageError("Missing option '--problems'. Only a run folder needs none, and it comes alone.")
    settings["judges_paths"] = settings.pop("sound")
    with bytes_bar() as progress:
        return bank.of_files(task(**settings, progress=progress, warn=lambda message: echo(message, err=True)))
