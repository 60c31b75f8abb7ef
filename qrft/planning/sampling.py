"""What a sampling will need.

A step of decoding reads the weights and the caches of all sequences once, or multiplies for them, whichever takes
longer, at an assumed share of the peak. Its logits come over the bus, and a token is picked for each row of them.
"""

from __future__ import annotations

import math
from dataclasses import replace

from qrft.models.shape import Shape
from qrft.pipeline.graph import Step
from qrft.pipeline.stages import sample
from qrft.planning.amounts import Lengths, input_step
from qrft.planning.basis import Basis, Estimate
from qrft.planning.sizes import adapter_bytes, context_of, folder_of, matrices, shape_of, weights_bytes
from qrft.sampling.backends import registry
from qrft.sampling.backends.llama_cpp.usual import MAX_SEQUENCES, SHARED, TINY, TWO_CONTEXTS, usual_live
from qrft.sampling.backends.picking import PER_THREAD
from qrft.sampling.backends.transformers.backend import USUAL_BATCH
from qrft.training import memory
from qrft.training.memory import MIB, Parts

DECODE_SHARE, READ_SHARE = 0.3, 0.6  # of peak operations, and of peak bandwidth
STEP_SECONDS = 2e-3  # of launching a step of decoding
BUS = 2.4e10  # bytes a second from a GPU: PCIe 4.0 x16
PICK_SECONDS = 0.7e-9  # of a logit, on one thread: 2.1 ms for 64 rows of 49,152, 6.8 ms for 64 of 151,936
# An adapter that is applied while sampling is four kernels more for each linear layer, of 4.5 microseconds each.
ADAPTER_LAUNCHES, LAUNCH_SECONDS = 4, 4.5e-6


def estimate(step: Step, basis: Basis) -> Estimate:
    settings = sampling_of(step)
    if "model" not in step.inputs:
        tokens = basis.amounts.rows(step) * settings.max_new_tokens / 2
        note = "by a teacher's server, whose memory and time are not estimated"
        return Estimate(tokens=round(tokens), disk=int(2 * tokens), seconds=None, notes=(note,))
    lengths = basis.amounts.to_sample(step, folder_of(step), settings.wording)
    num = basis.amounts.rows(step)
    mean = min(lengths.mean_completion, settings.max_new_tokens)
    made = Estimate(tokens=round(num * mean), disk=int(2 * num * mean))  # compressed text
    if reads(step) == "server":
        return replace(made, seconds=None, notes=("by a server, whose memory and time are not estimated",))
    prompt = longest_prompt(step, basis, lengths)
    live, parts = context(step, basis, prompt, live_sequences(step, basis))
    time = seconds(step, basis, lengths, num, mean, live)
    notes: tuple[str, ...] = (f"{live} sequences at once",)
    if reads(step) == "folder" and not basis.speed.is_measured:
        time, notes = None, (*notes, f"the time of {settings.sampler} is only known with --calibrate")
    faults = (*too_large(step, basis, parts, live), *too_long(step, prompt + settings.max_new_tokens))
    return replace(made, parts=parts, seconds=time, notes=notes, faults=faults)


def sampling_of(step: Step) -> sample.Settings:
    assert isinstance(step.settings, sample.Settings)
    return step.settings


def reads(step: Step) -> registry.Reads:
    return registry.backend(sampling_of(step).sampler).READS


def too_large(step: Step, basis: Basis, parts: Parts, live: int) -> tuple[str, ...]:
    if not basis.may_be_too_large(parts):
        return ()
    smaller = "gguf.quant q4_k_m" if reads(step) == "gguf" else "sample.sampler llama.cpp with gguf.quant q4_k_m"
    ways = f"{smaller}, or a smaller " + ("sample.num_sequences" if live > 1 else "base_model")
    return (f"{basis.sizes(parts)}. Use {ways}.",)


def too_long(step: Step, longest: int) -> tuple[str, ...]:
    if longest <= (most := context_of(folder_of(step))):
        return ()
    return (f"needs up to {longest:,} tokens, but the model's context is {most:,.0f}. Use fewer examples or tokens.",)


def longest_prompt(step: Step, basis: Basis, lengths: Lengths) -> int:
    """Return the tokens of the longest prompt, with the worked examples."""
    longest, settings = max(lengths.prompts, default=0), sampling_of(step)
    if not settings.few_shot:
        return longest
    examples = basis.amounts.lengths(input_step(step, "examples"), folder_of(step), settings.wording)
    return longest + examples.largest_sum(settings.few_shot)


def live_sequences(step: Step, basis: Basis) -> int:
    """Return how many sequences the sampler would have live at once, where memory allows it and nothing is measured."""
    num_samples = math.ceil(basis.amounts.rows(step))
    return max(1, min(sampling_of(step).num_sequences or _usual(step, basis), num_samples))


def _usual(step: Step, basis: Basis) -> int:
    if reads(step) == "folder":
        return USUAL_BATCH
    shape, on_gpu = shape_of(step), basis.device.is_gpu
    has_many = not on_gpu and weights_bytes(step, shape) <= TINY  # processes, one per core
    return usual_live(shape.num_parameters, on_gpu) * (basis.cores if has_many else 1)


