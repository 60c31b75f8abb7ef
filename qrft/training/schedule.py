"""Decide which examples make each optimizer step, independent of the machine, the packing and the processes."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence


def steps(
    num_examples: int, batch_size: int, num_epochs: float, seed: int, num_steps: int | None = None
) -> list[list[int]]:
    """Return the examples' indices of every step, in order. num_steps: instead of num_epochs.

    Each epoch is a new permutation cut into batches, the last of them smaller where it must be. A fraction of an epoch
    ends between two steps, at least one step in.
    """
    num_steps = num_steps or math.ceil(round(num_epochs * math.ceil(num_examples / batch_size), 6))
    order = _batches(num_examples, batch_size, seed)
    return [next(order) for _ in range(num_steps)]


def _batches(num_examples: int, batch_size: int, seed: int) -> Iterator[list[int]]:
    epoch = 0
    while True:
        indices = list(range(num_examples))
        random.Random(f"{seed} {epoch}").shuffle(indices)  # by a text: neighbouring seeds and epochs share nothing
        yield from (indices[i : i + batch_size] for i in range(0, num_examples, batch_size))
        epoch += 1


def shares(indices: Sequence[int], lengths: Sequence[int], num_processes: int) -> list[list[int]]:
    """Return the parts of a step that several processes take: each gets about as many tokens.

    Longest first, each to the process with the fewest tokens (Graham 1969); every process computes the same split.
    With fewer examples than processes some get none.
    """
    if num_processes == 1:
        return [list(indices)]
    parts: list[list[int]] = [[] for _ in range(num_processes)]
    loads = [0] * num_processes
    for i in sorted(indices, key=lambda i: -lengths[i]):
        lightest = loads.index(min(loads))
        loads[lightest] += lengths[i]
        parts[lightest].append(i)
    return parts
