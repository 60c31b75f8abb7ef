"""What enters a context and what leaves it for want of room."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qrft.errors import SamplerError
from qrft.sampling.backends.llama_cpp.engine import share
from qrft.sampling.backends.llama_cpp.state import Prompt, Run, move, occupy, release, vacate
from qrft.sampling.backends.llama_cpp.step import accept


def start_samples(run: Run) -> None:
    """Give free slots to samples whose prompt is decoded. A sample may end at its first token and free its slot."""
    while run.free and run.prompts:
        prompt, logits = run.prompts[0], run.prompts[0].logits
        num = min(len(run.free), prompt.num_waiting, _num_that_grow(run))
        if logits is None or num == 0:
            return
        slots = sorted(run.free.pop() for _ in range(num))
        for slot in slots:
            occupy(run, slot, prompt)
        run.slots = np.union1d(run.slots, slots)
        accept(run, np.array(slots), logits, np.zeros(num, np.int32))
        if prompt.num_waiting == 0:
            run.prompts.popleft()
            release(run, prompt)


def _num_that_grow(run: Run) -> int:
    """Count the samples that may start so that each living one can grow a while. One always may where none lives."""
    live = len(run.slots)
    return max((run.room - run.used) // run.growth - live, int(live == 0))


def admit_prompts(run: Run) -> None:
    """Take in the next prompts, so many that free slots, and a quarter of all soon to be free, find a sample."""
    waiting, pending = run.num_waiting, run.call.pending
    ahead = len(run.free) + max(1, len(run.prompt_of) // 4)
    while pending and run.holders and waiting < ahead:
        prompt = pending[0]
        live = len(run.slots) + len(run.prompts)
        if live and run.used + run.own_cells(prompt) + (live + 1) * run.growth > run.room:
            return
        pending.popleft()
        prompt.sequence = run.holders.pop()
        prompt.num_decoded = run.prefix
        if run.prefix:
            share(run.context, run.prefix_sequence, prompt.sequence)
        run.used += run.own_cells(prompt)
        run.prompts.append(prompt)
        waiting += prompt.num_waiting


def take_over(run: Run, others: Sequence[Run]) -> None:
    """Where nothing is left for this context, take half of what waits longest in another: the later samples."""
    if run.call.pending or run.num_waiting or not run.free:
        return
    prompts = [prompt for other in others for prompt in other.prompts]
    prompt = max(prompts, key=lambda prompt: prompt.num_waiting, default=None)
    if prompt is None or prompt.num_waiting < 2:
        return
    middle = prompt.next_sample + (prompt.num_waiting + 1) // 2
    half = Prompt(prompt.request, prompt.ids, prompt.first_order, middle, prompt.end_sample)
    prompt.end_sample = middle
    run.call.pending.append(half)


def make_room(run: Run) -> None:
    """Set aside what is youngest until the next step fits: prompts of which no sample lives, then samples."""
    while run.used + len(run.slots) > run.room:
        unused = [prompt for prompt in run.prompts if prompt.num_live == 0]
        if unused and len(run.slots) + len(run.prompts) > 1:
            _set_aside(run, unused[-1])
        elif len(run.slots) > 1:
            _park(run, max(run.slots.tolist(), key=lambda slot: run.order_of[slot]))
        else:
            raise SamplerError("llama.cpp has no room for one sample alone. Raise n_ctx or lower max_new_tokens.")


def _set_aside(run: Run, prompt: Prompt) -> None:
    run.prompts.remove(prompt)
    release(run, prompt)
    prompt.logits = None
    run.call.pending.appendleft(prompt)


def _park(run: Run, slot: int) -> None:
    prompt, sample = run.prompt_of[slot], run.sample_of[slot]
    assert prompt is not None
    tokens = run.output[slot, : run.count[slot]].tolist()
    ids = prompt.request.prompt_ids + tokens
    logprob, first = float(run.logprob[slot]), run.order_of[slot] - (sample - prompt.request.first_sample)
    run.call.pending.appendleft(Prompt(prompt.request, ids, first, sample, sample + 1, tokens, logprob))
    vacate(run, slot)
    run.call.stats.num_parked += 1


def close_gaps(run: Run) -> None:
    """Move samples into free slots below them, where each sequence has its own part of the cache.

    llama.cpp takes neighbouring parts through the layers together, so each gap would read all weights once more
    (`split_equal` in its llama-batch.cpp); a move copies one part.
    """
    while not run.shape.kv_unified and run.free and len(run.slots) and run.free[-1] < run.slots[-1]:
        move(run, int(run.slots[-1]), run.free[-1])
