"""Take the loss on the completions, without the logits of more than a few rows at a time.

A vocabulary of 152,000 at 8,000 tokens makes 5 GB of float32 logits, and their gradient as much again. Here the head
and the cross-entropy are one function that goes over the rows in chunks and takes the gradient on the way: for the
sum of the losses it is softmax minus one-hot, whatever follows, up to one factor.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from inspect import signature
from typing import TYPE_CHECKING, Any

from qrft.models.architectures import ARCHITECTURES

if TYPE_CHECKING:
    import torch

    from qrft.training.packing import Pack

# Logits at once, 64 or 256 MiB in float32. On one core 2**22 to 2**25 took the same time, 2**20 twice. A GPU reads the
# whole head for each chunk, which takes it as long as some 300 rows' products: 2**26 are 440 of a vocabulary of 152k.
CHUNK_ELEMENTS = {"cpu": 2**24, "cuda": 2**26}


def install(model: Any) -> None:
    """Make the model's head return the hidden states, and its loss be the sum over `labels`.

    A model that caps its logits, or that qrft does not know, keeps its head, and its logits are made all at once.

    `model` is a transformers causal language model, or peft's wrapper of one. No weight changes, so what is saved is
    whole; `undo` gives the logits back.
    """
    base = _transformers_model(model)
    head = base.get_output_embeddings()
    if type(base).__name__ not in ARCHITECTURES:
        base.forward = _with_loss(base.forward)
        return
    if getattr(base.config, "final_logit_softcapping", None) is not None:
        base.loss_function = _whole_loss
        return

    def loss_function(logits: torch.Tensor, labels: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return cross_entropy_sum(logits[0], head.weight, labels)

    head.forward = lambda hidden_states: hidden_states
    base.loss_function = loss_function


def _with_loss(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Return the forward pass of any model, which is given what it takes of a row, with the loss over `labels`."""
    accepted = signature(forward).parameters

    def pass_and_loss(*, labels: torch.Tensor, logits_to_keep: torch.Tensor, **row: Any) -> Any:
        keeps = {"logits_to_keep": logits_to_keep} if "logits_to_keep" in accepted else {}
        output = forward(**{name: value for name, value in row.items() if name in accepted}, **keeps)
        output.loss = _whole_loss(output.logits if keeps else output.logits[:, logits_to_keep], labels)
        return output

    return pass_and_loss


def _whole_loss(logits: torch.Tensor, labels: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
    """Return the sum over all logits at once."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(logits[0].float(), labels, reduction="sum")


def undo(model: Any) -> None:
    """Take `install` back."""
    base = _transformers_model(model)
    for module in (base, base.get_output_embeddings()):
        vars(module).pop("forward", None)
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
    else by torch; in chunks of about `chunk_elements` logits (those of CHUNK_ELEMENTS if None). The matrix products are
    in the weight's type, or autocast's; the softmax is in float32.
    """
    import torch

    kind = hidden.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
    hidden, weight = hidden.to(dtype), weight.to(dtype)
    chunk_elements = chunk_elements or CHUNK_ELEMENTS[kind]
    if kind == "cuda" and _liger() and len(targets):
        return liger_cross_entropy_sum(hidden, weight, targets, chunk_elements)
    num_rows = max(1, chunk_elements // weight.shape[0])
    chunked: torch.Tensor = _chunked_cross_entropy().apply(hidden, weight, targets, num_rows)
    return chunked


def liger_cross_entropy_sum(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, chunk_elements: int
) -> torch.Tensor:
    """Return the sum as Liger's kernel computes it; hidden and weight are of one type, and there is at least one row.

    Of its own accord Liger takes about as many logits at once as `hidden` has numbers, 64 rows of a vocabulary of
    152,000; `chunk_mem_const` multiplies that.
    """
    import torch

    larger = max(1, chunk_elements // hidden.numel())
    loss: torch.Tensor = _liger()(
        hidden, weight, targets, reduction="sum", accum_dtype=torch.float32, chunk_mem_const=larger
    )
    return loss.float()


@cache
def _liger() -> Any:
    """Return Liger's function; None where it is not installed, or too old for larger chunks."""
    from importlib.util import find_spec

    if find_spec("liger_kernel") is None:
        return None
    from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy as function

    return function if "chunk_mem_const" in signature(function).parameters else None


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
                del log_probs, grad  # before the next chunk's logits are made
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
