"""Check that llama.cpp computes what transformers computes, before anything is sampled."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from qrft.errors import ModelError
from qrft.models.gguf.header import Precision, read_header
from qrft.models.gguf.reference import Logits, Reference

_ELEMENTS = 2**22  # of logits that are compared at a time: in float64 they take several times their memory


class Parity(TypedDict):
    """How llama.cpp's logits compare with transformers'.

    `max_logit_difference`: of any token. `top1_agreement`: the share of the positions at which the same token is
    likeliest. `mean_kl`: of llama.cpp's distribution from transformers', in nats per position.
    """

    max_logit_difference: float
    top1_agreement: float
    mean_kl: float
    num_prompts: int
    num_positions: int


@dataclass(frozen=True)
class Bound:
    """The limits that a sound file keeps to."""

    max_logit_difference: float = math.inf
    mean_kl: float = math.inf


# Quantised files are judged by mean_kl. Sound ones reach 0.0002 (q8_0) and 0.0017 (q4_k_m) nats on the tiny base's
# problems with their solutions; 0.010 and 0.29 on random models of large weights, which magnify every error. A wrong
# rotary base, rows in the wrong order or an adapter left out give q8_0 0.43 to 2.1 there, and 0.47 to 3.1. The share of
# equal top-1 tokens can't judge: where a text leaves several tokens about as likely, sound files differ too (q8_0 of
# the tiny base: equal at 97.9% of 2,718 positions, and at 99.96% but for tokens within 0.1 nats of the likeliest).
BOUNDS: dict[Precision, Bound] = {
    "f32": Bound(max_logit_difference=1e-2),  # rounding alone
    "f16": Bound(max_logit_difference=0.5),  # and lost bits of the weights
    "q8_0": Bound(mean_kl=0.05),
    "coarser": Bound(mean_kl=0.5),
}


def check_parity(
    model_dir: Path,
    base_gguf: Path,
    adapter_dir: Path | None,
    adapter_gguf: Path | None,
    prompts: list[list[int]],
    *,
    tolerance: float | None = None,
    n_threads: int | None = None,
) -> Parity:
    """Compare the logits of all positions of `prompts` (HF token ids), llama.cpp against transformers, both in f32.

    transformers runs the unquantised base with the adapter on. For a merged GGUF give `adapter_dir` and no
    `adapter_gguf`. `tolerance`: the largest logit difference; None: BOUNDS for how the file holds its matrices.
    Memory: one block of transformers' model in float32, and after it llama.cpp's whole model with the logits of a
    prompt.
    Raises ModelError when they disagree, SamplerError when llama.cpp fails.
    """
    from qrft.sampling.backends.llama_cpp.process import LlamaProcess

    bound = BOUNDS[read_header(base_gguf).precision] if tolerance is None else Bound(tolerance)
    reference = Reference(model_dir, adapter_dir, prompts)
    names = f"{base_gguf}{f' with {adapter_gguf}' if adapter_gguf else ''}"
    with LlamaProcess(base_gguf, adapter_gguf, n_threads=n_threads) as process:
        computed = (process.logits([prompt])[0] for prompt in prompts)
        return _compare(names, computed, reference.logits(), bound)


def _compare(names: str, computed: Iterable[Logits], expected: Iterable[Logits], bound: Bound) -> Parity:
    """Compare prompt by prompt: the logits of all of them would fill the memory where the vocabulary is large."""
    difference, agreed, divergence, prompts, positions = 0.0, 0, 0.0, 0, 0
    for prompt, (left, right) in enumerate(zip(computed, expected, strict=True)):
        if left.shape != right.shape:
            raise ModelError(
                f"{names}: logits of prompt {prompt} are {left.shape}, transformers' are {right.shape}. "
                "The file is of another model: export it again."
            )
        difference = max(difference, _largest_difference(f"{names}: prompt {prompt}", left, right, bound))
        agreed += int((left.argmax(1) == right.argmax(1)).sum())
        divergence += _kl(right, left)
        prompts, positions = prompts + 1, positions + len(left)
    parity = Parity(
        max_logit_difference=difference,
        top1_agreement=agreed / max(positions, 1),
        mean_kl=divergence / max(positions, 1),
        num_prompts=prompts,
        num_positions=positions,
    )
    _check_agreement(names, parity, bound)
    return parity


def _largest_difference(where: str, computed: Logits, expected: Logits, bound: Bound) -> float:
    difference = np.abs(computed - expected)
    largest = float(difference.max(initial=0.0))
    if math.isnan(largest) or largest > bound.max_logit_difference:
        position, token = np.unravel_index(int(np.nan_to_num(difference, nan=np.inf).argmax()), difference.shape)
        raise ModelError(
            f"{where}, position {position}, token {token}: llama.cpp and transformers disagree: "
            f"{computed[position, token]:.5g} against {expected[position, token]:.5g}, "
            f"tolerance {bound.max_logit_difference:g}. "
            "Export the base and the adapter again. If they still disagree, use the transformers sampler and report "
            "the model."
        )
    return largest


def _check_agreement(names: str, parity: Parity, bound: Bound) -> None:
    if parity["mean_kl"] > bound.mean_kl:
        raise ModelError(
            f"{names}: llama.cpp and transformers disagree: the mean KL divergence over {parity['num_positions']} "
            f"positions is {parity['mean_kl']:.3g} nats, expected {bound.mean_kl:g} at most (same likeliest token: "
            f"{parity['top1_agreement']:.1%}). Choose more bits (gguf.quant: q8_0 or f16), or this very model's file."
        )


def _kl(expected: Logits, computed: Logits) -> float:
    """Return the sum of KL(expected || computed) over all positions, in nats."""
    total, step = 0.0, max(1, _ELEMENTS // expected.shape[1])
    for first in range(0, len(expected), step):
        left, right = (_log_softmax(logits[first : first + step]) for logits in (expected, computed))
        total += float((np.exp(left) * (left - right)).sum())
    return total


def _log_softmax(logits: Logits) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))
