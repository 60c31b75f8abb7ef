"""Control characters in texts from data are shown, not sent: a terminal would obey them, or turn the text around."""

from __future__ import annotations

import logging
import re

import click

from qrft.cli.interrupts import drop_output, output_is_gone

_DIRECTIONS = "\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069"  # with the separators of lines
_CONTROL = re.compile(rf"[\x00-\x09\x0b-\x1f\x7f-\x9f\udc80-\udcff{_DIRECTIONS}]")  # not \n; raw bytes of file names


def visible(text: str) -> str:
    r"""Return the text with each control character but \n written as \x1b or \u202e is."""
    return _CONTROL.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\u{code:04x}" if 0xFF < code < 0xD800 else f"\\x{code & 0xFF:02x}"


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
