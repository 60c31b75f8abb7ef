"""How work reports its progress: one type for stages, commands, training and sampling."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int, str], None]  # what is done, what there is in all, and a note such as "loss 0.312"


def unwatched(done: int, total: int, note: str) -> None:
    """Report to no one."""
