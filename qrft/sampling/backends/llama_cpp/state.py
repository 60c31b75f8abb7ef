"""What is in a context: the prompts, the samples in their slots, and the cells that they take."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qrft.sampling.api import Completion, Request, SamplingParams, Stats
from qrft.sampling.backends.llama_cpp.engine import Context, Shape, empty, share
from qrft.sampling.backends.picking import Picker
from qrft.sampling.backends.stop_texts import StopTexts
from qrft.sampling.backends.streams import sample_key

_ALWAYS = sys.maxsize  # cells of a cache in which every sequence has its own part


@dataclass
class Prompt:
    """Tokens of which samples go on: a request's prompt, or that of a parked sample with the `tokens` it has so far."""

    request: Request
    ids: list[int]
    first_order: int  # the age of its request's first sample among all of the call: the first is the oldest
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


def prompts_of(requests: Sequence[Request]) -> deque[Prompt]:
    """Return the prompts of a call, in the order in which their samples start."""
    prompts: deque[Prompt] = deque()
    order = 0
    for request in requests:
        end = request.first_sample + request.num_samples
        prompts.append(Prompt(request, request.prompt_ids, order, request.first_sample, end))
        order += request.num_samples
    return prompts


@dataclass
class Call:
    """What the contexts of one `generate` have in common. `pending`: the prompts that are in none of them."""

    params: SamplingParams
    stats: Stats
    pending: deque[Prompt]
    is_eos: NDArray[np.bool_]  # by token
    stop: StopTexts | None
    finished: list[Completion] = field(default_factory=list)

    def take_finished(self) -> list[Completion]:
        finished, self.finished = self.finished, []
        return finished


@dataclass(frozen=True)
class Step:
    """What llama.cpp is decoding: the next token of each of `slots`, and so many tokens of prompts after them."""

    slots: NDArray[np.int64]
    chunks: list[tuple[Prompt, int]]
    num_rows: int  # of logits


class Run:
    """The state of one context. Arrays are by slot: sequences 0 .. n_live-1, with one sample each."""

    def __init__(self, call: Call, context: Context, shape: Shape, num_threads: int) -> None:
        live, params = shape.n_live, call.params
        self.call, self.context, self.shape = call, context, shape
        self.prompts: deque[Prompt] = deque()  # in the context, with samples still to start
        self.holders = list(range(live + shape.n_holders - 1, live - 1, -1))  # free sequences for prompts
        self.free = list(range(live - 1, -1, -1))  # free slots, the lowest last, so that it is taken first
        self.slots = np.zeros(0, np.int64)  # those that live, in order
        self.prefix, self.prefix_sequence = 0, -1
        self.room = shape.n_ctx if shape.kv_unified else _ALWAYS  # cells
        self.used = 0  # cells that hold a token or will soon
        self.growth = max(1, params.max_new_tokens // 4)  # cells that a sample should find when it starts
        self.step: Step | None = None
        self.prompt_of: list[Prompt | None] = [None] * live
        self.sample_of, self.order_of = [0] * live, [0] * live
        self.key = np.zeros(live, np.uint64)
        self.temperature = np.zeros(live, np.float64)
        self.position = np.zeros(live, np.int32)  # of the next token to decode
        self.token = np.zeros(live, np.int32)  # the next token to decode
        self.count = np.zeros(live, np.int64)  # tokens picked
        self.logprob = np.zeros(live, np.float64)
        self.output = np.zeros((live, params.max_new_tokens), np.int32)
        self.picker = Picker(params, live, context.n_vocab, num_threads)

    @property
    def is_empty(self) -> bool:
        return not self.prompts and not len(self.slots)

    @property
    def num_waiting(self) -> int:
        return sum(prompt.num_waiting for prompt in self.prompts)

    def own_cells(self, prompt: Prompt) -> int:
        return len(prompt.ids) - self.prefix


def occupy(run: Run, slot: int, prompt: Prompt) -> None:
    """Let the prompt's next sample begin in a free slot. Its first token is still to be picked."""
    share(run.context, prompt.sequence, slot)
    sample, done = prompt.next_sample, len(prompt.tokens)
    run.prompt_of[slot], run.sample_of[slot] = prompt, sample
    run.order_of[slot] = prompt.first_order + sample - prompt.request.first_sample
    run.key[slot] = sample_key(run.call.params.seed, prompt.request.problem_id, sample)
    run.temperature[slot] = run.call.params.temperature_of(sample)
    run.position[slot] = len(prompt.ids) - 1  # the first pick moves it past the prompt
    run.output[slot, :done] = prompt.tokens
    run.count[slot] = done
    run.logprob[slot] = prompt.logprob
    prompt.next_sample += 1
    prompt.num_live += 1


def vacate(run: Run, slot: int) -> None:
    """Free a slot, and the cells that only its sample had."""
    prompt = run.prompt_of[slot]
    assert prompt is not None
    run.used -= int(run.position[slot]) - len(prompt.ids)
    run.prompt_of[slot] = None
    _add_free(run, slot)
    run.slots = run.slots[run.slots != slot]
    empty(run.context, slot)
    prompt.num_live -= 1
    if prompt.num_live == 0 and prompt.sequence < 0:
        run.used -= run.own_cells(prompt)


def move(run: Run, source: int, target: int) -> None:
    """Let the sample in `source` go on in the free slot `target`."""
    share(run.context, source, target)
    empty(run.context, source)
    for by_slot in (run.sample_of, run.order_of):
        by_slot[target] = by_slot[source]
    run.prompt_of[target], run.prompt_of[source] = run.prompt_of[source], None
    for array in (run.key, run.temperature, run.position, run.token, run.count, run.logprob, run.output):
        array[target] = array[source]
    run.free.remove(target)
    _add_free(run, source)
    run.slots = np.sort(np.where(run.slots == source, target, run.slots))


def _add_free(run: Run, slot: int) -> None:
    run.free.append(slot)
    run.free.sort(reverse=True)


def release(run: Run, prompt: Prompt) -> None:
    """Free a prompt's sequence; its cells live on with its samples."""
    empty(run.context, prompt.sequence)
    run.holders.append(prompt.sequence)
    prompt.sequence = -1
    if prompt.num_live == 0:
        run.used -= run.own_cells(prompt)
