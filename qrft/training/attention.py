"""Let each example of a packed row attend to itself alone (see qrft.training.packing.collate)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from qrft.errors import UsageError
from qrft.models.any_shape import read_shape
from qrft.models.json_file import read_json

if TYPE_CHECKING:
    import torch

# "sdpa" in its name makes transformers check that the model takes sdpa; one that caps its scores does not.
PER_EXAMPLE, VARLEN, CAPPED = "sdpa_per_example", "sdpa_varlen", "capped_per_example"
OURS = {"sdpa": PER_EXAMPLE, "varlen": VARLEN}
TRIAL_LENGTHS = [40, 3, 150]
TRIAL_WINDOW = 20  # of a model that has one: it must be shorter than the trial's examples


class Heads(NamedTuple):
    """What a model's attention computes with. has_window: in some of its layers, a token sees only the last ones.
    has_cap: its scores are kept below a cap, as Gemma 2's are."""

    num_heads: int
    num_kv_heads: int
    head_dim: int
    has_window: bool = False
    dropout: float = 0.0
    has_cap: bool = False


def heads_of(model_dir: Path) -> Heads:
    """Read them from config.json. Raises ModelError when it can't be read."""
    shape, config = read_shape(model_dir), read_json(model_dir / "config.json")
    sizes = (shape.num_heads, shape.num_kv_heads, shape.head_dim)
    has_cap = config.get("model_type") == "gemma2" and config.get("attn_logit_softcapping", 50.0) is not None
    return Heads(*sizes, config.get("sliding_window") is not None, config.get("attention_dropout") or 0.0, has_cap)


def choose(requested: str, heads: Heads, device: str = "cpu", mixed: bool = False) -> str:
    """Return the `attn_implementation` to load the model with, for a value of `train.attention` on "cpu" or "cuda".

    mixed: arithmetic is in bfloat16. auto takes the first that can run here of FlashAttention 3 (on Hopper, for which
    it is written), torch's own kernel for examples of many lengths (`varlen`), FlashAttention 2, and `sdpa`, which
    always can. Raises UsageError for an attention that can't run here.
    """
    register()
    if requested == "auto":
        ways = [*(["flash_attention_3"] if _is_hopper(device) else []), "varlen", "flash_attention_2", "sdpa"]
        requested = next(way for way in ways if not _lacks(way, heads, device, mixed))
    elif lack := _lacks(requested, heads, device, mixed):
        raise UsageError(f"train.attention: found {requested}, which needs {lack}. Use auto or sdpa.")
    return CAPPED if requested == "sdpa" and heads.has_cap else OURS.get(requested, requested)


def _is_hopper(device: str) -> bool:
    import torch

    return device == "cuda" and torch.cuda.is_available() and torch.cuda.get_device_capability()[0] == 9


def _lacks(way: str, heads: Heads, device: str, mixed: bool) -> str:
    """Return what an implementation needs and does not have here; empty: it can run."""
    from transformers.utils.import_utils import is_flash_attn_2_available, is_flash_attn_3_available

    is_installed = {"flash_attention_3": is_flash_attn_3_available, "flash_attention_2": is_flash_attn_2_available}
    if way != "varlen" and way not in is_installed:
        return ""
    if device != "cuda":
        return "a CUDA device; there is none"
    if not mixed:
        return "bfloat16, in which this training does not compute"
    if way != "varlen":
        return "" if is_installed[way]() else f"the package of {way}, which is not installed"
    if heads.dropout:
        return f"a model without dropout in its attention; config.json has {heads.dropout}"
    if heads.has_cap:
        return "a model whose attention scores have no cap, which the kernel does not know"
    return varlen_fault(heads, device)


@cache
def varlen_fault(heads: Heads, device: str) -> str:
    """Try torch's kernel on three examples, forward and backward; return what is wrong with it here, or nothing.

    Which GPUs, sizes of heads and windows it takes depends on how torch was built. Wrong: it fails, or differs from
    sdpa, one example at a time, by more than bfloat16 rounds.
    """
    try:
        results = [_attended(attend, heads, device) for attend in (attend_varlen, attend_per_example)]
    except Exception as error:  # of any kind: what is missing is found where it is called
        reason = str(error).partition("\n")[0].partition(". ")[0]
        return f"torch's varlen_attn, which fails here ({reason})"
    for found, right in zip(*results, strict=True):
        if not (found - right).abs().max() <= 0.05 * right.abs().max():  # NaN is not either
            return "torch's varlen_attn, whose results are wrong here"
    return ""


