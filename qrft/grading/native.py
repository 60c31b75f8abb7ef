"""The compiled module, or an error that says how to build it."""

from __future__ import annotations

try:
    from qrft.grading._native import ffi, lib
except ImportError as error:
    raise ImportError(
        f"The C core of qrft can't be loaded ({error}). Build and install it: run `pip install .` in the root of the "
        "repository (for development: `pip install -e . --no-build-isolation`)."
    ) from error

__all__ = ["enumerator", "ffi", "lib"]


def enumerator(kind: str, name: str) -> int:
    """Return the number that qrft_api.h gives to a name: enumerator("FORMAT", "answer-is") is QRFT_FORMAT_ANSWER_IS."""
    number: int = getattr(lib, f"QRFT_{kind}_{name.upper().replace('-', '_')}")
    return number
