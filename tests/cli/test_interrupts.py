"""Signals end a command even where Python can't: deep in a library, or while it is ending already."""

from __future__ import annotations

import signal
import subprocess
import time

import pytest
from helpers.commands import python, start_process

DEEP = """
    import hashlib, signal, sys, threading, time
    from qrft.cli.interrupts import ends_when_told
    if sys.argv[1] == "ignored":
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with ends_when_told():
            if sys.argv[1] == "deep":
                # The other thread runs only once this one is in C: until then nothing makes it give way.
                sys.setswitchinterval(1000)
                asleep = threading.Lock()
                asleep.acquire()
                threading.Thread(target=lambda: (asleep.acquire(), print("ready", flush=True)), daemon=True).start()
                asleep.release()
                hashlib.pbkdf2_hmac("sha256", b"x", b"y", 2_000_000_000)  # many minutes
            else:
                print("ready", flush=True)
                time.sleep(8)
    except KeyboardInterrupt as stopped:
        print("told", flush=True)
        sys.exit(stopped.exit_code)
"""


def end(kind: str, *signals: int) -> tuple[int, str, float]:
    """Start the process, send it the signals, and return its exit code, what it printed, and the seconds it took."""
    with start_process(python(DEEP, kind), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        start = time.monotonic()
        for number in signals:
            process.send_signal(number)
            time.sleep(0.3)
        return process.wait(), process.stdout.read(), time.monotonic() - start


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_work_and_says_which(number: int) -> None:
    code, printed, _ = end("waits", number)
    assert (code, printed) == (128 + number, "told\n")


@pytest.mark.parametrize("signals", [(signal.SIGTERM,), (signal.SIGINT, signal.SIGINT)])
def test_a_command_that_is_deep_in_a_library_is_ended_in_time(signals: tuple[int, ...]) -> None:
    code, printed, seconds = end("deep", *signals)
    assert (code, printed) == (128 + signals[0], "") and seconds < 30


def test_an_ignored_signal_stays_ignored() -> None:
    """A run that was started with nohup goes on when its terminal is closed."""
    code, printed, _ = end("ignored", signal.SIGHUP)
    assert (code, printed) == (0, "")
