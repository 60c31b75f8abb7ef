"""How far two float32 computations of the same number may be apart, on any processor.

Processors differ in the order of additions (how many lanes, which blocks of a matrix product, with or without fused
multiply-add), and in nothing else. A sum of n products is off by at most n * 2^-24 of the sum of their sizes, in
whatever order (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., eq. 3.5); two computations of it
differ by at most twice that.
"""

from __future__ import annotations

from typing import Any

EPSILON = 2.0**-23  # of float32


def product_error(first: Any, second: Any) -> Any:
    """Return the most by which two computations of the matrix product `first @ second` differ, for each entry."""
    return first.shape[-1] * EPSILON * (first.abs() @ second.abs())


def logit_error(config: Any, num_tokens: int) -> float:
    """Return how far two computations of a transformers model's logits may differ, relative to the largest one.

    To first order the roundings of all sums that a logit comes from add up: each counts here as if all its additions
    rounded the same way. They don't: n roundings add up to about sqrt(n), which leaves the other sqrt(n) for terms that
    cancel.
    """
    attention = config.hidden_size + config.head_dim + 2 * num_tokens + config.num_attention_heads * config.head_dim
    feed_forward = config.hidden_size + config.intermediate_size
    layer = attention + feed_forward + 2 * config.hidden_size  # and its two norms
    return EPSILON * (config.num_hidden_layers * layer + 2 * config.hidden_size)  # the last norm and the head
