"""The commands about the machine and the runs on it: doctor."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from qrft.cli.common import all_or_nothing, print_facts
from qrft.cli.options import OUTPUT_DIR

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
    from qrft.commands import doctor as work

    facts = work.run(output_dir)
    print_facts(facts, as_json, lambda results, console: results.show_checks(console, facts))
    if not facts["is_ready"]:
        sys.exit(1)
