"""Rejection-sampling fine-tuning on one machine. `qrft.sample` gives samples of a model from Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qrft.commands.sample import sample

__all__ = ["sample"]


def __getattr__(name: str) -> Any:
    """Imported when first asked for: the command line starts without it."""
    if name != "sample":
        raise AttributeError(f"module 'qrft' has no attribute {name!r}")
    from qrft.commands.sample import sample

    return sample
