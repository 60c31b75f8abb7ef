"""Processes that have to end."""

from __future__ import annotations

import time
from pathlib import Path


def is_running(pid: int | str) -> bool:
    """Tell whether a process is there, and no zombie that waits for its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def has_ended(pid: int | str, seconds: float = 20) -> bool:
    """Tell whether a process ends within some seconds: one that was killed is there for a moment still."""
    deadline = time.monotonic() + seconds
    while is_running(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
