"""bitsandbytes keeps paged optimizer states for the life of a process: training gives them back."""

from __future__ import annotations

import ctypes
import gc
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.models import make_model
from helpers.trainings import train

from qrft.training.kept import nothing_kept

SIZE = 2**22  # parameters; two states of a byte each


class Library:
    """bitsandbytes' native library as it is with CUDA, with main memory in place of managed memory."""

    def __init__(self) -> None:
        self._lib = self
        self.libc = ctypes.CDLL(None)
        self.libc.malloc.restype = self.libc.memset.restype = ctypes.c_void_p
        self.libc.malloc.argtypes = [ctypes.c_size_t]
        self.libc.free.argtypes = [ctypes.c_void_p]
        self.freed: list[int] = []

    def cget_managed_ptr(self, size: ctypes.c_size_t) -> int:
        return int(self.libc.malloc(size.value))

    def cfill_uint8(self, address: ctypes.c_void_p, _: Any, value: ctypes.c_uint8, size: ctypes.c_int64) -> None:
        self.libc.memset(address, ctypes.c_int(value.value), ctypes.c_size_t(size.value))

    def cudaFree(self, address: ctypes.c_void_p) -> None:
        assert address.value is not None
        self.freed.append(address.value)
        self.libc.free(address)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    from bitsandbytes import functional

    stand_in = Library()
    monkeypatch.setattr(functional, "lib", stand_in)
    return stand_in


def paged_states() -> list[torch.Tensor]:
    """Return what a paged optimizer makes for a parameter of a GPU, which only has to be none of the processor's."""
    from bitsandbytes.optim import PagedAdamW8bit

    parameter = torch.nn.Parameter(torch.empty(SIZE, device="meta"))
    optimizer = PagedAdamW8bit([parameter])
    return [optimizer.get_state_buffer(parameter, dtype=torch.uint8) for _ in range(2)]


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_thirty_trainings_keep_no_paged_state(library: Library) -> None:
    from bitsandbytes.functional import GlobalPageManager

    kept = paged_states()  # of someone else in this process
    before = resident()
    for _ in range(30):
        with nothing_kept():
            states = paged_states()
            assert all(int(state.sum()) == 0 for state in states)
        del states
    gc.collect()
    assert len(library.freed) == 60
    assert resident() - before < 8 * SIZE  # and not 60
    assert [id(t) for t in GlobalPageManager.get_instance().paged_tensors[-2:]] == [id(t) for t in kept]
    assert all(int(state.sum()) == 0 for state in kept)
    del GlobalPageManager.get_instance().paged_tensors[-2:]


def test_a_state_that_someone_still_holds_is_not_freed(library: Library) -> None:
    with nothing_kept():
        state, other = paged_states()
    del other
    gc.collect()
    assert len(library.freed) == 1
    part = state[:10]
    address = state.data_ptr()
    del state
    gc.collect()
    assert address not in library.freed and int(part.sum()) == 0
    del part
    gc.collect()
    assert library.freed[-1] == address


def test_bitsandbytes_library_leads_to_the_libraries_it_loads() -> None:
    """As with CUDA's cudaFree, free is no function of it, but of one that it needs."""
    from bitsandbytes import functional

    assert functional.lib._lib.free
    assert not hasattr(functional.lib._lib, "cudaFree") or torch.cuda.is_available()


def test_a_training_leaves_nothing_in_bitsandbytes_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The states of a training on the processor are not paged; one is put into the list beside them."""
    from bitsandbytes.functional import GlobalPageManager

    paged = GlobalPageManager.get_instance().paged_tensors
    before = list(paged)
    base = make_model(tmp_path / "base")
    train(base, tmp_path, lambda *_: paged.append(torch.zeros(1)), optimizer="adamw_8bit", num_epochs=0.1)
    assert list(map(id, paged)) == list(map(id, before))