def _attended(attend: Any, heads: Heads, device: str) -> list[torch.Tensor]:
    """Return the output and the gradients of query, key and value of the trial, in float32."""
    import torch

    generator, total = torch.Generator().manual_seed(0), sum(TRIAL_LENGTHS)
    sizes = [(1, num, total, heads.head_dim) for num in (heads.num_heads, heads.num_kv_heads, heads.num_kv_heads)]
    states = [
        torch.randn(size, generator=generator).to(device, torch.bfloat16).detach().requires_grad_() for size in sizes
    ]
    bounds = torch.tensor([0, *TRIAL_LENGTHS], dtype=torch.int32, device=device).cumsum(0, dtype=torch.int32)
    where = {"cu_seq_lens_q": bounds, "max_length_q": max(TRIAL_LENGTHS), "example_lengths": TRIAL_LENGTHS}
    out, _ = attend(None, *states, None, sliding_window=TRIAL_WINDOW if heads.has_window else None, **where)
    gradients = torch.autograd.grad(out.float().square().sum(), states)
    return [tensor.detach().float() for tensor in (out, *gradients)]


def register() -> None:
    """Make our ways known to transformers, which builds no mask for a name without a mask function."""
    from transformers import AttentionInterface

    AttentionInterface.register(PER_EXAMPLE, attend_per_example)
    AttentionInterface.register(CAPPED, attend_per_example)
    AttentionInterface.register(VARLEN, attend_varlen)


@contextmanager
def without_cudnn() -> Iterator[None]:
    """Take cuDNN out of what sdpa chooses from, which from torch 2.11 on is its first choice on Hopper and Blackwell.

    It makes a plan of some 30 ms for each length of an example, of which there are hundreds.
    """
    import torch

    backends: Any = torch.backends.cuda
    was_enabled = backends.cudnn_sdp_enabled()
    backends.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        backends.enable_cudnn_sdp(was_enabled)


def attend_varlen(
    module: torch.nn.Module | None,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    *,
    cu_seq_lens_q: torch.Tensor,  # required, so that a padded batch can't be attended to by mistake
    max_length_q: int,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Compute what `attend_per_example` does by one call of torch's kernel, which takes 16 bits, and no dropout.

    Autocast does not know the kernel; where norms or embeddings learn, query and key come in float32.
    """
    import torch
    from torch.nn.attention.varlen import varlen_attn

    kind = query.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else query.dtype
    q, k, v = (states[0].transpose(0, 1).to(dtype) for states in (query, key, value))  # [T, heads, d]
    named: dict[str, Any] = {"enable_gqa": True} if q.shape[1] != k.shape[1] and _names_groups() else {}
    # A token sees those from `left` before it to itself.
    left = -1 if sliding_window is None else sliding_window - 1
    attended: Any = varlen_attn(
        q,
        k,
        v,
        cu_seq_lens_q,
        cu_seq_lens_q,
        max_length_q,
        max_length_q,
        scale=scaling,
        window_size=(left, 0),
        **named,
    )
    return attended[None], None


@cache
def _names_groups() -> bool:
    """Return whether torch's kernel is to be told of grouped heads: earlier versions take them as they come."""
    from torch.nn.attention.varlen import varlen_attn

    return "enable_gqa" in signature(varlen_attn).parameters


def attend_per_example(
    module: torch.nn.Module | None,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    *,
    example_lengths: list[int],  # required, so that a padded batch can't be attended to by mistake
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Compute the causal attention of every example to itself, by one call of torch's sdpa for each.

    query [1, heads, T, d]; key, value [1, key-value heads, T, d]. Returns [1, T, heads, d]. A token sees itself and
    the `sliding_window - 1` tokens before it. There is no mask, except for an example that is longer than the window.
    """
    import torch

    examples = [torch.split(states, example_lengths, dim=2) for states in (query, key, value)]
    attended = [
        _attend(q, k, v, dropout, scaling, sliding_window, softcap).transpose(1, 2)
        for q, k, v in zip(*examples, strict=True)
    ]
    return torch.cat(attended, dim=1), None


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    dropout: float,
    scaling: float | None,
    sliding_window: int | None,
    softcap: float | None,
) -> torch.Tensor:
    import torch
    from torch.nn.functional import scaled_dot_product_attention as sdpa

    length = query.shape[2]
    is_within = sliding_window is None or length <= sliding_window
    if is_within and softcap is None:
        return sdpa(query, key, value, dropout_p=dropout, scale=scaling, is_causal=True, enable_gqa=True)
    groups = query.shape[1] // key.shape[1]  # with a mask, grouped heads would take CUDA's slow path
    key, value = (states.repeat_interleave(groups, dim=1) for states in (key, value))
    window = torch.ones(length, length, dtype=torch.bool, device=query.device).tril()
    if sliding_window is not None:
        window = window.triu(1 - sliding_window)
    if softcap is not None:
        return _capped(query, key, value, window, dropout, scaling, softcap)
    return sdpa(query, key, value, attn_mask=window, dropout_p=dropout, scale=scaling)


def _capped(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    window: torch.Tensor,
    dropout: float,
    scaling: float | None,
    softcap: float,
) -> torch.Tensor:
    """Compute what sdpa does, with scores that `softcap * tanh(score / softcap)` keeps below the cap."""
    import torch

    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = softcap * torch.tanh(query @ key.transpose(2, 3) * scale / softcap)
    shares = torch.softmax(scores.masked_fill(~window, -torch.inf), dim=-1, dtype=torch.float32).to(query.dtype)
    return torch.nn.functional.dropout(shares, dropout) @ value
