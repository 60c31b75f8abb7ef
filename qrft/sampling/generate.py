"""The loop that keeps a context full.

Sequences 0 .. live-1 are slots, each with one sample; the others hold prompts. A prompt is decoded once, ahead of its
turn and beside the running samples; its cache is shared by its samples, and the row of logits at its end gives each its
first token. A slot that ends is filled again before the next step.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qrft.errors import SamplerError
from qrft.sampling.llama_cpp import (
    Context,
    Engine,
    Shape,
    check_tokens,
    decode,
    empty,
    max_live_sequences,
    open_context,
    prefers_unified,
    share,
)
from qrft.sampling.messages import Completion, FinishReason, Request, SamplingParams, Stats
from qrft.sampling.picking import Picker, check
from qrft.sampling.streams import sample_key

_BATCH = 2048  # tokens in a step: all slots and what fits of the prompts ahead


def generate(
    engine: Engine, requests: Sequence[Request], params: SamplingParams, eos_ids: Sequence[int], stats: Stats
) -> Iterator[Completion]:
    """Yields every sample of every request, in the order in which they end; `stats` is kept up to date.

    The same arguments give the same samples, byte for byte. Raises SamplerError for a prompt that doesn't fit.
    """
    started = time.perf_counter()
    wanted = [request for request in requests if request.num_samples > 0]
    shape, live = _shape(engine, wanted, params)
    if not wanted:
        return
    with open_context(engine, shape) as context:
        run = _Run(context, params, stats, live, shape.n_seq, wanted, _eos_mask(eos_ids, engine.n_vocab))
        while run.is_unfinished():
            _start_samples(run)
            _admit_prompts(run)
            _step(run)
            stats.total_seconds = time.perf_counter() - started
            yield from run.take_finished()


@dataclass
class _Prompt:
    """A prompt in the context: its sequence, how much of it is decoded, its last logits, its next sample."""

    request: Request
    sequence: int
    num_decoded: int = 0
    logits: NDArray[np.float32] | None = None
    next_sample: int = 0

    @property
    def num_waiting(self) -> int:
        return self.request.num_samples - self.next_sample


class _Run:
    """The state of one `generate`. Arrays are by slot."""

    def __init__(
        self,
        context: Context,
        params: SamplingParams,
        stats: Stats,
        live: int,
        n_seq: int,
        requests: Sequence[Request],
        is_eos: NDArray[np.bool_],
    ) -> None:
        self.context, self.params, self.stats, self.is_eos = context, params, stats, is_eos
        self.pending = deque(requests)
        self.prompts: deque[_Prompt] = deque()  # in the context, with samples still to start
        self.holders = list(range(n_seq - 1, live - 1, -1))  # free sequences for prompts
        self.free = list(range(live - 1, -1, -1))  # free slots, the lowest last, so that it is taken first
        self.is_live = np.zeros(live, np.bool_)
        self.owner: list[tuple[str, int]] = [("", 0)] * live
        self.key = np.zeros(live, np.uint64)
        self.position = np.zeros(live, np.int32)  # of the next token to decode
        self.token = np.zeros(live, np.int32)  # the next token to decode
        self.count = np.zeros(live, np.int64)  # tokens picked
        self.logprob = np.zeros(live, np.float64)
        self.output = np.zeros((live, params.max_new_tokens), np.int32)
        self.picker = Picker(params, live, context.n_vocab)
        self.finished: list[Completion] = []

    def is_unfinished(self) -> bool:
        return bool(self.pending or self.prompts or len(self.free) < len(self.is_live))

    def take_finished(self) -> list[Completion]:
        finished, self.finished = self.finished, []
        return finished


def _shape(engine: Engine, requests: list[Request], params: SamplingParams) -> tuple[Shape, int]:
    """The context in which these requests always find room, and its number of slots."""
    _check(engine, requests, params)
    longest = max((len(request.prompt_ids) for request in requests), default=1)
    total = sum(request.num_samples for request in requests)
    live = min(max_live_sequences(engine), max(total, 1))
    fewest = min((request.num_samples for request in requests), default=1)
    holders = min(live, live // fewest + 2)  # enough to refill every slot, and one prompt ahead
    n_ctx = live * (longest + params.max_new_tokens) + holders * longest
    shape = Shape(
        n_seq=live + holders,
        n_ctx_seq=longest + params.max_new_tokens,
        n_ctx=n_ctx,
        n_batch=max(_BATCH, 2 * live),
        n_outputs=live + holders,
        kv_unified=prefers_unified(engine, fewest),
    )
    return shape, live


def _check(engine: Engine, requests: list[Request], params: SamplingParams) -> None:
    check(params)
    if params.max_new_tokens < 1:
        raise SamplerError(f"{params}: expected max_new_tokens >= 1. Correct the recipe.")
    limit = min(engine.options.n_ctx_seq or engine.n_ctx_train, engine.n_ctx_train)
    for request in requests:
        name = f"the prompt of problem {request.problem_id!r}"
        check_tokens(engine, name, request.prompt_ids)
        if len(request.prompt_ids) + params.max_new_tokens > limit:
            raise SamplerError(
                f"{name} has {len(request.prompt_ids)} tokens, with max_new_tokens {params.max_new_tokens} more than "
                f"the context of {limit} (the model's own: {engine.n_ctx_train}). "
                "Lower max_new_tokens or drop the problem."
            )


def _eos_mask(eos_ids: Sequence[int], n_vocab: int) -> NDArray[np.bool_]:
    mask = np.zeros(n_vocab, np.bool_)
    mask[[token for token in eos_ids if 0 <= token < n_vocab]] = True
    return mask


def _start_samples(run: _Run) -> None:
    """Gives free slots to samples whose prompt is decoded. A sample may end at its first token and free its slot."""
    while run.free and run.prompts and run.prompts[0].logits is not None:
        prompt = run.prompts[0]
        slots = [run.free.pop() for _ in range(min(len(run.free), prompt.num_waiting))]
        for slot in slots:
            _occupy(run, slot, prompt)
        assert prompt.logits is not None
        _accept(run, np.array(slots), prompt.logits, np.zeros(len(slots), np.int32))
        if prompt.num_waiting == 0:
            run.prompts.popleft()
            empty(run.context, prompt.sequence)
            run.holders.append(prompt.sequence)


def _occupy(run: _Run, slot: int, prompt: _Prompt) -> None:
    share(run.context, prompt.sequence, slot)
    sample = prompt.request.first_sample + prompt.next_sample
    run.owner[slot] = (prompt.request.problem_id, sample)
    run.key[slot] = sample_key(run.params.seed, prompt.request.problem_id, sample)
    run.position[slot] = len(prompt.request.prompt_ids) - 1  # the first pick moves it past the prompt
    run.count[slot] = 0
    run.logprob[slot] = 0.0
    run.is_live[slot] = True
    prompt.next_sample += 1


def _admit_prompts(run: _Run) -> None:
    """Takes in the next prompts, so many that free slots, and a quarter of all soon to be free, find a sample."""
    waiting = sum(prompt.num_waiting for prompt in run.prompts)
    while run.pending and run.holders and waiting < len(run.free) + max(1, len(run.is_live) // 4):
        request = run.pending.popleft()
        run.prompts.append(_Prompt(request, run.holders.pop()))
        waiting += request.num_samples


def _step(run: _Run) -> None:
    """One llama_decode: the next token of every live slot, and what fits of the prompts ahead."""
    context, stats = run.context, run.stats
    slots = np.flatnonzero(run.is_live)
    num_live = len(slots)
    context.tokens[:num_live] = run.token[slots]
    context.positions[:num_live] = run.position[slots]
    context.sequences[:num_live] = slots
    context.outputs[:num_live] = 1
    num_tokens, completed = _add_prompts(run, num_live)
    if num_tokens == 0:
        return
    before = time.perf_counter()
    logits = decode(context, num_tokens)
    stats.decode_seconds += time.perf_counter() - before
    stats.num_steps += 1
    for row, prompt in enumerate(completed, start=num_live):
        prompt.logits = logits[row : row + 1].copy()
    if num_live:
        _accept(run, slots, logits[:num_live])


def _add_prompts(run: _Run, num_tokens: int) -> tuple[int, list[_Prompt]]:
    """Appends prompt tokens to the batch. Returns its new length, and the prompts that it completes."""
    context, completed = run.context, []
    for prompt in run.prompts:
        if prompt.logits is not None:
            continue
        ids = prompt.request.prompt_ids
        start = prompt.num_decoded
        length = min(len(ids) - start, len(context.tokens) - num_tokens)
        rows = slice(num_tokens, num_tokens + length)
        context.tokens[rows] = ids[start : start + length]
        context.positions[rows] = np.arange(start, start + length)
        context.sequences[rows] = prompt.sequence
        context.outputs[rows] = 0
        prompt.num_decoded += length
        num_tokens += length
        if prompt.num_decoded < len(ids):
            break
        context.outputs[num_tokens - 1] = 1
        completed.append(prompt)
    return num_tokens, completed


def _accept(
    run: _Run, slots: NDArray[np.int64], logits: NDArray[np.float32], rows: NDArray[np.int32] | None = None
) -> None:
    """Picks the next token of each slot, from its row of logits, and ends the samples that are done."""
    before = time.perf_counter()
    tokens, logprobs = run.picker.pick(logits, run.key[slots], run.count[slots], rows)
    run.stats.pick_seconds += time.perf_counter() - before
    run.stats.num_tokens += len(slots)
    run.output[slots, run.count[slots]] = tokens
    run.token[slots] = tokens
    run.logprob[slots] += logprobs
    run.count[slots] += 1
    run.position[slots] += 1
    is_stop = run.is_eos[tokens]
    is_done = is_stop | (run.count[slots] == run.params.max_new_tokens)
    for index in np.flatnonzero(is_done):
        _finish(run, int(slots[index]), bool(is_stop[index]))


def _finish(run: _Run, slot: int, is_stop: bool) -> None:
    problem_id, sample_index = run.owner[slot]
    tokens = run.output[slot, : run.count[slot]].tolist()
    reason: FinishReason = "stop" if is_stop else "length"
    run.finished.append(Completion(problem_id, sample_index, tokens, reason, float(run.logprob[slot])))
    run.is_live[slot] = False
    run.free.append(slot)
    empty(run.context, slot)
