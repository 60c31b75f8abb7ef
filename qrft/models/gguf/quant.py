"""How many bits a GGUF file spends per weight."""

from __future__ import annotations

from typing import Literal

Quant = Literal["f32", "f16", "q8_0", "q4_k_m"]
