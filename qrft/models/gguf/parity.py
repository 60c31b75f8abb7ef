"""Check that llama.cpp computes what transformers computes, before anything is sampled.

Two things are judged apart. The files, against transformers, in exact arithmetic: on a GPU llama.cpp's usual one is off
by more than the rounding of a file. Then that usual arithmetic, in which samples are drawn, against the exact one.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypedDict

import numpy as np
from numpy.typing import NDArray

from qrft.data.disk import disk_errors
from qrft.errors import ModelError
from qrft.models.gguf.header import Precision, read_header
from qrft.models.gguf.reference import Logits, Reference

if TYPE_CHECKING:
    from qrft.sampling.backends.llama_cpp.process import LlamaProcess

MAX_TOKENS = 256  # of a text: more would tell no more, and their logits are large
_ELEMENTS = 2**22  # of logits that are compared at a time: in float64 they take several times their memory


class Agreement(TypedDict):
    """How llama.cpp's logits compare with transformers', in exact arithmetic.

    `max_logit_difference`: of any token. `top1_agreement`: the share of the positions at which the same token is
    likeliest. `mean_kl`: of llama.cpp's distribution from transformers', in nats per position.
    """

    max_logit_difference: float
    top1_agreement: float
    mean_kl: float
    num_prompts: int
    num_positions: int


class Parity(Agreement):
    """And `sampling_kl`: how far llama.cpp's distribution is from its exact one when it computes as it samples."""

    sampling_kl: float


@dataclass(frozen=True)
class Bound:
    """The limits that a sound file keeps to."""

    max_logit_difference: float = math.inf
    mean_kl: float = math.inf


# bf16 and quantised files are judged by mean_kl. On a processor llama.cpp rounds what it multiplies with bf16 to bf16,
# which keeps 8 bits, and single logits are off by up to 0.6. Sound files reach 0.00002 (bf16), 0.0002 (q8_0) and 0.0017
# (q4_k_m) nats on the tiny base's problems with their solutions; 0.001, 0.010 and 0.29 on random models of large
# weights, which magnify every error. A wrong rotary base, rows in the wrong order or an adapter left out give q8_0 0.43
# to 2.1 there, and 0.47 to 3.1. The share of equal top-1 tokens can't judge: where a text leaves several tokens about
# as likely, sound files differ too (q8_0 of the tiny base: equal at 97.9% of 2,718 positions, and at 99.96% but for
# tokens within 0.1 nats of the likeliest).
BOUNDS: dict[Precision, Bound] = {
    "f32": Bound(max_logit_difference=1e-2),  # rounding alone
    "f16": Bound(max_logit_difference=0.5),  # and lost bits of the weights
    "bf16": Bound(mean_kl=0.01),
    "q8_0": Bound(mean_kl=0.05),
    "coarser": Bound(mean_kl=0.5),
}
# Of the arithmetic of sampling, as `sampling_kl`. On a processor, with a cache in f16, flash attention on or off: at
# most 4e-5 nats on the tiny base and 0.0013 on random models of large weights, whatever the file's precision; with a
# cache in q8_0 1.4e-4 and 0.0046. What overflows or takes the wrong path is off by 0.4 and more, or not a number.
SAMPLING_BOUND = 0.05


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
    """Compare the logits of all positions of `prompts` (HF token ids), llama.cpp against transformers, both in f32;
    then llama.cpp's own as they are when it samples.

    transformers runs the unquantised base with the adapter on. For a merged GGUF give `adapter_dir` and no
    `adapter_gguf`. `tolerance`: the largest logit difference; None: BOUNDS for how the file holds its matrices.
    Memory: one block of transformers' model in float32, and after it llama.cpp's whole model with the logits of a
    prompt; those of all prompts are in a temporary file.
    Raises ModelError that says which of the two disagrees, SamplerError when llama.cpp fails.
    """
    bound = BOUNDS[read_header(base_gguf).precision] if tolerance is None else Bound(tolerance)
    names = f"{base_gguf}{f' with {adapter_gguf}' if adapter_gguf else ''}"
    expected = Reference(model_dir, adapter_dir, prompts).logits()
    folder = Path(tempfile.gettempdir())
    with disk_errors(folder), tempfile.TemporaryFile(dir=folder) as kept:
        with _opened(base_gguf, adapter_gguf, n_threads, is_exact=True) as process:
            agreement = _judge_files(names, _keep(_logits(process, prompts), kept), expected, bound)
        with _opened(base_gguf, adapter_gguf, n_threads, is_exact=False) as process:
            kl = _judge_sampling(names, _logits(process, prompts), _kept(kept, process.n_vocab, prompts))
    return {**agreement, "sampling_kl": kl}


