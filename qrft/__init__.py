"""Rejection-sampling fine-tuning on one machine. `qrft.train` and `qrft.sample` fine-tune and sample from Python."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qrft.commands.sample import sample
    from qrft.commands.train import train

__all__ = ["sample", "train"]


def __getattr__(name: str) -> Any:
    """Import the name when it is first asked for, so that the command line starts without it."""
    if name not in __all__:
        raise AttributeError(f"module 'qrft' has no attribute {name!r}")
    return getattr(import_module(f"qrft.commands.{name}"), name)
