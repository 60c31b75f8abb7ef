"""Kernels that run on CUDA alone, as their documentation has them, in plain torch."""

from __future__ import annotations

import math

import torch


def varlen_attn(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_q: torch.Tensor,
    cu_seq_k: torch.Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
    enable_gqa: bool = False,
) -> torch.Tensor:
    """Compute torch.nn.attention.varlen.varlen_attn by definition, for examples whose queries and keys are as many.

    query [T, heads, d]; key, value [T, key-value heads, d]; returns [T, heads, d]. The example of the positions
    cu_seq[i] to cu_seq[i + 1] attends to itself; the query at i to the keys from i - left to i + right, where -1 is
    no bound. Raises TypeError or ValueError for what the kernel does not take.
    """
    if not query.dtype == key.dtype == value.dtype or cu_seq_q.dtype != torch.int32:
        raise TypeError(f"{query.dtype}, {key.dtype}, {value.dtype}, {cu_seq_q.dtype}")
    lengths = cu_seq_q.diff().tolist()
    groups, num_tokens = query.shape[1] // key.shape[1], len(query)
    if (groups > 1) != enable_gqa or not torch.equal(cu_seq_q, cu_seq_k) or sum(lengths) != num_tokens:
        raise ValueError(f"{query.shape}, {key.shape}, {enable_gqa}, {cu_seq_q}, {cu_seq_k}")
    if max_q != max_k or max_q != max(lengths):
        raise ValueError(f"{max_q}, {max_k}, {lengths}")
    position = torch.arange(num_tokens)
    example = torch.repeat_interleave(torch.tensor(lengths))
    before = position[:, None] - position[None, :]
    left, right = window_size
    seen = (example[:, None] == example[None, :]) & ((before <= left) | (left < 0)) & ((-before <= right) | (right < 0))
    key, value = (states.repeat_interleave(groups, dim=1).float() for states in (key, value))
    scores = torch.einsum("qhd,khd->hqk", query.float(), key) * (scale or 1 / math.sqrt(query.shape[2]))
    weights = scores.masked_fill(~seen, -math.inf).softmax(-1)
    return torch.einsum("hqk,khd->qhd", weights, value).to(query.dtype)
