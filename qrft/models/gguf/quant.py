"""How the files for llama.cpp are made: the recipe's section `gguf`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from qrft.config.section import Section, broken_rule

Quant = Literal["f32", "f16", "bf16", "q8_0", "q4_k_m"]
Comparison = Literal["off", "once", "always"]


class Gguf(Section):
    quant: Quant = Field(
        default="f16",
        description="The number format of the matrices in the GGUF files that qrft makes. A ready-made file keeps its "
        "own.",
    )
    file: str | None = Field(
        default=None,
        description="A ready-made GGUF file of exactly this base model, which is read where it lies. If not set, qrft "
        "makes one.",
    )
    merge: bool | None = Field(
        default=None,
        description="Merge each adapter into a copy of the base, instead of applying it to the base at run time. If "
        "not set, qrft merges where llama.cpp has a GPU, and applies at run time elsewhere and to a ready-made file.",
    )
    parity: Comparison = Field(
        default="once",
        description="Whether llama.cpp's logits are compared with transformers' before sampling: off, once for the "
        "same files, or always.",
    )

    @field_validator("merge")
    @classmethod
    def _a_ready_file_stays_as_it_is(cls, merge: bool | None, info: ValidationInfo) -> bool | None:
        if merge and info.data.get("file") is not None:
            raise broken_rule(
                "found true with gguf.file, which nothing can be merged into. Allowed: false, or file null"
            )
        return merge
