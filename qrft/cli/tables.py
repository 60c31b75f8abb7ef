"""What all tables of the terminal share: their look, and numbers with units."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table

from qrft.cli.visible import visible


class _Console(Console):
    """A console that sends only its own control codes, those of bars and styles, and none from data."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))


def plain_console(*, stderr: bool = False) -> Console:
    """Return a console that does not colour numbers and paths."""
    return _Console(stderr=stderr, highlight=False)


def plain_table(*titles: str, show_header: bool = True) -> Table:
    """Return a table without lines, which reads as well in a file as on a terminal."""
    return Table(*titles, box=None, header_style="bold", padding=(0, 2, 0, 0), show_header=show_header)


def cut(text: str, width: int) -> str:
    """Return a text that fits into `width` characters, with dots where its end was cut off."""
    return text if len(text) <= width else f"{text[: width - 3]}..."


def count(number: float) -> str:
    """Return 1,234 as 1.2k, and nothing for 0."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.{0 if number >= 100 * size else 1}f}{unit}"
    return str(round(number)) if number else ""


def size(num_bytes: float) -> str:
    """Return a number of bytes in its largest unit, such as 1.5 GiB, and nothing for 0."""
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if num_bytes >= unit:
            return f"{num_bytes / unit:.{0 if num_bytes >= 100 * unit else 1}f} {name}"
    return f"{num_bytes:.0f} B" if num_bytes else ""


def money(amount: float) -> str:
    """Return an amount with two digits after the point, or one significant digit where it is small."""
    return f"{amount:.2f}" if amount >= 0.1 else f"{amount:.1g}"


def duration(seconds: float | None) -> str:
    """Return an estimated time in one unit, such as 12 s, 3 min or 2.5 h, and ? where it is unknown."""
    if seconds is None:
        return "?"
    if seconds < 1:
        return "< 1 s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
