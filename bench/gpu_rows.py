"""What the parts of bench/gpu.py share: a row, and what to do when there is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Row = tuple[str, str, dict[str, Any]]  # what, the measured in words, figures


def row(what: str, words: str, **figures: Any) -> Row:
    return what, words, figures


def tried(what: str, work: Callable[[], Row]) -> Row:
    """Return the row, or why there is none: the parts go on after a way that fails."""
    try:
        return work()
    except Exception as error:  # of libraries that may be missing, too old or too large for this GPU
        said = str(error).strip().splitlines() or [""]
        return row(what, f"failed: {type(error).__name__}: {said[0][:160]}", error=str(error)[:2000])


def has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def device_name() -> str:
    return "cuda" if has_gpu() else "cpu"
