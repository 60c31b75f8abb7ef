"""Several llama.cpp processes of one thread each: for models so small that threads mostly wait for each other.

A small model's layers are microseconds of work, and all threads of a context meet after each. Processes never meet.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from qrft.sampling.api import Completion, Request, SamplingParams, Stats, Work
from qrft.sampling.backends.llama_cpp.process import LlamaProcess
from qrft.sampling.backends.llama_cpp.shares import run_shares
from qrft.sampling.backends.llama_cpp.tuning import tune
from qrft.sampling.backends.llama_cpp.usual import TINY


class LlamaPool:
    """LlamaProcess's `generate` over several of them."""

    def __init__(self, processes: Sequence[LlamaProcess]) -> None:
        self.processes = processes
        self.n_vocab, self.n_ctx_train = processes[0].n_vocab, processes[0].n_ctx_train

    @property
    def stats(self) -> Stats:
        """The sums over the processes, `total_seconds` too, of the latest `generate`."""
        return sum((process.stats for process in self.processes), Stats())

    def generate(
        self, requests: Iterable[Request], params: SamplingParams, eos_ids: Sequence[int]
    ) -> Iterator[Completion]:
        """Sample as LlamaProcess does: the same arguments and number of processes give the same samples."""
        todo = list(requests)
        num = len(self.processes)
        return run_shares([(self.processes[i], todo[i::num]) for i in range(num)], params, eos_ids)

    def close(self) -> None:
        """End the processes."""
        for process in self.processes:
            process.close()

    def __enter__(self) -> LlamaPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_sampler(
    base_gguf: Path,
    adapter_gguf: Path | None = None,
    *,
    n_threads: int | None = None,
    work: Work | None = None,
    **settings: Any,
) -> LlamaProcess | LlamaPool:
    """Open the faster of the two on `n_threads` cores: a pool of single threads for a tiny base, else one process.

    A tiny base on a GPU is one process too: each would hold a context of the GPU's, and they would wait for each other.
    With `work` a process gets the settings that `tuning` measured for it, but for those that are given. Raises
    SamplerError when a file is missing or llama.cpp can't load it.
    """
    cores = n_threads or len(os.sched_getaffinity(0))
    chosen = {name: value for name, value in settings.items() if value is not None}
    with ExitStack() as stack:
        process = stack.enter_context(LlamaProcess(base_gguf, adapter_gguf, n_threads=cores, **chosen))
        is_tiny = base_gguf.stat().st_size <= TINY
        sampler: LlamaProcess | LlamaPool = process
        if is_tiny and cores > 1 and not process.info.gpu:
            process.configure(n_threads=1)
            chosen["n_threads"] = 1
            others = [stack.enter_context(LlamaProcess(base_gguf, adapter_gguf, **chosen)) for _ in range(cores - 1)]
            sampler = LlamaPool([process, *others])
        elif work is not None and not is_tiny and not {"n_seq_max", "kv_unified"} & chosen.keys():
            tune(process, work)
        stack.pop_all()
    return sampler
