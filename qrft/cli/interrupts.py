"""How a command ends when it is told to: with a message, and within seconds whatever it is doing."""

from __future__ import annotations

import errno
import os
import select
import signal
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

SECONDS = 4.0  # for files and processes to be closed; a kernel that runs for a minute can't be interrupted
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # Ctrl-C, a scheduler or kill, a closed terminal


class Stopped(KeyboardInterrupt):
    """A signal told the command to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


@contextmanager
def ends_when_told() -> Iterator[None]:
    """Raise Stopped inside the block on the first signal; end the process on a second one, or when the block takes
    longer than SECONDS after the first. A signal that is ignored, as nohup does, stays so."""
    if threading.current_thread() is not threading.main_thread():  # signals can't be had here
        yield
        return
    default = (signal.SIG_DFL, signal.default_int_handler)
    before = {number: signal.getsignal(number) for number in SIGNALS if signal.getsignal(number) in default}
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    told = signal.set_wakeup_fd(writer)
    threading.Thread(target=_end_in_time, args=(reader,), daemon=True).start()
    for number in before:
        signal.signal(number, _raise)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(told)
        os.close(writer)


def _raise(number: int, frame: FrameType | None) -> None:
    raise Stopped(number)


def _end_in_time(reader: int) -> None:
    """Wait in a thread: the main one may be deep in a library when the signal comes. The end of the pipe is the end."""
    first = os.read(reader, 1)
    if first and select.select([reader], [], [], SECONDS)[0]:
        first = first if os.read(reader, 1) else b""
    os.close(reader)
    if first:
        os._exit(128 + first[0])


def output_is_gone(error: OSError) -> bool:
    """Return whether writing failed because nobody reads any more: the pipe or the terminal was closed."""
    return error.errno == errno.EPIPE or (error.errno == errno.EIO and any(map(_has_hung_up, (1, 2))))


def drop_output() -> None:
    """Let whatever is still to be printed go nowhere: at its end Python would complain once more."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            os.dup2(nowhere, stream.fileno())


def _has_hung_up(descriptor: int) -> bool:
    try:
        termios.tcgetattr(descriptor)
    except termios.error as error:
        return bool(error.args[0] == errno.EIO)
    return False
