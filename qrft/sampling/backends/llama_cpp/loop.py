"""The loop that keeps a context full.

Sequences 0 .. live-1 are slots, each with one sample; the others hold prompts. A prompt is decoded once, ahead of its
turn and beside the running samples; its cache is shared by its samples, and the row of logits at its end gives each its
first token. What all prompts begin with is decoded once for all. A slot that ends is filled again before the next step.

A context that runs full parks the youngest samples: their tokens are kept, their cache is emptied, and when there is
room they are decoded again like a prompt. Random numbers depend on the position only, so they go on as they would have.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qrft.errors import SamplerError
from qrft.sampling.api import Completion, FinishReason, Request, SamplingParams, Stats
from qrft.sampling.backends.llama_cpp.engine import (
    UBATCH,
    Context,
    Engine,
    decode,
    empty,
    num_threads,
    open_context,
    share,
    token_pieces,
)
from qrft.sampling.backends.llama_cpp.sizing import shape_for, shared_prefix
from qrft.sampling.backends.picking import Picker
from qrft.sampling.backends.stop_texts import StopTexts
from qrft.sampling.backends.streams import sample_key

_ALWAYS = sys.maxsize  # cells of a cache in which every sequence has its own part


def generate(
    engine: Engine, requests: Sequence[Request], params: SamplingParams, eos_ids: Sequence[int], stats: Stats
) -> Iterator[list[Completion]]:
    """Yield once per step the samples that ended in it, often none; `stats` is kept up to date.

    The same arguments in a context of the same size give the same samples, byte for byte. Raises SamplerError for a
    prompt that doesn't fit.
    """
    started = time.perf_counter()
    wanted = [request for request in requests if request.num_samples > 0]
    shape, live = shape_for(engine, wanted, params)
    if not wanted:
        return
    stop = StopTexts(params.stop, token_pieces(engine)) if params.stop else None
    with open_context(engine, shape) as context:
        room = shape.n_ctx if shape.kv_unified else _ALWAYS
        picker = Picker(params, live, engine.n_vocab, num_threads(engine.options))
        is_eos = _eos_mask(eos_ids, engine.n_vocab)
        run = _Run(context, picker, params, stats, room, live, _prompts(wanted), is_eos, stop)
        run.holders = list(range(live + shape.n_holders - 1, live - 1, -1))
        _decode_prefix(run, wanted, shape.n_seq - 1)
        while run.is_unfinished():
            _start_samples(run)
            _admit_prompts(run)
            _make_room(run)
            _step(run)
            stats.num_live = len(run.slots)
            stats.total_seconds = time.perf_counter() - started
            yield run.take_finished()


@dataclass
class _Prompt:
    """Tokens of which samples go on: a request's prompt, or that of a parked sample with the `tokens` it has so far."""

    request: Request
    ids: list[int]
    first_order: int  # the age of its first sample among all of the call: the first is the oldest
    next_sample: int
    end_sample: int
    tokens: list[int] = field(default_factory=list)
    logprob: float = 0.0
    sequence: int = -1
    num_decoded: int = 0
    num_live: int = 0  # samples that share its cells
    logits: NDArray[np.float32] | None = None  # (1, vocabulary), of its last token

    @property
    def num_waiting(self) -> int:
        return self.end_sample - self.next_sample


def _prompts(requests: Sequence[Request]) -> deque[_Prompt]:
    prompts: deque[_Prompt] = deque()
    order = 0
    for request in requests:
        end = request.first_sample + request.num_samples
        prompts.append(_Prompt(request, request.prompt_ids, order, request.first_sample, end))
        order += request.num_samples
    return prompts


