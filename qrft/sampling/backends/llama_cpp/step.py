"""A step of a context: one llama_decode, the tokens picked from its logits, and the samples that end with them."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from qrft.errors import SamplerError
from qrft.sampling.api import Completion, FinishReason
from qrft.sampling.backends.llama_cpp.engine import UBATCH, Context, begin_decode, wait_for_logits
from qrft.sampling.backends.llama_cpp.state import Prompt, Run, Step, vacate


def decode_prefix(run: Run, ids: list[int], sequence: int) -> None:
    """Decode what all prompts begin with, into a sequence that stays. Raises SamplerError where it finds no room."""
    for start in range(0, len(ids), UBATCH):
        chunk = ids[start : start + UBATCH]
        _write(run.context, 0, chunk, start, sequence)
        if not _begin(run, len(chunk)):
            raise SamplerError("llama.cpp has no room for what all prompts begin with. Raise n_ctx.")
    run.prefix, run.prefix_sequence, run.used = len(ids), sequence, len(ids)
    run.call.stats.num_prompt_tokens += len(ids)


def begin_step(run: Run) -> None:
    """Begin to decode the next token of every live slot, and what fits of the prompts ahead."""
    context, slots = run.context, run.slots
    num_live = len(slots)
    context.tokens[:num_live] = run.token[slots]
    context.positions[:num_live] = run.position[slots]
    context.sequences[:num_live] = slots
    context.outputs[:num_live] = 1
    num_tokens, chunks = _add_prompts(run, num_live)
    if num_tokens == 0:
        return
    if not _begin(run, num_tokens):
        # llama.cpp finds less room than we count: we count what it has, and set something aside.
        run.room = min(run.room, run.used + num_live) - 1
        return
    run.used += num_live
    run.step = Step(slots, chunks, int(np.count_nonzero(context.outputs[:num_tokens])))


def end_step(run: Run) -> None:
    """Wait for the logits of the step that was begun, if one was, and pick the tokens."""
    if run.step is None:
        return
    step, run.step = run.step, None
    before = time.perf_counter()
    logits = wait_for_logits(run.context, step.num_rows)
    run.call.stats.decode_seconds += time.perf_counter() - before
    row = num_live = len(step.slots)
    for prompt, length in step.chunks:
        prompt.num_decoded += length
        run.call.stats.num_prompt_tokens += length
        if prompt.num_decoded == len(prompt.ids):
            prompt.logits = logits[row : row + 1].copy()
            row += 1
    if num_live:
        accept(run, step.slots, logits[:num_live])


def _add_prompts(run: Run, num_tokens: int) -> tuple[int, list[tuple[Prompt, int]]]:
    """Append prompt tokens to the batch: as many as go through the layers together with the samples, all of the batch
    where none lives. Return its new length, and what it holds of which prompt."""
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


def _begin(run: Run, num_tokens: int) -> bool:
    before = time.perf_counter()
    has_room = begin_decode(run.context, num_tokens)
    run.call.stats.decode_seconds += time.perf_counter() - before
    run.call.stats.num_steps += 1
    return has_room


def accept(
    run: Run, slots: NDArray[np.int64], logits: NDArray[np.float32], rows: NDArray[np.int32] | None = None
) -> None:
    """Pick the next token of each slot, from its row of logits, and end the samples that are done."""
    call = run.call
    before = time.perf_counter()
    count = run.count[slots]
    tokens, logprobs = run.picker.pick(logits, run.key[slots], count, rows, run.temperature[slots])
    call.stats.pick_seconds += time.perf_counter() - before
    call.stats.num_tokens += len(slots)
    run.output[slots, count] = tokens
    run.token[slots] = tokens
    run.logprob[slots] += logprobs
    run.count[slots] = count + 1
    run.position[slots] += 1
    may_end = call.is_eos[tokens] | (count + 1 == call.params.max_new_tokens)
    if call.stop is not None:
        may_end |= call.stop.can_complete[tokens]
    for slot in slots[may_end].tolist():
        _end(run, slot)


def _end(run: Run, slot: int) -> None:
    """End a sample if it is done."""
    call, tokens = run.call, run.output[slot, : run.count[slot]]
    reason: FinishReason
    if call.is_eos[tokens[-1]]:
        reason = "stop"
    elif call.stop is not None and call.stop.can_complete[tokens[-1]] and call.stop.is_completed(tokens):
        reason = "stop_text"
    elif len(tokens) == call.params.max_new_tokens:
        reason = "length"
    else:
        return
    call.stats.count_finished(reason)
    prompt = run.prompt_of[slot]
    assert prompt is not None
    name, sample = prompt.request.problem_id, run.sample_of[slot]
    call.finished.append(Completion(name, sample, tokens.tolist(), reason, float(run.logprob[slot])))
    vacate(run, slot)
