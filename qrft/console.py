"""What a person sees in the terminal: the plan, a bar per stage, the result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column, Table

if TYPE_CHECKING:
    from qrft.pipeline import Step


class Terminal:
    """A pipeline.Watcher that draws on a terminal, and writes plain lines where there is none."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)

    def plan(self, rows: list[tuple[Step, bool]]) -> None:
        missing = sum(not is_there for _, is_there in rows)
        table = Table("step", "stage", "reads", "", box=None, header_style="bold", padding=(0, 2, 0, 0))
        for step, is_there in rows:
            table.add_row(step.name, step.stage, reads(step), "there" if is_there else "to do")
        self.console.print(table)
        self.console.print(
            f"\n{len(rows)} steps, {missing} to do.\n"
            if missing
            else f"\nAll {len(rows)} steps are there: nothing to do.\n"
        )

    @contextmanager
    def bar(self, name: str, width: int = 17) -> Iterator[Callable[[int, int, str], None]]:
        """A progress bar; without a terminal one line at its end. width: of the name, so that bars stand in line."""
        bar = Progress(
            TextColumn(f"{{task.description:<{width}}}"),
            BarColumn(bar_width=16),
            TextColumn("{task.completed}/{task.total}", justify="right", table_column=Column(no_wrap=True)),
            TimeElapsedColumn(Column(min_width=7)),  # where room is short, the bar gives way
            TimeRemainingColumn(compact=True, table_column=Column(min_width=5)),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            refresh_per_second=4,
        )
        with bar:
            task = bar.add_task(name, total=None, note="")
            yield lambda done, total, note: bar.update(task, completed=done, total=total, note=note)

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
                table.add_row(name, f"{value['value']:.1%}", f"95% interval {value['low']:.1%} to {value['high']:.1%}")
            else:
                table.add_row(words, "", ", ".join(f"{status} {count:,}" for status, count in value.items()))
        self.console.print(table)

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
        """What `qrft sample` made, in one line, and with `until` a line a round."""
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

    def result(self, summary: Mapping[str, Any], run_dir: Path) -> None:
        """The table at the end of a run."""
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        table.add_column(style="bold")
        table.add_row("", "accuracy", "95% interval", style="dim")
        for model in ("base", "sft", "rft"):
            row = summary[model]
            table.add_row(model.upper(), f"{row['accuracy']:.1%}", f"{row['low']:.1%} to {row['high']:.1%}")
        table.add_row("gain", f"{100 * summary['gain']:+.1f}", f"points, RFT over SFT; p = {summary['p_value']:.2g}")
        table.add_row("paths", f"{summary['paths_per_problem']:.2f}", "new ones kept per problem, beside the gold one")
        self.console.print()
        self.console.print(table)
        self.console.print()
        for line in summary["explained"]:
            self.console.print(f"- {line}")
        self.console.print(f"\nSeconds: {spent(summary['seconds'])}")
        self.console.print(f"Report:  {run_dir / 'report.html'}", soft_wrap=True)


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
    names = [getattr(source, "name", None) or source.path.name for source in step.inputs.values()]  # type: ignore[union-attr]
    return ", ".join(names) if len(names) <= 4 else f"{len(names)} steps"
