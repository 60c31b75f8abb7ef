"""How large a context is: sequences, cells, and which of llama.cpp's two caches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import llama_cpp.llama_cpp as lib

from qrft.errors import SamplerError
from qrft.sampling.api import Request, SamplingParams
from qrft.sampling.backends.llama_cpp import devices, memory
from qrft.sampling.backends.llama_cpp.engine import CELL_PADDING, Engine, Shape, check_tokens
from qrft.sampling.backends.llama_cpp.usual import MAX_SEQUENCES, SHARED, TWO_CONTEXTS, usual_live

_BATCH = 2048  # tokens in a step, while no sample runs
_PARTS = 6  # cells of a shared cache that cost as much as one of a part
_PREFIX = 32  # tokens that all prompts must share before they are kept in a sequence of their own


@dataclass(frozen=True)
class _Work:
    """What is to be sampled: tokens of the longest prompt, of the longest sample, and of what all prompts begin with;
    samples of a prompt, on average."""

    longest: int
    max_new_tokens: int
    prefix: int
    num_samples: int

    @property
    def n_ctx_seq(self) -> int:
        return self.longest + self.max_new_tokens


def shape_for(engine: Engine, requests: Sequence[Request], params: SamplingParams) -> tuple[Shape, int]:
    """Return a context for these requests, and how many of it are used in turns.

    All samples find room at once where memory and `n_ctx` allow it. Raises SamplerError where one alone does not.
    """
    _check(engine, requests, params)
    longest = max((len(request.prompt_ids) for request in requests), default=1)
    total = sum(request.num_samples for request in requests)
    usual = max(1, total // max(1, len(requests)))
    work = _Work(longest, params.max_new_tokens, shared_prefix(requests), usual)
    live, cells = min(max_live_sequences(engine), max(total, 1)), memory.cells_that_fit(engine)
    if _prefers_two(engine, live) and (half := _shape(engine, work, (live + 1) // 2, cells // 2)):
        return half, 2
    if shape := _shape(engine, work, live, cells):
        return shape, 1
    raise SamplerError(
        f"a context of {work.n_ctx_seq} tokens is needed for the longest prompt with max_new_tokens "
        f"{params.max_new_tokens}, there is room for {cells} "
        f"({memory.in_words(engine)}). Lower max_new_tokens, or use cache_type q8_0."
    )


def _shape(engine: Engine, work: _Work, live: int, cells: int) -> Shape | None:
    """Return a context of at most so many samples and cells; None where one sample alone does not fit."""
    most, padded = MAX_SEQUENCES, _padded(work.n_ctx_seq)
    unified = _prefers_unified(engine, work, live, cells)
    if not unified:  # each sequence has its own part of the cache
        most = min(most, cells // padded)
    live, holders = _samples_and_holders(most - (work.prefix > 0), live, work.num_samples)
    n_seq = live + holders + (work.prefix > 0)
    wanted = live * work.n_ctx_seq + holders * work.longest + work.prefix if unified else n_seq * padded
    n_ctx = min(wanted, cells)
    if n_ctx < (work.n_ctx_seq if unified else wanted):
        return None
    return Shape(n_seq, work.n_ctx_seq, n_ctx, max(_BATCH, 2 * live), n_seq, unified, live, holders)


def _samples_and_holders(most: int, live: int, num_samples: int) -> tuple[int, int]:
    """Share so many sequences among samples and prompts, one of each at least.

    Prompts want enough to refill every slot, and one ahead. Where that is too many, they get what the samples leave, at
    least one for each 16 of them: fewer end in the step or two that a prompt takes.
    """
    holders = min(live, live // num_samples + 2)
    if live + holders > most:
        live = max(1, min(live, most - (most + 16) // 17))
        holders = max(1, min(holders, most - live))
    return live, holders


def _prefers_two(engine: Engine, live: int) -> bool:
    """Tell whether two contexts of half the sequences are better than one.

    Each reads all weights for its half of the tokens, so they pay where logits take longer than weights to be read. On
    a processor nothing decodes by itself. On a GPU they should pay from about 130 sequences on, by the speeds of memory
    and bus; not yet measured.
    """
    chosen = engine.options.overlap
    if chosen is None:
        chosen = bool(devices.gpus()) and live >= TWO_CONTEXTS
    return chosen and live > 1


def num_cells(engine: Engine, requests: Sequence[Request], params: SamplingParams) -> int:
    """Return how many tokens the contexts for these requests hold. Raises SamplerError like `shape_for`."""
    shape, num_contexts = shape_for(engine, [request for request in requests if request.num_samples > 0], params)
    return num_contexts * shape.n_ctx


def shared_prefix(requests: Sequence[Request]) -> int:
    """Return the number of tokens that all prompts begin with; 0 when keeping them apart would not pay.

    At least one token of each prompt is left, so that each has logits of its own.
    """
    if len(requests) < 2:
        return 0
    first = min((request.prompt_ids for request in requests), key=len)
    length = len(first) - 1
    for request in requests:
        ids = request.prompt_ids
        if ids[:length] != first[:length]:
            length = next(i for i in range(length) if ids[i] != first[i])
    return length if length >= _PREFIX else 0


def max_live_sequences(engine: Engine) -> int:
    """Return how many sequences may live at once, in all contexts."""
    chosen = engine.options.n_seq_max
    if chosen is None:
        chosen = usual_live(lib.llama_model_n_params(engine.model), bool(devices.gpus()))
    return max(1, chosen)


def _prefers_unified(engine: Engine, work: _Work, live: int, cells: int) -> bool:
    """Tell whether one cache for all sequences is better than a part of its own for each.

    One cache holds a prompt once for its samples, and each token looks at the cells of all, in one large product; in
    parts it looks at its own, padded to 256, in many small ones. So one cache pays where samples share prompts, up to a
    number of cells. Measured on a 1M Llama with a LoRA, prompts of 64 and samples of 128 tokens, tokens per CPU second,
    one cache against parts: 16 sequences (1,100 cells a step) 6,900, 5,800; 32 (2,100) 4,500, 5,600; 64 (4,200) 2,500,
    4,600. It is a rule and not a measurement at each start, since a resumed run has to go on as it began.
    """
    padded, chosen = _padded(work.n_ctx_seq), engine.options.kv_unified
    if cells < 3 * padded:  # too few for parts: of a sample, a prompt, and what all begin with
        return True
    if chosen is not None:
        return chosen
    if devices.gpus() and cells < live * padded:  # parts would hold fewer sequences, and each reads all weights
        return True
    usual = work.max_new_tokens // 2  # tokens of a sample: limits are set so that few reach them
    return work.num_samples >= SHARED and work.longest + live * usual // 2 <= _PARTS * _padded(work.longest + usual)


def _padded(n_ctx_seq: int) -> int:
    return -(-n_ctx_seq // CELL_PADDING) * CELL_PADDING


def _check(engine: Engine, requests: Sequence[Request], params: SamplingParams) -> None:
    limit = min(engine.options.n_ctx_seq or engine.n_ctx_train, engine.n_ctx_train)
    for request in requests:
        name = f"the prompt of problem {request.problem_id!r}"
        check_tokens(engine, name, request.prompt_ids)
        if len(request.prompt_ids) + params.max_new_tokens > limit:
            raise SamplerError(
                f"{name} has {len(request.prompt_ids)} tokens, with max_new_tokens {params.max_new_tokens} more than "
                f"the context of {limit} (the model's own: {engine.n_ctx_train}). "
                "Lower max_new_tokens, show fewer examples, or drop the problem."
            )
