"""What all commands share: how they end, and how they show that they work and what they found."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import click

from qrft.cli.interrupts import drop_output, ends_when_told, output_is_gone
from qrft.cli.visible import echo
from qrft.errors import QrftError
from qrft.progress import Progress, unwatched

if TYPE_CHECKING:
    from rich.console import Console


def ends_with_a_message(stopped: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """End a command on a QrftError with its message and exit code, and without a traceback; on Ctrl-C and its like with
    `stopped`."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> None:
            try:
                with ends_when_told():
                    _refuse_damaged(kwargs.values())
                    function(*args, **kwargs)
            except QrftError as error:
                echo(f"Error: {error}", err=True)
                sys.exit(error.exit_code)
            except KeyboardInterrupt as signalled:
                echo(f"\nStopped. {stopped}", err=True)
                sys.exit(getattr(signalled, "exit_code", 130))
            except OSError as error:
                if not output_is_gone(error):
                    raise
                drop_output()
                sys.exit(141)  # as a shell says of a program that SIGPIPE ended

        return wrapped

    return decorate


def _refuse_damaged(values: Iterable[Any]) -> None:
    """Raise DamagedError when a command is given a file of a run that is not as the run wrote it."""
    from qrft.pipeline.store import verify_around

    for value in values:
        for word in value if isinstance(value, tuple) else (value,):
            if isinstance(word, str | Path):
                verify_around(Path(word))


command = ends_with_a_message("Finished work is kept: run the same command again to continue.")
all_or_nothing = ends_with_a_message("Nothing was written.")


def print_facts(facts: Mapping[str, Any], as_json: bool, show: Callable[[ModuleType, Console], None]) -> None:
    """Print what a command found as one JSON object, or by a function of qrft.cli.results."""
    if as_json:
        click.echo(json.dumps(facts))
        return
    from qrft.cli import results
    from qrft.cli.tables import plain_console

    show(results, plain_console())


@contextmanager
def bytes_bar() -> Iterator[Progress]:
    with bar("MB read") as progress:
        # Rounded up, because a total of 0 would count as done.
        yield lambda done, total, note: progress(-(-done // 10**6), -(-total // 10**6), note)


@contextmanager
def bar(name: str) -> Iterator[Progress]:
    """Show a bar on stderr, where that is a terminal."""
    if not sys.stderr.isatty():
        yield unwatched
        return
    from qrft.cli.console import Terminal
    from qrft.cli.tables import plain_console

    with Terminal(plain_console(stderr=True)).bar(name, len(name)) as progress:
        yield progress
