"""The loop that keeps contexts full.

Sequences 0 .. n_live-1 of a context are slots, each with one sample; the others hold prompts. A prompt is decoded once,
ahead of its turn and beside the running samples; its cache is shared by its samples, and the row of logits at its end
gives each its first token. What all prompts begin with is decoded once for all. A slot that ends is filled again before
the next step.

A context that runs full parks the youngest samples: their tokens are kept, their cache is emptied, and when there is
room they are decoded again like a prompt. Random numbers depend on the position only, so they go on as they would have.

On a GPU llama_decode returns at once. Of two contexts, one is then decoded while tokens are picked for the other.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from qrft.sampling.api import Completion, Request, SamplingParams, Stats
from qrft.sampling.backends.llama_cpp.admission import (
    admit_prompts,
    close_gaps,
    make_room,
    start_samples,
    take_over,
)
from qrft.sampling.backends.llama_cpp.engine import Engine, num_threads, open_context, token_pieces
from qrft.sampling.backends.llama_cpp.sizing import shape_for, shared_prefix
from qrft.sampling.backends.llama_cpp.state import Call, Run, prompts_of
from qrft.sampling.backends.llama_cpp.step import begin_step, decode_prefix, end_step
from qrft.sampling.backends.stop_texts import StopTexts


def generate(
    engine: Engine, requests: Sequence[Request], params: SamplingParams, eos_ids: Sequence[int], stats: Stats
) -> Iterator[list[Completion]]:
    """Yield once per step the samples that ended in it, often none; `stats` is kept up to date.

    The same arguments in contexts of the same size give the same samples, byte for byte. Raises SamplerError for a
    prompt that doesn't fit.
    """
    started = time.perf_counter()
    wanted = [request for request in requests if request.num_samples > 0]
    shape, num_contexts = shape_for(engine, wanted, params)
    if not wanted:
        return
    stop = StopTexts(params.stop, token_pieces(engine), params.stops_outside) if params.stop else None
    call = Call(params, stats, prompts_of(wanted), _eos_mask(eos_ids, engine.n_vocab), stop)
    prefix = wanted[0].prompt_ids[: shared_prefix(wanted)]
    with ExitStack() as stack:
        contexts = [stack.enter_context(open_context(engine, shape)) for _ in range(num_contexts)]
        runs = [Run(call, context, shape, num_threads(engine.options)) for context in contexts]
        for run in runs:
            decode_prefix(run, prefix, shape.n_seq - 1)
        while call.pending or not all(run.is_empty for run in runs):
            for run in runs:
                end_step(run)
                _fill(run, runs)
                begin_step(run)
            stats.num_live = sum(len(run.slots) for run in runs)
            stats.total_seconds = time.perf_counter() - started
            yield call.take_finished()


def _fill(run: Run, runs: Sequence[Run]) -> None:
    start_samples(run)
    take_over(run, runs)
    admit_prompts(run)
    make_room(run)
    close_gaps(run)


def _eos_mask(eos_ids: Sequence[int], n_vocab: int) -> NDArray[np.bool_]:
    mask = np.zeros(n_vocab, np.bool_)
    mask[[token for token in eos_ids if 0 <= token < n_vocab]] = True
    return mask
