"""What `qrft doctor`, `init`, `ls`, `show` and `gc` show: the machine, and the runs on it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from qrft.cli.results import show_rows, show_run
from qrft.cli.tables import duration, plain_table, size
from qrft.report.words import plural


def show_checks(console: Console, facts: Mapping[str, Any]) -> None:
    """Show a line for each part of the machine, and below what is not fine how to repair it, in one piece."""
    for check in facts["checks"]:
        status = {"fine": "ok", "advice": "note", "fault": "FAULT"}[check["status"]]
        line = textwrap.fill(
            f"{status:<6} {check['name']:<16} {check['found']}", console.width, subsequent_indent=" " * 24
        )
        console.print(line, markup=False, style="bold" if check["fix"] else None)
        if check["fix"]:
            console.print(f"       {check['fix']}", soft_wrap=True, markup=False)
    faults = sum(check["status"] == "fault" for check in facts["checks"])
    words = "Ready: `qrft run` can do its work here." if facts["is_ready"] else f"Not ready: {plural(faults, 'fault')}."
    console.print(f"\n{words}")


def show_runs(console: Console, facts: Mapping[str, Any]) -> None:
    """Show a line for each run in a folder."""
    if not facts["runs"]:
        console.print(f"No runs in {facts['folder']}. Start one: qrft run RECIPE -o {facts['folder']}", soft_wrap=True)
        return
    table = plain_table("run", "state", "from")
    for title in ("base", "SFT", "RFT", "gain", "time", "alone"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in facts["runs"]:
        accuracy = [
            f"{row['accuracy'][name]:.1%}" if name in row["accuracy"] else "" for name in ("base", "sft", "rft")
        ]
        gain = "" if row["gain"] is None else f"{100 * row['gain']:+.1f}"
        state = f"{row['num_runs']} runs" if row["num_runs"] > 1 else row["state"]
        cells = [*accuracy, gain, duration(row["seconds"]), size(row["num_bytes_alone"]) or "0 B"]
        table.add_row(row["name"], state, row["created"][:10], *cells)
    console.print(table)


def show_one_run(console: Console, facts: Mapping[str, Any]) -> None:
    """Show what a run did: of what, its figures as after `qrft run`, and its steps."""
    problems = facts["problems"]
    console.print(f"{facts['name']}: {facts['state']}, {facts['created'][:16].replace('T', ' ')} UTC", markup=False)
    told = f"{', '.join(facts['base_models'])}; trained on {problems['train']}, measured on {problems['test']}"
    console.print(told, markup=False, soft_wrap=True)
    folder, results = Path(facts["folder"]), facts["results"]
    try:
        if "rows" in results:
            show_rows(console, results["rows"], folder)
        elif results:
            show_run(console, results, folder)
    except KeyError:
        page = folder / "report.html"
        console.print(
            f"\nIts figures were written by another version of qrft: see {page}.", soft_wrap=True, markup=False
        )
    console.print()
    table = plain_table("step")
    for title in ("time", "size"):
        table.add_column(title, justify="right")
    table.add_column("made")
    for row in facts["steps"]:
        made = str(row["created"])[:16].replace("T", " ")
        table.add_row(row["step"], duration(row["seconds"]), size(row["num_bytes"]), made)
    console.print(table)
    console.print(f"\n{plural(len(facts['steps']), 'step')}, {duration(facts['seconds'])}, {size(facts['num_bytes'])}")
    if facts["lost"]:
        console.print(
            f"Gone or damaged: {', '.join(facts['lost'])}. The same `qrft run` makes them again.", markup=False
        )
    if facts["state"] == "not finished":
        again = f"qrft run {folder / 'recipe.yaml'} -o {folder.parent}"
        console.print(f"It goes on from here with: {again}", soft_wrap=True, markup=False)


def show_garbage(console: Console, facts: Mapping[str, Any]) -> None:
    """Show what can go from a folder of runs, why, and how much it frees; and what is left."""
    for path, reason in facts["left"].items():
        console.print(f"Left: {path}: {reason}.", soft_wrap=True, markup=False)
    if not facts["things"]:
        console.print(f"Nothing to remove: all of {facts['folder']} is needed by {plural(facts['num_runs'], 'run')}.")
        return
    table = plain_table(show_header=False)
    table.add_column(justify="right", no_wrap=True)
    table.add_column()
    table.add_column()
    for thing in facts["things"]:
        table.add_row(size(thing["num_bytes"]), thing["path"], thing["reason"])
    console.print(table)
    console.print(f"\n{plural(len(facts['things']), 'folder')}, {size(facts['num_bytes']) or '0 B'} to free.")


def show_new_recipe(console: Console, facts: Mapping[str, Any]) -> None:
    """Show which recipe was written, what it chose, and what comes next."""
    values = facts["values"]
    problems = values["problems"].get("num_train", "all")
    chosen = f"{values['sample']['num_samples']} samples for {problems} problems, about {duration(facts['seconds'])}"
    console.print(f"{facts['recipe']}: {chosen} on {facts['device']}.", soft_wrap=True, markup=False)
    console.print(f"Next: qrft plan {facts['recipe']}, then qrft run {facts['recipe']}", soft_wrap=True, markup=False)
