"""Share each step's work on the processor among single-threaded processes, one per core.

The threads of one process meet after every operation, some thousand times a step, and OpenMP lets them spin for each
other there: beside one other busy program, two threads trained a tiny model at 6% of their speed. These processes meet
once a step. They are forked, so the frozen weights lie in memory once.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import resource
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

import torch

from qrft.errors import ModelError

Tensors = Sequence[torch.Tensor]
Work = Callable[..., Any]

_POLL_SECONDS = 1.0  # between two looks at whether the parent is still there


class _Replica(NamedTuple):
    process: BaseProcess
    pipe: Connection[Any, Any]
    gradients: Tensors


class Replicas:
    """Copies of this process that compute gradients of the same model at the same time.

    The parameters move to memory that all of them share, so a copy sees each update; its gradients come back through
    such memory as well. `work(*share)` leaves gradients in the parameters, and returns what `gather` is to return.
    """

    def __init__(self, number: int, parameters: Sequence[torch.nn.Parameter], work: Work) -> None:
        self._parameters = parameters
        self._replicas: list[_Replica] = []
        self._growths = [0] * number  # bytes that each took so far beside what it shares with this process
        if number:
            _share_memory(parameters)
        for _ in range(number):
            self._replicas.append(_fork(work, parameters))

    def begin(self, shares: Sequence[tuple[Any, ...]]) -> None:
        """Give each replica its share. Raises ModelError when one has ended."""
        for replica, share in zip(self._replicas, shares, strict=True):
            try:
                replica.pipe.send(share)
            except OSError:
                raise _ended() from None

    def gather(self) -> list[Any]:
        """Wait for the replicas and add their gradients to the parameters', in their order; return their results.

        Raises ModelError when a replica failed or has ended.
        """
        results = []
        for number, replica in enumerate(self._replicas):
            try:
                result, error, self._growths[number] = replica.pipe.recv()
            except (EOFError, OSError):
                raise _ended() from None
            if error is not None:
                raise ModelError(f"A training process failed:\n{error}")
            results.append(result)
            for parameter, gradient in zip(self._parameters, replica.gradients, strict=True):
                parameter.grad = gradient.clone() if parameter.grad is None else parameter.grad.add_(gradient)
        return results

    def peak_memory(self) -> int:
        """Return the bytes that the replicas took until the last `gather`, beside what they share with this process."""
        return sum(self._growths)

    def close(self) -> None:
        """End the processes."""
        for replica in self._replicas:
            replica.process.kill()
            replica.process.join()
            replica.pipe.close()
        self._replicas.clear()


def num_processes(batch_size: int, num_threads: int | None) -> int:
    """Return how many processes share a step of `batch_size` examples: one per core, and one alone where a GPU computes
    or where accelerate has started several itself."""
    cores = num_threads or len(os.sched_getaffinity(0))
    is_alone = torch.cuda.is_available() or int(os.environ.get("WORLD_SIZE", 1)) > 1
    return 1 if is_alone else min(cores, batch_size)


@contextmanager
def threads(num_processes: int) -> Iterator[None]:
    """Compute on one thread while there are several processes."""
    before = torch.get_num_threads()
    if num_processes > 1:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _share_memory(parameters: Sequence[torch.nn.Parameter]) -> None:
    for parameter, shared in zip(parameters, _shared_like(parameters), strict=True):
        shared.copy_(parameter.data)
        parameter.data = shared


def _shared_like(tensors: Tensors) -> Tensors:
    """Return zeros in memory that stays shared after a fork. Anonymous: containers make /dev/shm small."""
    sizes = [tensor.numel() * tensor.element_size() for tensor in tensors]
    blocks = torch.split(torch.frombuffer(mmap.mmap(-1, sum(sizes)), dtype=torch.uint8), sizes)
    return [block.view(tensor.dtype).view(tensor.shape) for block, tensor in zip(blocks, tensors, strict=True)]


def _fork(work: Work, parameters: Sequence[torch.nn.Parameter]) -> _Replica:
    context = multiprocessing.get_context("fork")
    gradients = _shared_like(parameters)
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, work, parameters, gradients), daemon=True)
    process.start()
    theirs.close()
    return _Replica(process, ours, gradients)


def _serve(
    commands: Connection[Any, Any], work: Work, parameters: Sequence[torch.nn.Parameter], gradients: Tensors
) -> None:
    """Compute share after share, until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle; it ends us
    torch.set_num_threads(1)
    parent, began = os.getppid(), _resident_bytes()
    while True:
        # The pipe's end is not enough: a replica forked later holds it open.
        while not commands.poll(_POLL_SECONDS):
            if os.getppid() != parent:
                os._exit(0)
        result, error = _compute(work, commands.recv(), parameters, gradients)
        commands.send((result, error, _resident_bytes() - began))


def _compute(
    work: Work, share: tuple[Any, ...], parameters: Sequence[torch.nn.Parameter], gradients: Tensors
) -> tuple[Any, str | None]:
    try:
        for parameter in parameters:
            parameter.grad = None
        result = work(*share)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            gradient.zero_() if parameter.grad is None else gradient.copy_(parameter.grad)
    except Exception:
        return None, traceback.format_exc()
    return result, None


def _resident_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _ended() -> ModelError:
    return ModelError(
        "A training process has ended, most likely because memory ran out. Run the same command again: it goes on from "
        "the last checkpoint. If it happens again, lower train.micro_batch_size, or use fewer threads."
    )