def _opened(base_gguf: Path, adapter_gguf: Path | None, n_threads: int | None, is_exact: bool) -> LlamaProcess:
    from qrft.sampling.backends.llama_cpp.process import LlamaProcess

    return LlamaProcess(base_gguf, adapter_gguf, n_threads=n_threads, is_exact=is_exact)


def _logits(process: LlamaProcess, prompts: list[list[int]]) -> Iterator[Logits]:
    """Yield the logits prompt by prompt: those of all would fill the memory where the vocabulary is large."""
    for prompt in prompts:
        yield process.logits([prompt])[0]


def _keep(logits: Iterable[Logits], file: IO[bytes]) -> Iterator[Logits]:
    for of_prompt in logits:
        of_prompt.tofile(file)
        yield of_prompt


def _kept(file: IO[bytes], n_vocab: int, prompts: list[list[int]]) -> Iterator[Logits]:
    file.seek(0)
    for prompt in prompts:
        yield np.fromfile(file, np.float32, len(prompt) * n_vocab).reshape(-1, n_vocab)


def _judge_files(names: str, computed: Iterable[Logits], expected: Iterable[Logits], bound: Bound) -> Agreement:
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
    agreement = Agreement(
        max_logit_difference=difference,
        top1_agreement=agreed / max(positions, 1),
        mean_kl=divergence / max(positions, 1),
        num_prompts=prompts,
        num_positions=positions,
    )
    _check_agreement(names, agreement, bound)
    return agreement


def _judge_sampling(names: str, computed: Iterable[Logits], exact: Iterable[Logits]) -> float:
    """Return the mean KL divergence of what sampling computes. Raises ModelError where it is above SAMPLING_BOUND."""
    divergence, positions = 0.0, 0
    for left, right in zip(computed, exact, strict=True):
        divergence += _kl(right, left)
        positions += len(left)
    mean = divergence / max(positions, 1)
    if not mean <= SAMPLING_BOUND:
        raise ModelError(
            f"{names}: in exact arithmetic llama.cpp agrees with transformers, but not in the arithmetic of sampling, "
            f"whose cache and, on a GPU, sums have 16 bits: there the mean KL divergence over {positions} positions is "
            f"{mean:.3g} nats, expected {SAMPLING_BOUND:g} at most. If numbers overflow f16, gguf.quant bf16 helps, on "
            "a GPU also GGML_CUDA_CUBLAS_COMPUTE_TYPE=f32 in the environment; else use the transformers sampler and "
            "report the model."
        )
    return mean


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


def _check_agreement(names: str, found: Agreement, bound: Bound) -> None:
    if not found["mean_kl"] <= bound.mean_kl:
        raise ModelError(
            f"{names}: llama.cpp and transformers disagree: the mean KL divergence over {found['num_positions']} "
            f"positions is {found['mean_kl']:.3g} nats, expected {bound.mean_kl:g} at most (same likeliest token: "
            f"{found['top1_agreement']:.1%}). Choose more bits (gguf.quant: q8_0, bf16 or f16), or this very model's "
            "file."
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
