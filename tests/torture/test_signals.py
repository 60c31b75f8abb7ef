"""SIGTERM, Ctrl-C twice, a closed terminal, a closed pipe: a polite end within five seconds, and the same after."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.forks import Forks, Running
from helpers.processes import members
from helpers.torture import Told, Undisturbed, contents, counts

SECONDS = 5.0
QUIET = 10.0  # seconds of the undisturbed run; where other programs make it slower, the end is as well
STOPPED = "Stopped. Finished work is kept: run the same command again to continue."


def sigterm(running: Running, close: Callable[[], None]) -> set[int | None]:
    os.kill(running.pid, signal.SIGTERM)
    return {143}


def ctrl_c_twice(running: Running, close: Callable[[], None]) -> set[int | None]:
    """As a terminal sends it: to all processes of the group."""
    for _ in range(2):
        running.signal(signal.SIGINT)
        time.sleep(0.001)
    return {130, None}  # None: the second one ended it at once


def closed_terminal(running: Running, close: Callable[[], None]) -> set[int | None]:
    close()
    return {129, 1, None}  # 1: it wrote before it was told, and could not


def closed_pipe(running: Running, close: Callable[[], None]) -> set[int | None]:
    close()
    return {141, 1, 0}  # 1: rich noticed it; 0: there was nothing more to say


@pytest.mark.parametrize("end", [sigterm, ctrl_c_twice, closed_terminal, closed_pipe])
@counts(1, 20)
def test_told_to_end_a_run_ends_politely_and_goes_on_later(
    trials: int,
    end: Callable[[Running, Callable[[], None]], set[int | None]],
    forks: Forks,
    undisturbed: Undisturbed,
    tmp_path: Path,
    draw: random.Random,
    told: Told,
) -> None:
    done, number, slowest, out = 0, 0, 0.0, tmp_path / "0"
    in_time = SECONDS * max(1, undisturbed.seconds / QUIET)
    while done < trials:
        running, read, close = begin(end, forks, "run", undisturbed.recipe, "-o", out)
        wait = time.monotonic() + draw.uniform(0, undisturbed.seconds / 2)
        while time.monotonic() < wait and not running.has_ended:
            read()
            time.sleep(0.005)
        if not running.has_ended:
            start = time.monotonic()
            codes = end(running, close)
            while not running.has_ended and time.monotonic() < start + 60:
                read()
                time.sleep(0.005)
            # A closed pipe is noticed when something is printed next, which may be after a step of the run.
            within = in_time + (undisturbed.seconds if end is closed_pipe else 0)
            slowest = max(slowest, time.monotonic() - start)
            assert slowest < within, f"{slowest:.1f} s"
            assert running.code in {*codes, 0}, f"{running.code}: {running.printed}"
            done += 1
            if end in (sigterm, ctrl_c_twice) and running.code not in (0, None):
                assert STOPPED in running.printed, running.printed
        close()
        assert "Traceback" not in running.printed and "Exception ignored" not in running.printed, running.printed
        left = time.monotonic() + in_time
        while others := members(running.pid):
            assert time.monotonic() < left, f"{others} still run"
            time.sleep(0.05)
        if running.code == 0:
            assert contents(out) == undisturbed.contents
            number, out = number + 1, tmp_path / str(number + 1)
    last = forks.run("run", undisturbed.recipe, "-o", out)
    assert last.code == 0 and contents(out) == undisturbed.contents, last.printed
    told(done, f"{end.__name__.replace('_', ' ')}: ended within {slowest:.1f} s; all runs as undisturbed")


def begin(
    end: Callable[..., set[int | None]], forks: Forks, *words: object
) -> tuple[Running, Callable[[], None], Callable[[], None]]:
    """Start a command with its output in a file, a terminal or a pipe; return how to read it and how to close it."""
    if end not in (closed_terminal, closed_pipe):
        return forks.start(*words), lambda: None, lambda: None
    if end is closed_terminal:
        ours, theirs = os.openpty()
        place = os.ttyname(theirs)
    else:
        place = str(forks.folder / f"pipe-{forks.number}")
        os.mkfifo(place)
        ours = os.open(place, os.O_RDONLY | os.O_NONBLOCK)
        theirs = -1
    running = forks.start(*words, output=place)
    os.set_blocking(ours, False)
    is_open = True

    def read() -> None:
        try:
            data = os.read(ours, 1 << 16)
        except OSError:
            return
        with running.out.open("ab") as file:
            file.write(data)

    def close() -> None:
        nonlocal is_open
        if is_open:
            os.close(ours)  # which hangs up, whoever has the other end open
            if theirs >= 0:
                os.close(theirs)
        is_open = False

    return running, read, close
