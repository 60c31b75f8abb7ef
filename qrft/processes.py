"""Processes of one's own that run a module of ours, from whatever folder they are started."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

_ROOT = Path(__file__).parents[1]


def command(module: str) -> list[str]:
    """Return what starts a module, such as "qrft.models.template_child". -P: those of the current folder stay out."""
    return [sys.executable, "-P", "-m", module]


def environment(changes: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """Return this process's variables with these changes, and qrft where Python finds it."""
    path = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, **changes, "PYTHONPATH": path}


def end_with_parent() -> None:
    """End this process once its parent is gone: a killed parent can't end it, and minutes of work would be useless."""

    def watch(parent: int) -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, args=(os.getppid(),), daemon=True).start()
