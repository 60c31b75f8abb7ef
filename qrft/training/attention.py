"""Let each example of a packed row attend to itself alone (see qrft.training.packing.collate)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qrft.errors import UsageError

if TYPE_CHECKING:
    import torch

# "sdpa" in its name makes transformers check that the model takes sdpa.
PER_EXAMPLE = "sdpa_per_example"


def choose(requested: str, device: str = "cpu") -> str:
    """Return the `attn_implementation` to load the model with, for a value of `train.attention` on "cpu" or "cuda".

    auto: the newest FlashAttention that is installed, on CUDA; else `sdpa_per_example`, which sdpa always stands for.
    Raises UsageError for an attention that can't run here.
    """
    from transformers.utils.import_utils import is_flash_attn_2_available, is_flash_attn_3_available

    register()
    flash = {"flash_attention_3": is_flash_attn_3_available, "flash_attention_2": is_flash_attn_2_available}
    installed = [name for name, is_available in flash.items() if device == "cuda" and is_available()]
    if requested == "auto":
        return installed[0] if installed else PER_EXAMPLE
    if requested in flash and requested not in installed:
        missing = (
            "a CUDA device; there is none. Use auto or sdpa"
            if device != "cuda"
            else "the package flash-attn, which is not installed. Use auto, or install it"
        )
        raise UsageError(f"train.attention: found {requested}, which needs {missing}.")
    return PER_EXAMPLE if requested == "sdpa" else requested


def register() -> None:
    """Make `sdpa_per_example` known to transformers, which builds no mask for a name without a mask function."""
    from transformers import AttentionInterface

    AttentionInterface.register(PER_EXAMPLE, attend_per_example)


def attend_per_example(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    *,
    example_lengths: list[int],  # required, so that a padded batch can't be attended to by mistake
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Compute the causal attention of every example to itself, by one call of torch's sdpa for each.

    query [1, heads, T, d]; key, value [1, key-value heads, T, d]. Returns [1, T, heads, d]. A token sees itself and
    the `sliding_window - 1` tokens before it. There is no mask, except for an example that is longer than the window.
    """
    import torch

    examples = [torch.split(states, example_lengths, dim=2) for states in (query, key, value)]
    attended = [
        _attend(q, k, v, dropout, scaling, sliding_window).transpose(1, 2) for q, k, v in zip(*examples, strict=True)
    ]
    return torch.cat(attended, dim=1), None


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    dropout: float,
    scaling: float | None,
    sliding_window: int | None,
) -> torch.Tensor:
    import torch
    from torch.nn.functional import scaled_dot_product_attention as sdpa

    length = query.shape[2]
    if sliding_window is None or length <= sliding_window:
        return sdpa(query, key, value, dropout_p=dropout, scale=scaling, is_causal=True, enable_gqa=True)
    groups = query.shape[1] // key.shape[1]  # with a mask, grouped heads would take CUDA's slow path
    key, value = (states.repeat_interleave(groups, dim=1) for states in (key, value))
    window = torch.ones(length, length, dtype=torch.bool, device=query.device).tril().triu(1 - sliding_window)
    return sdpa(query, key, value, attn_mask=window, dropout_p=dropout, scale=scaling)
