"""Take the loss on the completions, without the logits of more than a few rows at a time.

A vocabulary of 152,000 at 8,000 tokens makes 5 GB of float32 logits, and their gradient as much again. Here the head
and the cross-entropy are one function that goes over the rows in chunks and takes the gradient on the way: for the
sum of the losses it is softmax minus one-hot, whatever follows, up to one factor.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from qrft.training.packing import Pack

CHUNK_ELEMENTS = 2**24  # logits at once: 64 MiB in float32. On one core, 2**22 to 2**25 took the same time, 2**20 twice


def install(model: Any) -> None:
    """Make the model's head return the hidden states, and its loss be the sum over `labels`.

    `model` is a transformers causal language model, or peft's wrapper of one. No weight changes, so what is saved is
    whole; `undo` gives the logits back.
    """
    base = _transformers_model(model)
    head = base.get_output_embeddings()

    def loss_function(logits: torch.Tensor, labels: torch.Tensor, **_: Any) -> torch.Tensor:
        return cross_entropy_sum(logits[0], head.weight, labels)

    head.forward = lambda hidden_states: hidden_states
    base.loss_function = loss_function


def undo(model: Any) -> None:
    """Take `install` back."""
    base = _transformers_model(model)
    base.get_output_embeddings().__dict__.pop("forward", None)
    base.__dict__.pop("_loss_function", None)


def completion_loss(model: Any, pack: Pack) -> torch.Tensor:
    """Return the float32 sum of the cross-entropy over the pack's completion tokens, in nats.

    `model` is an installed one, bare or wrapped (peft, DistributedDataParallel): all goes through its forward.
    """
    inputs = {name: value for name, value in pack.items() if name != "targets"}
    # With a cache, transformers would not see that the row is packed.
    loss: torch.Tensor = model(**inputs, labels=pack["targets"], use_cache=False).loss
    return loss


def cross_entropy_sum(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, chunk_elements: int | None = None
) -> torch.Tensor:
    """Return the float32 sum over rows of the cross-entropy of `hidden @ weight.T` [rows, vocabulary] with `targets`.

    hidden [rows, d], weight [vocabulary, d], targets [rows]. Computed by Liger's kernel on CUDA where it is installed,
    else by torch in chunks of `chunk_elements` logits (CHUNK_ELEMENTS if None). The matrix products are in the
    weight's type, or autocast's; the softmax is in float32.
    """
    import torch

    kind = hidden.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
    hidden, weight = hidden.to(dtype), weight.to(dtype)
    if kind == "cuda" and _has_liger():
        from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy

        loss: torch.Tensor = liger_fused_linear_cross_entropy(
            hidden, weight, targets, reduction="sum", accum_dtype=torch.float32
        )
        return loss.float()
    num_rows = max(1, (chunk_elements or CHUNK_ELEMENTS) // weight.shape[0])
    chunked: torch.Tensor = _chunked_cross_entropy().apply(hidden, weight, targets, num_rows)
    return chunked


@cache
def _has_liger() -> bool:
    from importlib.util import find_spec

    return find_spec("liger_kernel") is not None


@cache
def _chunked_cross_entropy() -> Any:
    """Make the autograd function, on first use: torch is not imported before it is needed."""
    import torch
    from torch.autograd.function import once_differentiable

    class ChunkedCrossEntropy(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, hidden: Any, weight: Any, targets: Any, num_rows: int) -> Any:
            wants_hidden, wants_weight, *_ = ctx.needs_input_grad
            losses = hidden.new_empty(len(targets), dtype=torch.float32)
            hidden_grad = torch.empty_like(hidden) if wants_hidden else None
            # In float32: a sum over many chunks in bfloat16 would lose what the later ones add.
            weight_grad = torch.zeros_like(weight, dtype=torch.float32) if wants_weight else None
            for start in range(0, len(targets), num_rows):
                rows = slice(start, start + num_rows)
                target = targets[rows, None]
                log_probs = torch.log_softmax(hidden[rows] @ weight.T, dim=-1, dtype=torch.float32)
                losses[rows] = -log_probs.gather(1, target)[:, 0]
                if hidden_grad is None and weight_grad is None:
                    continue
                grad = log_probs.exp_().scatter_add_(1, target, log_probs.new_full(target.shape, -1)).to(hidden.dtype)
                if hidden_grad is not None:
                    torch.mm(grad, weight, out=hidden_grad[rows])
                if weight_grad is not None and weight.dtype == torch.float32:
                    weight_grad.addmm_(grad.T, hidden[rows])
                elif weight_grad is not None:
                    weight_grad += grad.T @ hidden[rows]
            ctx.save_for_backward(hidden_grad, None if weight_grad is None else weight_grad.to(weight.dtype))
            return losses.sum()

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, grad: Any) -> Any:
            hidden_grad, weight_grad = (None if g is None else g * grad.to(g.dtype) for g in ctx.saved_tensors)
            return hidden_grad, weight_grad, None, None

    return ChunkedCrossEntropy


def _transformers_model(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model