def context(step: Step, basis: Basis, prompt: int, most: int) -> tuple[int, Parts]:
    """Return how many sequences live at once, up to a given number, and the memory by part.

    The sampler sizes its context by the free memory, and leaves a quarter of that unused.
    """
    settings, shape, tried = sampling_of(step), shape_of(step), []
    is_open = settings.num_sequences is None
    for live in [most >> n for n in range(most.bit_length())] if is_open else [most]:
        for cells in cache_cells(settings, prompt, live, basis.device.is_gpu):
            tried.append((live, memory_by_part(step, basis, shape, cells, live)))
            if not basis.may_be_too_large(tried[-1][1]):
                return tried[-1]
    return tried[-1]


def cache_cells(settings: sample.Settings, prompt: int, live: int, on_gpu: bool) -> list[int]:
    """Return the tokens of the context for so many sequences: the most that the sampler wants, and the least it needs.

    Beside the sequences that grow, others hold prompts (qrft.sampling.backends.llama_cpp.sizing). Samples of a problem
    can share the cells of its prompt; on a processor each sequence has its own where samples are few.
    """
    new, num_samples = settings.max_new_tokens, settings.num_samples
    held = min(live, live // num_samples + 2, max(MAX_SEQUENCES - live, 1))
    if num_samples < SHARED and not on_gpu:
        return [(live + held) * (prompt + new)]
    return [live * (prompt + new) + held * prompt, live * new + held * prompt]


def number_bytes(step: Step, basis: Basis) -> int:
    """Return the bytes of a key or a value in the cache, and of a weight that transformers holds."""
    return 4 if reads(step) == "folder" and not basis.device.is_gpu else 2


def memory_by_part(step: Step, basis: Basis, shape: Shape, cells: int, live: int) -> Parts:
    """The weights as they are read, keys and values (16 bits, transformers on a processor 32), a step's logits and the
    working memory."""
    parts = dict.fromkeys(memory.PARTS, 0)
    parts["weights"] = weights_held(step, basis, shape)
    parts["adapter"] = adapter_bytes(step, shape, basis.device.is_gpu)
    parts["cache"] = 2 * number_bytes(step, basis) * shape.num_layers * shape.key_size * cells
    parts["logits"] = 4 * live * shape.vocab_size
    parts["activations"] = 4 * 512 * (3 * shape.intermediate_size + 4 * shape.hidden_size)  # of 512 tokens at once
    libraries = memory.LIBRARIES if reads(step) == "folder" else 200 * MIB
    parts["overhead"] = memory.CUDA_CONTEXT if basis.device.is_gpu else libraries
    return parts


def weights_held(step: Step, basis: Basis, shape: Shape) -> int:
    if reads(step) == "gguf":
        return weights_bytes(step, shape)
    return number_bytes(step, basis) * shape.num_parameters


def seconds(
    step: Step, basis: Basis, lengths: Lengths, num: float, mean: float, live: int, *, reads_prompts: bool = True
) -> float | None:
    """Return the time of `num` samples of `mean` tokens, `live` at a time; None where the device's speed is unknown."""
    device, shape = basis.device, shape_of(step)
    if device.flops is None or device.bandwidth is None:
        return None
    decoding = num * mean / live * step_seconds(step, basis, live * (lengths.mean_prompt + mean / 2), live)
    prompts = num / max(1.0, basis.amounts.num_samples(step)) if reads_prompts else 0
    reading_prompts = 2 * matrices(shape) * prompts * lengths.mean_prompt / (DECODE_SHARE * device.flops)
    return basis.speed.decode * (decoding + reading_prompts)


def step_seconds(step: Step, basis: Basis, cells: float, live: int) -> float:
    """Return the time in which each of the live sequences, of so many cells together, gets a token.

    Two contexts in turns read the weights twice, and tokens are picked for one while the other decodes.
    """
    device, logits = basis.device, live * shape_of(step).vocab_size
    has_two = reads(step) == "gguf" and device.is_gpu and live >= TWO_CONTEXTS
    contexts = 2 if has_two else 1
    decoding = contexts * _decode_seconds(step, basis, cells / contexts, live / contexts)
    if reads(step) != "gguf":  # torch picks where it computes
        return decoding
    copying = 4 * logits / BUS if device.is_gpu else 0.0
    picking = PICK_SECONDS * logits / max(1, min(basis.cores, logits // contexts // PER_THREAD))
    return max(decoding, copying + picking) if has_two else decoding + copying + picking


def _decode_seconds(step: Step, basis: Basis, cells: float, live: float) -> float:
    device, shape = basis.device, shape_of(step)
    assert device.flops is not None and device.bandwidth is not None
    cache = 2 * number_bytes(step, basis) * shape.num_layers * shape.key_size * cells
    reading = (weights_held(step, basis, shape) + cache) / (READ_SHARE * device.bandwidth)
    multiplying = 2 * matrices(shape) * live / (DECODE_SHARE * device.flops)
    return max(reading, multiplying) + _launch_seconds(step, basis, shape)


def _launch_seconds(step: Step, basis: Basis, shape: Shape) -> float:
    if not basis.device.is_gpu:
        return STEP_SECONDS / 2
    adapted = shape.num_layers * len(shape.layers) if adapter_bytes(step, shape, is_gpu=True) else 0
    return STEP_SECONDS + LAUNCH_SECONDS * ADAPTER_LAUNCHES * adapted
