"""Control characters in texts from data are shown, not sent: a terminal would obey them."""

from __future__ import annotations

import logging
import re

import click

from qrft.cli.interrupts import drop_output, output_is_gone

_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\udc80-\udcff]")  # all but \n; the last are raw bytes of file names


def visible(text: str) -> str:
    r"""Return the text with each control character but \n written as \x1b is."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]) & 0xFF:02x}", text)


def echo(message: str, *, err: bool = False) -> None:
    """Print a message that may quote data. Where nobody reads any more it goes nowhere."""
    try:
        click.echo(visible(message), err=err)
    except OSError as error:
        if not output_is_gone(error):
            raise
        drop_output()


class _LastResort(logging.Handler):
    """Prints warnings that no other handler takes, such as those of a command without a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        echo(record.getMessage(), err=True)


class Group(click.Group):
    """A group of commands whose usage errors and warnings may quote data: click and logging print them."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; a usage error leaves with a message that is safe to print."""
        logging.lastResort = _LastResort(logging.WARNING)
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            error.message = visible(error.message)  # type: ignore[misc] # the same exception keeps its kind and hints
            raise