class _Run:
    """The state of one `generate`. Arrays are by slot."""

    def __init__(
        self,
        context: Context,
        picker: Picker,
        params: SamplingParams,
        stats: Stats,
        room: int,
        live: int,
        pending: deque[_Prompt],
        is_eos: NDArray[np.bool_],
        stop: StopTexts | None,
    ) -> None:
        self.context, self.picker, self.params, self.stats = context, picker, params, stats
        self.is_eos, self.stop = is_eos, stop
        self.pending = pending
        self.prompts: deque[_Prompt] = deque()  # in the context, with samples still to start
        self.holders: list[int] = []  # free sequences for prompts
        self.free = list(range(live - 1, -1, -1))  # free slots, the lowest last, so that it is taken first
        self.slots = np.zeros(0, np.int64)  # those that live, in order
        self.prefix, self.prefix_sequence = 0, -1
        self.room, self.used = room, 0  # cells: all, and those that hold a token or will soon
        self.growth = max(1, params.max_new_tokens // 4)  # cells that a sample should find when it starts
        self.prompt_of: list[_Prompt | None] = [None] * live
        self.sample_of, self.order_of = [0] * live, [0] * live
        self.key = np.zeros(live, np.uint64)
        self.position = np.zeros(live, np.int32)  # of the next token to decode
        self.token = np.zeros(live, np.int32)  # the next token to decode
        self.count = np.zeros(live, np.int64)  # tokens picked
        self.logprob = np.zeros(live, np.float64)
        self.output = np.zeros((live, params.max_new_tokens), np.int32)
        self.finished: list[Completion] = []

    def is_unfinished(self) -> bool:
        return bool(self.pending or self.prompts or len(self.slots))

    def take_finished(self) -> list[Completion]:
        finished, self.finished = self.finished, []
        return finished

    def own_cells(self, prompt: _Prompt) -> int:
        return len(prompt.ids) - self.prefix


def _eos_mask(eos_ids: Sequence[int], n_vocab: int) -> NDArray[np.bool_]:
    mask = np.zeros(n_vocab, np.bool_)
    mask[[token for token in eos_ids if 0 <= token < n_vocab]] = True
    return mask


def _decode_prefix(run: _Run, requests: Sequence[Request], sequence: int) -> None:
    """Decode what all prompts begin with, into a sequence that stays."""
    length = shared_prefix(requests)
    context, ids = run.context, requests[0].prompt_ids
    for start in range(0, length, UBATCH):
        chunk = ids[start : min(start + UBATCH, length)]
        _write(context, 0, chunk, start, sequence)
        if _decode(run, len(chunk)) is None:
            raise SamplerError("llama.cpp has no room for what all prompts begin with. Raise n_ctx.")
    run.prefix, run.prefix_sequence, run.used = length, sequence, length
    run.stats.num_prompt_tokens += length


# --------------------------------------------------------------------------------------- what is in the context


def _start_samples(run: _Run) -> None:
    """Give free slots to samples whose prompt is decoded. A sample may end at its first token and free its slot."""
    while run.free and run.prompts:
        prompt, logits = run.prompts[0], run.prompts[0].logits
        num = min(len(run.free), prompt.num_waiting, _num_that_grow(run))
        if logits is None or num == 0:
            return
        slots = sorted(run.free.pop() for _ in range(num))
        for slot in slots:
            _occupy(run, slot, prompt)
        run.slots = np.union1d(run.slots, slots)
        _accept(run, np.array(slots), logits, np.zeros(num, np.int32))
        if prompt.num_waiting == 0:
            run.prompts.popleft()
            _release(run, prompt)


def _num_that_grow(run: _Run) -> int:
    """Count the samples that may start so that each living one can grow a while. One always may where none lives."""
    live = len(run.slots)
    return max((run.room - run.used) // run.growth - live, int(live == 0))


def _occupy(run: _Run, slot: int, prompt: _Prompt) -> None:
    share(run.context, prompt.sequence, slot)
    sample, done = prompt.next_sample, len(prompt.tokens)
    run.prompt_of[slot], run.sample_of[slot] = prompt, sample
    run.order_of[slot] = prompt.first_order + sample - prompt.request.first_sample
    run.key[slot] = sample_key(run.params.seed, prompt.request.problem_id, sample)
    run.position[slot] = len(prompt.ids) - 1  # the first pick moves it past the prompt
    run.output[slot, :done] = prompt.tokens
    run.count[slot] = done
    run.logprob[slot] = prompt.logprob
    prompt.next_sample += 1
    prompt.num_live += 1


def _vacate(run: _Run, slot: int) -> None:
    prompt = run.prompt_of[slot]
    assert prompt is not None
    run.used -= int(run.position[slot]) - len(prompt.ids)
    run.prompt_of[slot] = None
    run.free.append(slot)
    run.free.sort(reverse=True)
    run.slots = run.slots[run.slots != slot]
    empty(run.context, slot)
    prompt.num_live -= 1
    if prompt.num_live == 0 and prompt.sequence < 0:
        run.used -= run.own_cells(prompt)


def _release(run: _Run, prompt: _Prompt) -> None:
    """Free a prompt's sequence; its cells live on with its samples."""
    empty(run.context, prompt.sequence)
    run.holders.append(prompt.sequence)
    prompt.sequence = -1
    if prompt.num_live == 0:
        run.used -= run.own_cells(prompt)


def _admit_prompts(run: _Run) -> None:
    """Take in the next prompts, so many that free slots, and a quarter of all soon to be free, find a sample."""
    waiting = sum(prompt.num_waiting for prompt in run.prompts)
    ahead = len(run.free) + max(1, len(run.prompt_of) // 4)
    while run.pending and run.holders and waiting < ahead:
        prompt = run.pending[0]
        live = len(run.slots) + len(run.prompts)
        if live and run.used + run.own_cells(prompt) + (live + 1) * run.growth > run.room:
            return
        run.pending.popleft()
        prompt.sequence = run.holders.pop()
        prompt.num_decoded = run.prefix
        if run.prefix:
            share(run.context, run.prefix_sequence, prompt.sequence)
        run.used += run.own_cells(prompt)
        run.prompts.append(prompt)
        waiting += prompt.num_waiting


def _make_room(run: _Run) -> None:
    """Set aside what is youngest until the next step fits: prompts of which no sample lives, then samples."""
    while run.used + len(run.slots) > run.room:
        unused = [prompt for prompt in run.prompts if prompt.num_live == 0]
        if unused and len(run.slots) + len(run.prompts) > 1:
            _set_aside(run, unused[-1])
        elif len(run.slots) > 1:
            _park(run, max(run.slots.tolist(), key=lambda slot: run.order_of[slot]))
        else:
            raise SamplerError("llama.cpp has no room for one sample alone. Raise n_ctx or lower max_new_tokens.")


def _set_aside(run: _Run, prompt: _Prompt) -> None:
    run.prompts.remove(prompt)
    _release(run, prompt)
    prompt.logits = None
    run.pending.appendleft(prompt)


def _park(run: _Run, slot: int) -> None:
    prompt, sample = run.prompt_of[slot], run.sample_of[slot]
    assert prompt is not None
    tokens = run.output[slot, : run.count[slot]].tolist()
    ids = prompt.request.prompt_ids + tokens
    logprob, first = float(run.logprob[slot]), run.order_of[slot] - (sample - prompt.request.first_sample)
    run.pending.appendleft(_Prompt(prompt.request, ids, first, sample, sample + 1, tokens, logprob))
    _vacate(run, slot)
    run.stats.num_parked += 1


# ------------------------------------------------------------------------------------------------------ a step


def _step(run: _Run) -> None:
    """Do one llama_decode: the next token of every live slot, and what fits of the prompts ahead."""
    context, slots = run.context, run.slots
    num_live = len(slots)
    context.tokens[:num_live] = run.token[slots]
    context.positions[:num_live] = run.position[slots]
    context.sequences[:num_live] = slots
    context.outputs[:num_live] = 1
    num_tokens, chunks = _add_prompts(run, num_live)
    if num_tokens == 0:
        return
    logits = _decode(run, num_tokens)
    if logits is None:
        # llama.cpp finds less room than we count: we count what it has, and set something aside.
        run.room = min(run.room, run.used + num_live) - 1
        return
    run.used += num_live
    row = num_live
    for prompt, length in chunks:
        prompt.num_decoded += length
        run.stats.num_prompt_tokens += length
        if prompt.num_decoded == len(prompt.ids):
            prompt.logits = logits[row : row + 1].copy()
            row += 1
    if num_live:
        _accept(run, slots, logits[:num_live])


def _add_prompts(run: _Run, num_tokens: int) -> tuple[int, list[tuple[_Prompt, int]]]:
    """Append prompt tokens to the batch: as many as go through the layers together with the samples, all of the batch
    where none lives. Returns its new length, and what it holds of which prompt."""
    most = UBATCH if num_tokens else len(run.context.tokens)
    chunks = []
    for prompt in run.prompts:
        if prompt.logits is not None:
            continue
        chunk = prompt.ids[prompt.num_decoded : prompt.num_decoded + most - num_tokens]
        if not chunk:
            break
        _write(run.context, num_tokens, chunk, prompt.num_decoded, prompt.sequence)
        num_tokens += len(chunk)
        chunks.append((prompt, len(chunk)))
        run.context.outputs[num_tokens - 1] = prompt.num_decoded + len(chunk) == len(prompt.ids)
    return num_tokens, chunks


def _write(context: Context, row: int, ids: list[int], position: int, sequence: int) -> None:
    rows = slice(row, row + len(ids))
    context.tokens[rows] = ids
    context.positions[rows] = np.arange(position, position + len(ids))
    context.sequences[rows] = sequence
    context.outputs[rows] = 0


def _decode(run: _Run, num_tokens: int) -> NDArray[np.float32] | None:
    before = time.perf_counter()
    logits = decode(run.context, num_tokens)
    run.stats.decode_seconds += time.perf_counter() - before
    run.stats.num_steps += 1
    return logits


def _accept(
    run: _Run, slots: NDArray[np.int64], logits: NDArray[np.float32], rows: NDArray[np.int32] | None = None
) -> None:
    """Pick the next token of each slot, from its row of logits, and end the samples that are done."""
    before = time.perf_counter()
    count = run.count[slots]
    tokens, logprobs = run.picker.pick(logits, run.key[slots], count, rows)
    run.stats.pick_seconds += time.perf_counter() - before
    run.stats.num_tokens += len(slots)
    run.output[slots, count] = tokens
    run.token[slots] = tokens
    run.logprob[slots] += logprobs
    run.count[slots] = count + 1
    run.position[slots] += 1
    may_end = run.is_eos[tokens] | (count + 1 == run.params.max_new_tokens)
    if run.stop is not None:
        may_end |= run.stop.can_complete[tokens]
    if may_end.any():
        for slot in slots[may_end].tolist():
            _end(run, slot)


def _end(run: _Run, slot: int) -> None:
    """End a sample if it is done."""
    tokens = run.output[slot, : run.count[slot]]
    reason: FinishReason
    if run.is_eos[tokens[-1]]:
        reason = "stop"
        run.stats.num_stop += 1
    elif run.stop is not None and run.stop.can_complete[tokens[-1]] and run.stop.is_completed(tokens):
        reason = "stop_text"
        run.stats.num_stop_text += 1
    elif len(tokens) == run.params.max_new_tokens:
        reason = "length"
        run.stats.num_length += 1
    else:
        return
    prompt = run.prompt_of[slot]
    assert prompt is not None
    name, sample = prompt.request.problem_id, run.sample_of[slot]
    run.finished.append(Completion(name, sample, tokens.tolist(), reason, float(run.logprob[slot])))
    _vacate(run, slot)
