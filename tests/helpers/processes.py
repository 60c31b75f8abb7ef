"""Processes that have to end."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ZOMBIE = "Z"  # it has ended, and its parent was not told yet


class Measured(NamedTuple):
    code: int
    errors: str
    peak_bytes: int
    cpu_seconds: float


def run_measured(words: Sequence[str], environment: Mapping[str, str]) -> Measured:
    """Run qrft in a process of its own, and measure that alone. It reads its peak memory itself: what the system tells
    of a child includes the memory of this process, from which it came."""
    code = """
        import runpy, sys
        try:
            runpy.run_module("qrft", run_name="__main__")
        finally:
            lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
            print(chr(10) + "peak", lines["VmHWM"].split()[0], file=sys.stderr)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), *words]
    with tempfile.TemporaryFile("w+") as errors:
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, env=environment)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        text, _, peak = errors.read().rpartition("\npeak ")
    return Measured(child.returncode, text, int(peak or 0) * 1024, usage.ru_utime + usage.ru_stime)


def members(group: int) -> list[int]:
    """Return the processes of a group that run."""
    return [pid for pid in running() if stat(pid)[2:3] == [str(group)]]


def children(parent: int) -> list[int]:
    """Return the processes that run and whose parent is this one."""
    return [pid for pid in running() if stat(pid)[1:2] == [str(parent)]]


def running() -> list[int]:
    """Return all processes that run."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and stat(int(name))[:1] not in ([], [ZOMBIE])]


def has_ended(pid: int, seconds: float = 20) -> bool:
    """Tell whether a process ends within some seconds: one that was killed still runs for a moment."""
    deadline = time.monotonic() + seconds
    while stat(pid)[:1] not in ([], [ZOMBIE]):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def stat(pid: int) -> list[str]:
    """Return the state, parent, group and so on of a process (proc(5)); an empty list when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
