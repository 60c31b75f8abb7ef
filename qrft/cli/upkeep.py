"""The commands about the machine and the runs on it: doctor, ls, show, gc."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from qrft.cli.common import all_or_nothing, print_facts
from qrft.cli.options import FILE, OUTPUT_DIR

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print the results as one JSON object.")


@click.command()
@OUTPUT_DIR
@AS_JSON
@all_or_nothing
def doctor(output_dir: Path, as_json: bool) -> None:
    """Check this machine, and say how to repair what is wrong.

    There is a line for each part: GPU, driver, torch, llama.cpp, other packages, memory, disk, hub. The exit code is 1
    where `qrft run` can't do its work, or would leave the GPU of this machine unused.

    Example: qrft doctor
    """
    from qrft.cli import upkeep_tables as tables
    from qrft.commands import doctor as work

    facts = work.run(output_dir)
    print_facts(facts, as_json, lambda _, console: tables.show_checks(console, facts))
    if not facts["is_ready"]:
        sys.exit(1)


@click.command()
@OUTPUT_DIR
@AS_JSON
@all_or_nothing
def ls(output_dir: Path, as_json: bool) -> None:
    """List the runs in a folder, the newest last.

    Each has its state, its accuracies, its time, and what it alone takes on the disk: what several runs stand on is
    counted for none.

    Example: qrft ls -o runs
    """
    from qrft.cli import upkeep_tables as tables
    from qrft.commands import runs as work

    facts = work.ls(output_dir)
    print_facts(facts, as_json, lambda _, console: tables.show_runs(console, facts))


@click.command()
@click.argument("run", type=FILE)
@OUTPUT_DIR
@AS_JSON
@all_or_nothing
def show(run: Path, output_dir: Path, as_json: bool) -> None:
    """Show what RUN did: its figures, and the time of each step.

    RUN is a run's folder, or its name in the folder of the runs.

    Example: qrft show runs/tiny
    """
    from qrft.cli import upkeep_tables as tables
    from qrft.commands import runs as work

    facts = work.show(run, output_dir)
    print_facts(facts, as_json, lambda _, console: tables.show_one_run(console, facts))


@click.command()
@OUTPUT_DIR
@click.option("--yes", is_flag=True, help="Remove it without asking.")
@AS_JSON
@all_or_nothing
def gc(output_dir: Path, yes: bool, as_json: bool) -> None:
    """Remove what no run needs any more, after asking.

    It goes: steps that no run in the folder stands on, such as those of a run whose folder you have deleted; the work
    of stopped steps, once every run is done; half-made outputs of `qrft train` and `pretrain`. What qrft did not make
    stays, and no link is followed.

    Example: rm -r runs/old && qrft gc
    """
    from qrft.cli import upkeep_tables as tables
    from qrft.commands import collect as work

    facts = {**work.plan(output_dir), "removed": False}
    if not as_json:
        print_facts(facts, False, lambda _, console: tables.show_garbage(console, facts))
    if facts["things"] and (yes or (not as_json and sys.stdin.isatty() and click.confirm("Remove all of it?"))):
        facts = {**work.collect(output_dir), "removed": True}
    if as_json:
        print_facts(facts, True, lambda _, console: None)
    elif facts["removed"]:
        click.echo("Removed.")
    elif facts["things"]:
        click.echo("Nothing was removed. Add --yes to remove it.")
