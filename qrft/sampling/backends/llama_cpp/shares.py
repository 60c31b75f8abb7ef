"""Processes that sample at once, each its share. One that runs out of memory goes on with half the context.

A sample depends on its own stream of random numbers: what is finished stays, and the rest comes out as it would have.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from qrft.errors import OutOfMemoryError, SamplerError
from qrft.sampling.api import Completion, Request, SamplingParams, Stats

if TYPE_CHECKING:
    from qrft.sampling.backends.llama_cpp.process import LlamaProcess


@dataclass
class _Share:
    """What a process samples. `n_ctx`: tokens in its context; `too_large`: in the one before, for which there was no
    memory; `before`: the stats of all that ran out of it."""

    process: LlamaProcess
    requests: Sequence[Request]
    params: SamplingParams
    eos_ids: Sequence[int]
    finished: set[tuple[str, int]] = field(default_factory=set)
    n_ctx: int = 0
    too_large: int = 0
    before: Stats = field(default_factory=Stats)

    def begin(self) -> None:
        self.process.send("generate", (unfinished(self.requests, self.finished), self.params, list(self.eos_ids)))

    def receive(self) -> tuple[bool, list[Completion]]:
        """Return whether more will come, and what came."""
        try:
            return self._take(*self.process.receive())
        except OutOfMemoryError:
            if not self.n_ctx:  # no context was begun
                raise
            self._begin_smaller()
            return True, []
        except SamplerError as error:
            raise self._explained(error) from None

    def _take(self, name: str, content: Any) -> tuple[bool, list[Completion]]:
        if name == "context":
            self.n_ctx = content
        if name != "samples":
            return name != "done", []
        completions, stats = content
        self.process.stats = self.before + stats
        new = [done for done in completions if (done.problem_id, done.sample_index) not in self.finished]
        self.finished.update((done.problem_id, done.sample_index) for done in new)
        return True, new

    def _begin_smaller(self) -> None:
        self.before, self.too_large = replace(self.process.stats, num_live=0), self.n_ctx
        try:
            self.process.start_with_half(self.n_ctx)
        except SamplerError as error:
            raise self._explained(error) from None
        self.begin()

    def _explained(self, error: SamplerError) -> SamplerError:
        """Add to an error that memory ran out before, where it did."""
        if not self.too_large:
            return error
        return SamplerError(
            f"llama.cpp ran out of memory with a context of {self.too_large:,} tokens. With half of it: {error}"
        )


def run_shares(
    shares: Sequence[tuple[LlamaProcess, Sequence[Request]]], params: SamplingParams, eos_ids: Sequence[int]
) -> Iterator[Completion]:
    """Let each process sample its requests, all at once; yield the completions as they come.

    Raises the first SamplerError; the other processes are then stopped, as they are when the iterator is dropped.
    """
    running: dict[Connection[Any, Any], _Share] = {}
    silent: dict[Connection[Any, Any], float] = {}
    try:
        for process, requests in shares:
            process.stats = Stats()
            share = _Share(process, requests, params, eos_ids)
            share.begin()
            running[process.answers] = share
        while running:
            for answers in _answered(running, silent):
                share = running.pop(answers)  # whoever fails or is done has nothing to be stopped
                is_running, completions = share.receive()
                if is_running:
                    running[share.process.answers] = share
                yield from completions
    finally:
        for share in running.values():
            share.process.cancel()


def unfinished(requests: Sequence[Request], finished: set[tuple[str, int]]) -> list[Request]:
    """Return what is left of each request: from its first sample that is not finished on, later ones that are included.

    These are few, as samples end in about the order in which they begin, and gaps would make many small requests.
    """
    left: list[Request] = []
    for request in requests:
        end = request.first_sample + request.num_samples
        first = request.first_sample
        while first < end and (request.problem_id, first) in finished:
            first += 1
        if first < end:
            left.append(replace(request, first_sample=first, num_samples=end - first))
    return left


def _answered(
    running: dict[Connection[Any, Any], _Share], silent: dict[Connection[Any, Any], float]
) -> list[Connection[Any, Any]]:
    """Wait for answers. Raises SamplerError when a process gives none for too long, counting only time spent here."""
    before = time.monotonic()
    patience = min(share.process.hang_seconds - silent.get(answers, 0.0) for answers, share in running.items())
    ready = [answers for answers in wait(list(running), max(0.0, patience)) if isinstance(answers, Connection)]
    waited = time.monotonic() - before
    for answers in list(running):
        silent[answers] = 0.0 if answers in ready else silent.get(answers, 0.0) + waited
        if silent[answers] >= running[answers].process.hang_seconds:
            raise running.pop(answers).process.hang()
    return ready
