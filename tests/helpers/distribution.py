"""What picks should look like: transformers' own probabilities, and the chance of counts that stray from them."""

from __future__ import annotations

from typing import Any

import numpy as np

from qrft.sampling.api import SamplingParams


def filtered(logits: np.ndarray, params: SamplingParams) -> Any:
    """The scores (vocabulary,) after transformers' processors, in its order and in the logits' precision."""
    import torch
    from transformers import MinPLogitsWarper, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    ids = torch.zeros((1, 1), dtype=torch.long)
    scores = TemperatureLogitsWarper(float(params.temperature))(ids, torch.tensor(logits[None]))
    if params.top_k:
        scores = TopKLogitsWarper(params.top_k)(ids, scores)
    if params.top_p < 1:
        scores = TopPLogitsWarper(params.top_p)(ids, scores)
    if params.min_p > 0:
        scores = MinPLogitsWarper(params.min_p)(ids, scores)
    return scores[0]


def exact(logits: np.ndarray, params: SamplingParams) -> np.ndarray:
    """The probabilities of the tokens."""
    probabilities: np.ndarray = filtered(logits.astype(np.float64), params).softmax(-1).numpy()
    return probabilities


def chi_square(counts: np.ndarray, probabilities: np.ndarray) -> float:
    """How far the counts stray, in standard deviations of a normal (Wilson and Hilferty 1931).

    Tokens of fewer than 5 expected picks count together.
    """
    expected = probabilities * counts.sum()
    often = expected >= 5
    seen, wanted = counts[often], expected[often]
    if expected[~often].sum() >= 5:
        seen, wanted = np.append(seen, counts[~often].sum()), np.append(wanted, expected[~often].sum())
    degrees = len(wanted) - 1
    ratio = ((seen - wanted) ** 2 / wanted).sum() / degrees
    return float((ratio ** (1 / 3) - 1 + 2 / (9 * degrees)) / np.sqrt(2 / (9 * degrees)))
