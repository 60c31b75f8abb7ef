"""The tables of a plan: its steps, and what they need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from qrft.cli.tables import count, cut, duration, money, plain_table, size
from qrft.report.words import plural

if TYPE_CHECKING:
    from qrft.pipeline.graph import Step
    from qrft.planning.forecast import Forecast, Row

DONE, TO_DO = "done", "to do"


def show_steps(console: Console, rows: Sequence[tuple[Step, bool]]) -> None:
    """Show the steps of a run, each with whether it is done."""
    table = plain_table("step", "stage", "reads", "")
    for step, is_done in rows:
        table.add_row(step.path, step.stage, reads(step), DONE if is_done else TO_DO)
    console.print(table)
    missing = sum(not is_done for _, is_done in rows)
    console.print(f"\n{len(rows)} steps, {missing} to do.\n" if missing else f"\n{_all_done(len(rows))}\n")


def show_counts(console: Console, rows: Sequence[tuple[Step, bool]]) -> None:
    """Show how many steps of each stage the runs of a sweep have, and how many are to do. Equal steps are done once."""
    table = plain_table("stage", "steps", "distinct", "to do")
    for column in table.columns[1:]:
        column.justify = "right"
    distinct = {step.digest: (step, is_done) for step, is_done in rows}
    todo = [step.stage for step, is_done in distinct.values() if not is_done]
    every, once = Counter(step.stage for step, _ in rows), Counter(step.stage for step, _ in distinct.values())
    for stage, number in every.items():
        table.add_row(stage, f"{number:,}", f"{once[stage]:,}", f"{todo.count(stage):,}")
    console.print(table)
    runs = plural(len(rows[-1][0].inputs), "run")
    console.print(f"\n{runs}, {len(rows):,} steps, {len(distinct):,} distinct, {len(todo):,} to do.\n")


def reads(step: Step) -> str:
    """Return the names of what a step reads, or how many steps they are."""
    names = [source.path if isinstance(source.path, str) else source.path.name for source in step.inputs.values()]
    return ", ".join(names) if len(names) <= 4 else f"{len(names)} steps"


def _all_done(num_steps: int) -> str:
    return f"All {num_steps} steps are done: nothing to do."


# ------------------------------------------------------------------------------------------------------- what it needs


def show_forecast(console: Console, forecast: Forecast, *, shows_steps: bool = True) -> None:
    """Show what `qrft plan` found: a line per step, sums, the memory by part, and what the figures rest on."""
    if shows_steps:
        _show_needs(console, forecast)
    _show_sums(console, forecast)
    _show_memory(console, forecast)
    _show_faults(console, forecast)
    if forecast.assumptions:
        console.print(f"\nAssumptions: {' '.join(forecast.assumptions)}", style="dim", markup=False)


def _show_needs(console: Console, forecast: Forecast) -> None:
    is_wide = console.width >= 110
    table = plain_table()
    for name in ["step", *(["stage"] if is_wide else []), "", "tokens", "memory", "disk", "time"]:
        table.add_column(name, justify="left" if name in ("step", "stage", "") else "right", no_wrap=True)
    if is_wide:
        table.add_column("reads")
    for row in forecast.rows:
        style = "dim" if row.is_there else "red" if row.faults else None
        name, *needs = _needs(row, forecast.device.is_gpu)
        wide = [row.stage], [cut(row.reads, console.width - 82)]
        table.add_row(*([name, *wide[0], *needs, *wide[1]] if is_wide else [name, *needs]), style=style)
    console.print(table)


def _needs(row: Row, has_gpu: bool) -> list[str]:
    return [
        row.name,
        DONE if row.is_there else TO_DO,
        count(row.tokens),
        size(row.memory) + ("*" if row.in_ram and has_gpu else ""),
        size(row.disk),
        "" if row.is_there else duration(row.seconds),
    ]


def _show_sums(console: Console, forecast: Forecast) -> None:
    missing, device = len(forecast.todo), forecast.device
    if not missing:
        console.print(f"\n{_all_done(len(forecast.rows))}")
        return
    disk = size(forecast.disk) or "no more"
    console.print(f"\n{len(forecast.rows):,} steps, {missing:,} to do. Disk: {disk}.")
    kind = f"GPU memory, {size(device.ram)} of main memory" if device.is_gpu else "main memory, as there is no GPU"
    console.print(f"On {device.name}: {size(device.memory)} of {kind}. Time: {_time(forecast)}.")
    if forecast.kwh is not None:
        console.print(f"Energy at {device.watts:.0f} W: {forecast.kwh:.3g} kWh.")
    if forecast.cost is not None:
        band = forecast.speed.band
        cost, least, most = map(money, (forecast.cost, forecast.cost / band, forecast.cost * band))
        console.print(f"Cost: {cost}, {least} to {most}.")
    elif forecast.price is not None:
        console.print("Cost: unknown. It needs a known time and, for a price per kWh, --watts.")


def _time(forecast: Forecast) -> str:
    if forecast.seconds is None:
        return _partial_time(forecast)
    band = forecast.speed.band
    how = ", measured here" if forecast.speed.is_measured else ""
    return (
        f"{duration(forecast.seconds)}, {duration(forecast.seconds / band)} to {duration(forecast.seconds * band)}{how}"
    )


def _partial_time(forecast: Forecast) -> str:
    if forecast.device.flops is None:
        return "unknown, because no speed of this GPU is known"
    times = [row.seconds for row in forecast.todo if row.seconds is not None]
    unknown, missing = len(forecast.todo) - len(times), len(forecast.todo)
    return f"{unknown:,} of the {missing:,} steps have no estimate; the others take {duration(sum(times))}"


def _show_memory(console: Console, forecast: Forecast) -> None:
    """Show the memory by part of the largest training and the largest sampling that are to do."""
    largest = [
        max(rows, key=lambda row: row.memory)
        for stage in ("train", "sample")
        if (rows := [row for row in forecast.todo if row.stage == stage])
    ]
    if sized := [row for row in largest if row.parts]:  # a server's memory is not this machine's
        console.print()
        console.print(_memory_by_part(sized))
    for row in largest:
        console.print(f"{row.stage}: {'; '.join((row.name, *row.notes))}", style="dim", markup=False)
    if forecast.device.is_gpu and any(row.in_ram and not row.is_there for row in forecast.rows):
        console.print("* in main memory, not on the GPU", style="dim")


def _memory_by_part(rows: Sequence[Row]) -> Table:
    table = plain_table("memory by part")
    for row in rows:
        table.add_column(row.stage, justify="right")
    for part in rows[0].parts:
        if any(row.parts[part] for row in rows):
            table.add_row(part, *(size(row.parts[part]) for row in rows))
    table.add_row("total", *(f"{size(row.memory)} ± {size(row.error)}" for row in rows), style="bold")
    return table


def _show_faults(console: Console, forecast: Forecast) -> None:
    """Show what is too large: the names of all such steps of a stage, and what the largest one needs."""
    for stage in ("train", "export", "sample"):
        if rows := [row for row in forecast.rows if row.stage == stage and row.faults]:
            names, largest = ", ".join(row.name for row in rows), max(rows, key=lambda row: row.memory)
            is_sure = any(row.memory > forecast.device.available(row.in_ram) for row in rows)
            verb = "Does" if is_sure else "May"
            console.print(f"\n{verb} not fit: {names}: {' '.join(largest.faults)}", style="red", markup=False)
