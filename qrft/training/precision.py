"""Which of float32 and bfloat16 a processor trains in faster: measured, where it has a unit for bfloat16 at all.

A unit alone does not decide: narrow layers lose more in casts than their products gain, and AVX512-BF16 without AMX may
be slower than float32 (docs/log.md).
"""

from __future__ import annotations

import hashlib
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from qrft.data.disk import cache_folder
from qrft.data.sealed import read_sealed, write_sealed
from qrft.machine import processor

if TYPE_CHECKING:
    import torch

WIDEST = 1024  # a wider layer is timed as one of this width: products take nearly all of its time
_TOKENS, _RANK, _PASSES = 512, 16, 3
LEAST_GAIN = 1.1  # times as fast: less may be noise, and the next step of a run would be measured otherwise


@lru_cache
def pays(width: int) -> bool:
    """Return whether layers of this width, with an adapter, pass forth and back faster in bfloat16, by LEAST_GAIN.

    Measured once for a processor, a version of torch and a width, in a second or two, and kept in the user's cache.
    """
    import torch

    width = min(width, WIDEST)
    key = hashlib.blake2b(f"{processor()} {torch.__version__} {width}".encode(), digest_size=10).hexdigest()
    path = cache_folder() / "precision.json"
    kept = read_sealed(path)
    if key not in kept:
        exact, rounded = (seconds(width, dtype) for dtype in (torch.float32, torch.bfloat16))
        kept = {**read_sealed(path), key: exact / rounded}
        write_sealed(path, kept)
    return float(kept[key]) >= LEAST_GAIN


def seconds(width: int, dtype: torch.dtype) -> float:
    """Return the time of the fastest of some passes through a frozen layer up to three widths and one back, each with
    an adapter that learns in float32, as training computes them."""
    import torch

    generator = torch.Generator().manual_seed(0)

    def drawn(*size: int) -> Any:
        return torch.randn(size, generator=generator) / width**0.5

    layers = [
        (drawn(rows, columns).to(dtype), drawn(_RANK, columns).requires_grad_(), drawn(rows, _RANK).requires_grad_())
        for rows, columns in ((3 * width, width), (width, 3 * width))
    ]
    tokens, times = drawn(_TOKENS, width).to(dtype), []
    for _ in range(1 + _PASSES):
        begun = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            states = tokens.detach().requires_grad_()
            for weight, a, b in layers:
                added = torch.nn.functional.linear(torch.nn.functional.linear(states, a), b)
                states = torch.nn.functional.silu(torch.nn.functional.linear(states, weight) + added)
        states.float().square().mean().backward()
        times.append(time.perf_counter() - begun)
    return min(times[1:])  # the first makes room
