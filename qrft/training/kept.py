"""Give back what bitsandbytes keeps for the life of the process, in lists that all models share."""

from __future__ import annotations

import ctypes
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def nothing_kept() -> Iterator[None]:
    """Leave, at the end, no more in bitsandbytes' lists than there was."""
    num_paged = len(_paged_tensors())
    try:
        yield
    finally:
        _forget_embeddings()
        free_paged(num_paged)


def _forget_embeddings() -> None:
    """Forget the embeddings for which transformers asked for 32-bit states.

    bitsandbytes would give such states to the next model's tensor of the same number.
    """
    if "bitsandbytes" in sys.modules:
        sys.modules["bitsandbytes"].optim.GlobalOptimManager.get_instance().initialize()


def free_paged(first: int) -> None:
    """Free the paged optimizer states from number `first` on, each when nothing refers to it any more.

    They are managed memory, which bitsandbytes allocates and never frees. On CUDA main memory stands for them while
    they are paged out, so each training would cost as much as its states.
    """
    paged = _paged_tensors()
    for tensor in paged[first:]:
        weakref.finalize(tensor.untyped_storage(), _free, tensor.data_ptr()).atexit = False
    del paged[first:]


def _paged_tensors() -> list[Any]:
    if "bitsandbytes" not in sys.modules:
        return []
    tensors: list[Any] = sys.modules["bitsandbytes"].functional.GlobalPageManager.get_instance().paged_tensors
    return tensors


def _free(address: int) -> None:
    """Free managed memory by the CUDA library that allocated it: it is among those that bitsandbytes' own one loads."""
    library = sys.modules["bitsandbytes"].functional.lib._lib
    free = getattr(library, "cudaFree", None) or getattr(library, "hipFree", None)
    if free is not None:
        free(ctypes.c_void_p(address))
