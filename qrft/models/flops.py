"""Floating-point operations of training and sampling, by the paper's formulas (Yuan et al. 2023; Kaplan et al. 2020).

N is the number of parameters in the linear layers of all blocks, without embeddings and head: `Shape.num_linear`.
"""

from __future__ import annotations

from qrft.models.shape import Shape


def training_flops(shape: Shape, num_tokens: float, adapter: int | None = None) -> float:
    """Return 6 N per token: 2 N forward, 2 N for the gradients of the activations, 2 N for those of the weights.

    adapter: the number of parameters of an adapter. Its base is frozen and has no gradients of weights, so a token
    takes 4 N, and 6 times the adapter.
    """
    size = shape.num_linear
    return num_tokens * (6.0 * size if adapter is None else 4.0 * size + 6.0 * adapter)


def forward_flops(shape: Shape, num_tokens: float, n_ctx: float) -> float:
    """Return 2 N + 2 n_layer n_ctx d per token, as the paper counts inference. n_ctx: the mean context, in tokens."""
    attention = 2.0 * shape.num_layers * n_ctx * shape.hidden_size
    return num_tokens * (2.0 * shape.num_linear + attention)
