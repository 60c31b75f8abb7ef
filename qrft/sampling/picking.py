"""Picks a token for each row of a block of logits.

By inverse CDF: one random number a row, found in two levels, first among the sums of blocks of tokens, then inside the
block. So the only work over the whole vocabulary is the softmax itself.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qrft.errors import SamplerError
from qrft.sampling.messages import SamplingParams

_BLOCK = 64  # tokens; a sum of 64 floats keeps float32's precision, and 64 doubles are one short cumsum

Logits = NDArray[np.float32]


class Scratch:
    """Buffers for up to `num_rows` rows, kept because fresh megabytes each step cost page faults."""

    def __init__(self, num_rows: int, num_vocab: int) -> None:
        padded = -(-num_vocab // _BLOCK) * _BLOCK
        self.shifted = np.empty((num_rows, num_vocab), np.float32)
        self.weights = np.zeros((num_rows, padded), np.float32)  # the padding stays 0


def pick(
    logits: Logits, uniforms: NDArray[np.float64], params: SamplingParams, scratch: Scratch
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Picks by `uniforms` (n,) from `logits` (n, vocabulary), which stay as they are.

    Returns the tokens (n,) and their natural-log probabilities (n,) at temperature 1. Raises SamplerError when the
    logits are not finite.
    """
    rows, num_vocab = logits.shape
    shifted, weights = scratch.shifted[:rows], scratch.weights[:rows]
    best = logits.argmax(axis=1)
    index = np.arange(rows)
    highest = logits[index, best]
    if not np.isfinite(highest).all():
        raise SamplerError(
            "llama.cpp returned logits that are not finite. The model's weights are broken, or overflow in f16: "
            "export the base with dtype f32 and run the parity check."
        )
    np.subtract(logits, highest[:, None], out=shifted)
    exponentials = np.exp(shifted, out=weights[:, :num_vocab])
    log_total = np.log(exponentials.sum(axis=1))  # float32, summed pairwise
    if params.temperature > 0:
        if params.temperature != 1:
            np.multiply(shifted, np.float32(1 / params.temperature), out=exponentials)
            np.exp(exponentials, out=exponentials)
        _keep_likely(weights, params)
        tokens = _invert(weights, uniforms)
        # A rounding at the very end of a row can land on a token of no weight: one pick in 2^50.
        tokens = np.where(weights[index, tokens] > 0, tokens, best)
    else:
        tokens = best
    return tokens, (shifted[index, tokens] - log_total).astype(np.float64)


def _invert(weights: Logits, uniforms: NDArray[np.float64]) -> NDArray[np.int64]:
    rows = np.arange(len(weights))
    blocks = weights.reshape(len(weights), -1, _BLOCK)
    sums = blocks.sum(axis=2).cumsum(axis=1, dtype=np.float64)
    target = uniforms * sums[:, -1]
    block = np.minimum((sums <= target[:, None]).sum(axis=1), sums.shape[1] - 1)
    before = np.where(block > 0, sums[rows, block - 1], 0.0)
    inside = blocks[rows, block].cumsum(axis=1, dtype=np.float64)
    item = np.minimum((inside <= (target - before)[:, None]).sum(axis=1), _BLOCK - 1)
    return np.asarray(block * _BLOCK + item)


def _keep_likely(weights: Logits, params: SamplingParams) -> None:
    """Sets the weights that top_k and top_p drop to 0, as transformers' processors do: ties with the k-th stay."""
    if 0 < params.top_k < weights.shape[1]:
        kth = np.partition(weights, -params.top_k, axis=1)[:, -params.top_k]
        weights[weights < kth[:, None]] = 0
    if params.top_p < 1:
        order = np.argsort(-weights, axis=1, kind="stable")
        sorted_weights = np.take_along_axis(weights, order, axis=1)
        cumulative = sorted_weights.cumsum(axis=1, dtype=np.float64)
        # A token stays while those before it hold less than top_p: so the first always stays.
        sorted_weights[cumulative - sorted_weights >= params.top_p * cumulative[:, -1:]] = 0
        np.put_along_axis(weights, order, sorted_weights, axis=1)
