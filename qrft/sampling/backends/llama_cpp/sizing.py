"""How large a context is: sequences, cells, and which of llama.cpp's two caches."""

from __future__ import annotations

from collections.abc import Sequence

import llama_cpp.llama_cpp as lib

from qrft.errors import SamplerError
from qrft.sampling.api import Request, SamplingParams
from qrft.sampling.backends.llama_cpp import memory
from qrft.sampling.backends.llama_cpp.engine import CELL_PADDING, MAX_SEQUENCES, Engine, Shape, check_tokens

_BATCH = 2048  # tokens in a step, while no sample runs
_TINY = 20_000_000  # parameters
_SHARED = 4  # samples
_PARTS = 6  # cells of a shared cache that cost as much as one of a part
_PREFIX = 32  # tokens that all prompts must share before they are kept in a sequence of their own


def shape_for(engine: Engine, requests: Sequence[Request], params: SamplingParams) -> tuple[Shape, int]:
    """Return the context for these requests, and how many of its sequences are samples.

    All of them find room at once where memory and `n_ctx` allow it. Raises SamplerError where one alone does not.
    """
    _check(engine, requests, params)
    longest = max((len(request.prompt_ids) for request in requests), default=1)
    total = sum(request.num_samples for request in requests)
    usual = max(1, total // max(1, len(requests)))  # samples of a prompt
    n_ctx_seq = longest + params.max_new_tokens
    live = min(max_live_sequences(engine), max(total, 1))
    unified = prefers_unified(engine, live, longest, params.max_new_tokens, usual)
    cells = memory.cells_that_fit(engine)
    unified |= cells < 3 * _padded(n_ctx_seq)  # too few for parts: of a sample, a prompt, and what all begin with
    if not unified:
        # Each sequence has its own part of the cache, and as many again may hold prompts.
        live = max(1, min(live, cells // (2 * _padded(n_ctx_seq)) or 1))
    holders = min(live, live // usual + 2)  # enough to refill every slot, and one prompt ahead
    prefix = shared_prefix(requests)
    n_seq = live + holders + (prefix > 0)
    wanted = live * n_ctx_seq + holders * longest + prefix if unified else n_seq * _padded(n_ctx_seq)
    n_ctx = min(wanted, cells)
    if n_ctx < (n_ctx_seq if unified else wanted):
        raise SamplerError(
            f"a context of {n_ctx_seq} tokens is needed for the longest prompt with max_new_tokens "
            f"{params.max_new_tokens}, there is room for {cells} "
            f"({memory.in_words(engine)}). Lower max_new_tokens, or use cache_type q8_0."
        )
    shape = Shape(n_seq, n_ctx_seq, n_ctx, max(_BATCH, 2 * live), n_seq, unified, holders)
    return shape, live


def num_cells(engine: Engine, requests: Sequence[Request], params: SamplingParams) -> int:
    """Return how many tokens the context for these requests holds. Raises SamplerError like `shape_for`."""
    return shape_for(engine, [request for request in requests if request.num_samples > 0], params)[0].n_ctx


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
    """Return how many sequences may live at once, so that as many again may hold prompts.

    By default 32; 16 for a model so small that attention over the shared cache costs more than its weights. Measured on
    a 1M Llama, k=30, one thread, a shared machine: 16 sequences 9,100 tokens/s, 32 sequences 6,300.
    """
    chosen = engine.options.n_seq_max
    if chosen is None:
        chosen = 16 if lib.llama_model_n_params(engine.model) < _TINY else 32
    return max(1, min(chosen, MAX_SEQUENCES // 2 - 1))


def prefers_unified(engine: Engine, live: int, longest: int, max_new_tokens: int, num_samples: int) -> bool:
    """Tell whether one cache for all sequences is better than a part of its own for each.

    One cache holds a prompt once for its samples, and each token looks at the cells of all, in one large product; in
    parts it looks at its own, padded to 256, in many small ones. So one cache pays where samples share prompts, up to a
    number of cells. Measured on a 1M Llama with a LoRA, prompts of 64 and samples of 128 tokens, tokens per CPU second,
    one cache against parts: 16 sequences (1,100 cells a step) 6,900, 5,800; 32 (2,100) 4,500, 5,600; 64 (4,200) 2,500,
    4,600. It is a rule and not a measurement at each start, since a resumed run has to go on as it began.
    """
    chosen = engine.options.kv_unified
    if chosen is not None:
        return chosen
    usual = max_new_tokens // 2  # tokens of a sample: limits are set so that few reach them
    return num_samples >= _SHARED and longest + live * usual // 2 <= _PARTS * _padded(longest + usual)


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
