"""What a person sees in the terminal: the plan, a bar per stage, the result."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Column, Table

from qrft.progress import Progress
from qrft.report.words import evidence, p_value, plural

if TYPE_CHECKING:
    from qrft.pipeline.graph import Step
    from qrft.planning.forecast import Forecast

MODELS = ("base", "sft", "rft")


class _Lines(logging.Handler):
    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console
        self.told: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Once: trainings of one sweep have the same first example."""
        message = record.getMessage()
        if message not in self.told:
            self.told.add(message)
            self.console.print(message, markup=False, soft_wrap=True)


class Terminal:
    """A pipeline.Watcher that draws on a terminal, and writes plain lines where there is none."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self.lines = _Lines(self.console)

    def plan(self, rows: list[tuple[Step, bool]]) -> None:
        if rows and rows[-1][0].stage == "sweep":
            return self.plan_of_many(rows)
        missing = sum(not is_there for _, is_there in rows)
        table = Table("step", "stage", "reads", "", box=None, header_style="bold", padding=(0, 2, 0, 0))
        for step, is_there in rows:
            table.add_row(step.path, step.stage, reads(step), "there" if is_there else "to do")
        self.console.print(table)
        self.console.print(
            f"\n{len(rows)} steps, {missing} to do.\n"
            if missing
            else f"\nAll {len(rows)} steps are there: nothing to do.\n"
        )

    def plan_of_many(self, rows: list[tuple[Step, bool]]) -> None:
        """How many steps of each stage the runs have, and how many there are to do, equal ones done once."""
        table = Table("stage", "steps", "distinct", "to do", box=None, header_style="bold", padding=(0, 2, 0, 0))
        for column in table.columns[1:]:
            column.justify = "right"
        distinct = {step.digest: (step, is_there) for step, is_there in rows}
        todo = [step.stage for step, is_there in distinct.values() if not is_there]
        every, once = Counter(step.stage for step, _ in rows), Counter(step.stage for step, _ in distinct.values())
        for stage, number in every.items():
            table.add_row(stage, f"{number:,}", f"{once[stage]:,}", f"{todo.count(stage):,}")
        self.console.print(table)
        num_runs = len(rows[-1][0].inputs)
        self.console.print(
            f"\n{plural(num_runs, 'run')}, {len(rows):,} steps, {len(distinct):,} distinct, {len(todo):,} to do.\n"
        )

    def forecast(self, found: Forecast, shows_steps: bool = True) -> None:
        """What `qrft plan` shows: a line a step, the memory by part, sums, and what the figures rest on."""
        if shows_steps:
            self._steps(found)
        self._sums(found)
        self._parts(found)
        self._faults(found)
        if found.assumptions:
            self.console.print(f"\nTaken for granted: {' '.join(found.assumptions)}", style="dim", markup=False)

    def _steps(self, found: Forecast) -> None:
        is_wide = self.console.width >= 110
        head = ["step", *(["stage"] if is_wide else []), "", "tokens", "memory", "disk", "time"]
        table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
        for name in head:
            table.add_column(name, justify="left" if name in ("step", "stage", "") else "right", no_wrap=True)
        if is_wide:
            table.add_column("reads")
        for row in found.rows:
            cells = [row.name, *([row.stage] if is_wide else []), "there" if row.is_there else "to do"]
            cells += [_count(row.tokens), _bytes(row.memory) + ("*" if row.in_ram and found.device.is_gpu else "")]
            cells += [_bytes(row.disk), "" if row.is_there else _duration(row.seconds)]
            style = "dim" if row.is_there else "red" if row.faults else None
            table.add_row(*cells, *([_cut(row.reads, self.console.width - 82)] if is_wide else []), style=style)
        self.console.print(table)

    def _faults(self, found: Forecast) -> None:
        """What is too large, of each stage the largest step and the names of all."""
        for stage in ("train", "sample"):
            if rows := [row for row in found.rows if row.stage == stage and row.faults]:
                names, largest = ", ".join(row.name for row in rows), max(rows, key=lambda row: row.memory)
                verb = "Does" if any(row.memory > found.device.memory for row in rows) else "May"
                text = f"\n{verb} not fit: {names}: {' '.join(largest.faults)}"
                self.console.print(text, style="red", markup=False)

    def _sums(self, found: Forecast) -> None:
        missing, band = len(found.todo), found.speed.band
        if not missing:
            self.console.print(f"\nAll {len(found.rows)} steps are there: nothing to do.")
            return
        if found.seconds is not None:
            time = f"{_duration(found.seconds)}, {_duration(found.seconds / band)} to {_duration(found.seconds * band)}"
        elif found.device.flops is None:
            time = "no speed known for it, so no times"
        else:
            times = [row.seconds for row in found.todo if row.seconds is not None]
            unknown = f"{missing - len(times):,} of the {missing:,} steps have no estimate"
            time = f"{unknown}; the others take {_duration(sum(times))}"
        how = ", measured here" if found.speed.is_measured else ""
        self.console.print(f"\n{len(found.rows):,} steps, {missing:,} to do. Disk: {_bytes(found.disk) or 'no more'}.")
        kind = "GPU memory" if found.device.is_gpu else "of main memory, as there is no GPU"
        self.console.print(f"On {found.device.name}: {_bytes(found.device.memory)} {kind}. Time: {time}{how}.")
        if found.kwh is not None:
            self.console.print(f"Energy at {found.device.watts:.0f} W: {found.kwh:.3g} kWh.")
        if found.cost is not None:
            cost, least, most = map(_money, (found.cost, found.cost / band, found.cost * band))
            self.console.print(f"Cost: {cost}, {least} to {most}.")
        elif found.price is not None:
            self.console.print("Cost: not known without a time and, for a price of a kWh, --watts.")

    def _parts(self, found: Forecast) -> None:
        """Of the largest training and the largest sampling that are to do."""
        largest = [
            max(rows, key=lambda row: row.memory)
            for stage in ("train", "sample")
            if (rows := [row for row in found.todo if row.stage == stage])
        ]
        sized = [row for row in largest if row.parts]  # a server's memory is not ours
        if sized:
            table = Table("memory by part", box=None, header_style="bold", padding=(0, 2, 0, 0))
            for row in sized:
                table.add_column(row.stage, justify="right")
            for part in sized[0].parts:
                if any(row.parts[part] for row in sized):
                    table.add_row(part, *(_bytes(row.parts[part]) for row in sized))
            table.add_row("all", *(f"{_bytes(row.memory)} ± {_bytes(row.error)}" for row in sized), style="bold")
            self.console.print()
            self.console.print(table)
        for row in largest:
            told = "; ".join((row.name, *row.notes))
            self.console.print(f"{row.stage}: {told}", style="dim", markup=False)
        if found.device.is_gpu and any(row.in_ram and not row.is_there for row in found.rows):
            self.console.print("* main memory, not the GPU's", style="dim")

    @contextmanager
    def bar(self, name: str, width: int = 17) -> Iterator[Progress]:
        """A progress bar; without a terminal one line at its end. width: of the name, so that bars stand in line."""
        is_wide = self.console.width >= 100  # else there is room for one time: what is left, at the end what it took
        width = width if is_wide else min(width, len("sft/train"))
        whole = Column(no_wrap=True)  # where room is short, the bar gives way
        bar = Bars(
            TextColumn(f"{{task.description:<{width}}}"),
            BarColumn(bar_width=16),
            MofNCompleteColumn(table_column=whole.copy()),
            *([TimeElapsedColumn(whole.copy())] if is_wide else []),
            TimeRemainingColumn(compact=True, elapsed_when_finished=not is_wide, table_column=whole.copy()),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            refresh_per_second=4,
        )
        with bar, self.messages():
            task = bar.add_task(name, total=None, note="")
            yield lambda done, total, note: bar.update(task, completed=done, total=total, note=note)

    @contextmanager
    def messages(self) -> Iterator[None]:
        """What qrft logs in the meantime, such as an example of a training, as lines above the bar."""
        logger = logging.getLogger("qrft")
        level = logger.level
        logger.addHandler(self.lines)
        logger.setLevel(logging.INFO)
        try:
            yield
        finally:
            logger.removeHandler(self.lines)
            logger.setLevel(level)

    def facts(self, facts: Mapping[str, Any]) -> None:
        """What `grade`, `curate` and `evaluate` found: counts, means, statuses, and shares with their intervals."""
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        table.add_column(style="bold")
        table.add_column(justify="right")
        for name, value in facts.items():
            words = name.removeprefix("num_").replace("_", " ")
            if not isinstance(value, Mapping):
                table.add_row(words, f"{value:,}" if isinstance(value, int) else f"{value:.3f}")
            elif "low" in value:
                between = f"95% interval {value['low']:.1%} to {value['high']:.1%}"
                table.add_row(name, f"{value['value']:.1%}", between if value["low"] < value["high"] else "no interval")
            else:
                table.add_row(words, "", ", ".join(f"{status} {count:,}" for status, count in value.items()))
        self.console.print(table)
        if set(facts.get("answer_statuses", ())) == {"no_marker"}:
            self.console.print("No sample has an answer in this form: try --answer-format auto.")

    def compared(self, facts: Mapping[str, Any]) -> None:
        """Two runs side by side, and which problems only one of them solves."""
        self.console.print(f"A: {facts['first']}\nB: {facts['second']}", soft_wrap=True)
        shown = {"model": "model", "problems": "test set", "few_shot": "examples", "measure": "measure"}
        shown["num_problems"] = "problems"
        for name in ("problems", "few_shot", "num_problems"):  # what is the same in all rows takes no column
            if len(same := {row[name] for row in facts["comparisons"]}) == 1:
                self.console.print(f"{shown.pop(name)}: {same.pop()}", soft_wrap=True)
        self.console.print()
        table = Table(
            *shown.values(), "A", "B", "B - A", "95%", "", box=None, header_style="bold", padding=(0, 2, 0, 0)
        )
        for row in facts["comparisons"]:
            labels = [str(row[name]) for name in shown]
            values = [f"{row[run]['value']:.1%}" for run in ("first", "second")]
            change = f"{100 * row['difference']:+.1f}", f"{100 * row['low']:+.1f} to {100 * row['high']:+.1f}"
            table.add_row(*labels, *values, *change, "" if row["p_value"] is None else p_value(row["p_value"]))
        self.console.print(table)
        self.console.print()
        for row in facts["comparisons"]:
            if row["num_unpaired"]:
                self.console.print(f"{_told(row)}: {row['num_unpaired']:,} problems are in one run alone, not counted.")
            for run, found in (("A", row["only_first"]), ("B", row["only_second"])):
                if found:
                    told = f"{_told(row)}: only {run} solves {len(found):,}: {_some(found)}"
                    self.console.print(told, soft_wrap=True)

    def loss(self, facts: Mapping[str, Any]) -> None:
        """What `qrft loss` measured, each figure with its standard error."""
        for name, unit in (("nats_per_token", "nats a token"), ("bits_per_byte", "bits a byte")):
            error = facts[f"{name}_error"]
            between = f", standard error {error:.4f}" if error is not None else ""
            self.console.print(f"{facts[name]:.4f} {unit}{between}")
        self.console.print(
            f"{facts['num_texts']:,} texts, {facts['num_tokens']:,} tokens, {facts['num_bytes']:,} bytes; "
            f"windows of {facts['context']} tokens, {facts['stride']} apart; {facts['seconds']:.1f} s",
            soft_wrap=True,
        )

    def imported(self, facts: Mapping[str, Any], folder: Path) -> None:
        """What `qrft import` found."""
        what = {"training": "training rows", "samples": "samples"}[facts["kind"]]
        sources = ", ".join(f"{name} {count:,}" for name, count in facts["rows_by_source"].items())
        covered = f"{facts['num_problems_with_rows']:,} of {facts['num_problems']:,} problems"
        self.console.print(f"{folder}: {facts['num_rows']:,} {what} of {covered}; {sources}", soft_wrap=True)
        if facts.get("num_repeated"):
            self.console.print(f"Left out: {facts['num_repeated']:,} rows that a file repeats.")
        if facts.get("num_gold_twice"):
            self.console.print(f"Left out: {facts['num_gold_twice']:,} gold solutions that a file before had.")

    def family(self, cards: Mapping[str, Mapping[str, Any]]) -> None:
        """The bases of a family, the best predictor first."""
        table = Table("base", box=None, header_style="bold", padding=(0, 2, 0, 0))
        for title in ("parameters", "tokens", "nats a token", "bits a byte"):
            table.add_column(title, justify="right")
        for name, card in sorted(cards.items(), key=lambda item: float(item[1]["held_out"]["nats_per_token"])):
            losses = (f"{card['held_out'][key]:.4f}" for key in ("nats_per_token", "bits_per_byte"))
            table.add_row(name, f"{card['num_parameters']:,}", f"{card['num_tokens']:,}", *losses)
        self.console.print(table)

    def sampled(self, facts: Mapping[str, Any], folder: Path) -> None:
        """What `qrft sample` made, in one line, and with `until` a line per pass."""
        for row in facts.get("rounds", []):
            self.console.print(
                f"up to {row['samples_per_problem']} a problem: {row['num_problems']:,} problems, "
                f"{row['num_samples']:,} samples, {row['num_tokens']:,} tokens; then {row['num_satisfied']:,} of "
                f"{facts['num_problems']:,} problems had enough",
                soft_wrap=True,
            )
        reasons = facts["finish_reasons"]
        self.console.print(
            f"{facts['num_samples']:,} samples, {facts['num_tokens']:,} tokens in {folder}; "
            f"{reasons['stop']:.1%} ended by end of text, {reasons['stop_text']:.1%} by a stop text, "
            f"{reasons['length']:.1%} by the length limit; {_new_ones(facts)}.",
            soft_wrap=True,
        )
        if (speedup := facts.get("merged_speedup")) is not None:
            faster = "merged into the base" if speedup > 1.02 else "applied at run time, as it was"
            self.console.print(f"The adapter is faster {faster}: merged it runs at {speedup:.2f} times the speed.")

    def trained(self, facts: Mapping[str, Any], folder: Path) -> None:
        """What `qrft train` made, in one line."""
        new = "" if facts["is_new"] else " It was there: nothing to do."
        fates = [("num_dropped", "more left out"), ("num_cut", "cut")]
        less = "".join(f", {facts[key]:,} {fate}" for key, fate in fates if facts[key])
        examples = plural(facts["num_examples"], "example") + less
        work = f"{facts['num_steps']:,} steps, {facts['num_tokens']:,} tokens in {facts['seconds']:,.0f} s"
        self.console.print(
            f"{folder}: {examples}; {work}, {facts['tokens_per_second']:,.0f} tokens/s, {facts['padding_share']:.1%} "
            f"padding, at most {facts['peak_memory_bytes'] / 2**30:.1f} GiB; loss {facts['final_loss']:.3f}.{new}",
            soft_wrap=True,
        )

    def result(self, summary: Mapping[str, Any], run_dir: Path) -> None:
        """The table at the end of a run."""
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        table.add_column(style="bold")
        table.add_row("", "accuracy", "95% interval", style="dim")
        for model in MODELS:
            if row := summary.get(model):
                table.add_row(model.upper(), f"{row['accuracy']:.1%}", f"{row['low']:.1%} to {row['high']:.1%}")
        if "rft" in summary:
            table.add_row("gain", f"{100 * summary['gain']:+.1f}", f"points, RFT over SFT; {evidence(summary)}")
            table.add_row(
                "paths", f"{summary['paths_per_problem']:.2f}", "new ones kept per problem, beside the gold one"
            )
        self.console.print()
        self.console.print(table)
        self.console.print()
        for line in summary["explained"]:
            self.console.print(f"- {line}")
        self.console.print(f"\nSeconds: {spent(summary['seconds'])}")
        self.console.print(f"Report:  {run_dir / 'report.html'}", soft_wrap=True)

    def rows(self, rows: Sequence[Mapping[str, Any]], run_dir: Path) -> None:
        """The table at the end of a sweep, or of a run of several models: accuracies in percent."""
        table = Table("run", "model", *(model.upper() for model in MODELS), "paths", box=None, header_style="bold")
        for column in table.columns[2:]:
            column.justify = "right"
        for row in rows:
            found = [row.get(f"{model}.accuracy") for model in MODELS]
            shares = ["" if value is None else f"{value:.1%}" for value in found]
            paths = f"{row['distinct_paths']:.2f}" if "distinct_paths" in row else ""
            table.add_row(row["variant"], row["model"], *shares, paths)
        self.console.print()
        self.console.print(table)
        self.console.print(f"\nTable:  {run_dir / 'sweep.csv'}", soft_wrap=True)
        self.console.print(f"Report: {run_dir / 'report.html'}", soft_wrap=True)


def _told(row: Mapping[str, Any]) -> str:
    """The model and what it was measured on."""
    examples = f", {row['few_shot']} examples" if row["few_shot"] else ""
    return f"{row['model']} on {row['problems']}{examples}, {row['measure']}"


def _some(names: Sequence[str], most: int = 10) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def _new_ones(facts: Mapping[str, Any]) -> str:
    if not facts["num_new"]:
        return "all were there: nothing to do"
    words = f"{facts['num_new']:,} new ones at {facts['tokens_per_second']:,.0f} tokens/s"
    if "decode_share" not in facts:
        return words
    return f"{words}, {facts['decode_share']:.0%} of the time in decode, {facts['pick_share']:.0%} in picking"


def spent(seconds: Mapping[str, float]) -> str:
    """The steps that took a second or more, and the whole."""
    long = ", ".join(f"{name} {value:.0f}" for name, value in seconds.items() if value >= 1)
    return f"{sum(seconds.values()):.0f} in all; {long}"


def reads(step: Step) -> str:
    names = [source.path if isinstance(source.path, str) else source.path.name for source in step.inputs.values()]
    return ", ".join(names) if len(names) <= 4 else f"{len(names)} steps"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 3]}..."


def _count(number: float) -> str:
    """1,234 as 1.2k; nothing for 0."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.{0 if number >= 100 * size else 1}f}{unit}"
    return str(round(number)) if number else ""


def _bytes(size: float) -> str:
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size >= unit:
            return f"{size / unit:.{0 if size >= 100 * unit else 1}f} {name}"
    return f"{size:.0f} B" if size else ""


def _money(amount: float) -> str:
    return f"{amount:.2f}" if amount >= 0.1 else f"{amount:.1g}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    if seconds < 1:
        return "< 1 s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
