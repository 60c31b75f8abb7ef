"""Apply a tokenizer's chat template: an untrusted program, which runs in a process of its own within bounds."""

from __future__ import annotations

import atexit
import json
import os
import select
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from qrft import processes

MAX_SECONDS = 10.0  # of one conversation, which usually takes less than a millisecond
MAX_START_SECONDS = 120.0  # of the process, which takes a fifth of a second on a machine that is not busy


class TemplateError(Exception):
    """Says why a template gave no text."""


def apply(
    template: str,
    turns: Sequence[dict[str, str]],
    *,
    is_open: bool,
    tokens: Mapping[str, Any],
    args: Mapping[str, Any] = MappingProxyType({}),
) -> str:
    """Return the turns as the template writes them. is_open: end with the beginning of an assistant's turn.

    `tokens`: the special tokens' texts by their names, bos_token and so on. `args`: what else the template reads.
    Raises TemplateError for a template that fails, reaches out of its sandbox, or takes too long or too much.
    """
    variables = {**tokens, "tools": None, "documents": None, **args, "add_generation_prompt": is_open}
    return str(_process().ask({"template": template, "messages": list(turns), "variables": variables}))


@lru_cache(maxsize=8)  # needed for every prompt
def arguments(template: str) -> frozenset[str]:
    """Return the names that a template reads, without the turns and what is there for all. Raises TemplateError."""
    return frozenset(_process().ask({"template": template}))


@lru_cache(maxsize=1)
def _process() -> _Process:
    process = _Process()
    atexit.register(process.close)
    return process


class _Process:
    """The child, which is started when it is needed and ended when it takes too long."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None

    def ask(self, request: dict[str, Any]) -> Any:
        with self._lock:
            try:
                answer = json.loads(self._exchange(json.dumps(request).encode() + b"\n"))
            except BaseException:  # its answer would be taken for that of the next question
                self.close()
                raise
        if "error" in answer:
            raise TemplateError(answer["error"])
        return answer["result"]

    def close(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None

    def _exchange(self, line: bytes) -> bytes:
        if self._child is None:
            self._child = _start()
            _read_line(self._child, MAX_START_SECONDS)
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(line)
            self._child.stdin.flush()
        except BrokenPipeError:
            raise TemplateError("its process ended") from None
        return _read_line(self._child, MAX_SECONDS)


def _read_line(child: subprocess.Popen[bytes], seconds: float) -> bytes:
    assert child.stdout is not None
    line, deadline = b"", time.monotonic() + seconds
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([child.stdout], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise TemplateError(f"it takes more than {seconds:g} seconds")
        piece = os.read(child.stdout.fileno(), 2**20)
        if not piece:
            raise TemplateError("its process ended; perhaps memory ran out")
        line += piece
    return line


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        processes.command("qrft.models.template_child"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=processes.environment(),
    )
