"""The compiled module, or a clear word on how to get it."""

try:
    from qrft.grading._native import ffi, lib
except ImportError as error:
    raise ImportError(
        f"The C core of qrft can't be loaded ({error}). Build and install it: run `pip install .` in the root of the "
        "repository (for development: `pip install -e . --no-build-isolation`)."
    ) from error

__all__ = ["ffi", "lib"]
