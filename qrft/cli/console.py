"""The terminal while a command works: progress bars, and what qrft logs above them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich import progress as bars
from rich.console import Console
from rich.table import Column

from qrft.cli.plan_tables import show_counts, show_steps
from qrft.cli.tables import plain_console
from qrft.progress import Progress

if TYPE_CHECKING:
    from qrft.pipeline.graph import Step


class _Lines(logging.Handler):
    """Prints each message once: the trainings of a sweep have the same first example."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console
        self.printed: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message not in self.printed:
            self.printed.add(message)
            self.console.print(message, markup=False, soft_wrap=True)


class Terminal:
    """A qrft.pipeline.execute.Watcher that draws on a terminal, and writes plain lines where there is none."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or plain_console()
        self.lines = _Lines(self.console)

    def plan(self, rows: list[tuple[Step, bool]]) -> None:
        """Show the steps of a run, or of a sweep how many there are of each stage."""
        if rows and rows[-1][0].stage == "sweep":
            show_counts(self.console, rows)
        else:
            show_steps(self.console, rows)

    @contextmanager
    def bar(self, name: str, width: int = 17) -> Iterator[Progress]:
        """Show a progress bar, or without a terminal one line at its end. width: of the longest name, to align bars."""
        is_wide = self.console.width >= 100  # otherwise only one time fits: what is left, and at the end what it took
        width = width if is_wide else min(width, len("sft/train"))
        with (
            bars.Progress(*_columns(is_wide, width), console=self.console, refresh_per_second=4) as bar,
            self.messages(),
        ):
            task = bar.add_task(name, total=None, note="")
            yield lambda done, total, note: bar.update(task, completed=done, total=total, note=note)

    @contextmanager
    def messages(self) -> Iterator[None]:
        """Print what qrft logs in the meantime, such as an example of a training, above the bar."""
        logger = logging.getLogger("qrft")
        level = logger.level
        if self.lines in logger.handlers:  # a bar within other work that prints them
            yield
            return
        logger.addHandler(self.lines)
        logger.setLevel(logging.INFO)
        try:
            yield
        finally:
            logger.removeHandler(self.lines)
            logger.setLevel(level)


def _columns(is_wide: bool, width: int) -> list[bars.ProgressColumn]:
    whole = Column(no_wrap=True)  # where room is short, the bar gives way
    elapsed = [bars.TimeElapsedColumn(whole.copy())] if is_wide else []
    return [
        bars.TextColumn(f"{{task.description:<{width}}}"),
        bars.BarColumn(bar_width=16),
        bars.MofNCompleteColumn(table_column=whole.copy()),
        *elapsed,
        bars.TimeRemainingColumn(compact=True, elapsed_when_finished=not is_wide, table_column=whole.copy()),
        bars.TextColumn("{task.fields[note]}"),
    ]
