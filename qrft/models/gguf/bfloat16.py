"""bfloat16, which numpy lacks: the upper half of a float32, held as uint16."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def to_bfloat16(tensor: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return the upper halves of finite float32 numbers, rounded to the nearest, to the even one of two.

    Same as ggml_compute_fp32_to_bf16 in ggml-impl.h.
    """
    bits = np.ascontiguousarray(tensor).view(np.uint32)
    rounded = (bits >> 16) & 1
    rounded += 0x7FFF
    rounded += bits
    rounded >>= 16
    return rounded.astype(np.uint16)
