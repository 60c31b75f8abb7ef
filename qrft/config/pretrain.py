"""The recipe of `qrft pretrain`."""

from __future__ import annotations

from typing import Annotated

from pydantic import (
    Field,
    ValidationInfo,
    field_validator,
)

from qrft.config.section import Count, Name, Section, Seed, broken_rule
from qrft.config.sections import MODEL_NAME


class Member(Section):
    """What a base of a family has of its own; null takes the family's."""

    seed: Seed | None = Field(default=None, description="The seed for the initialisation and the corpus.")
    hidden_size: Count | None = Field(default=None, description="The width of the model.")
    num_layers: Count | None = Field(default=None, description="How many transformer blocks there are.")
    num_heads: Count | None = Field(default=None, description="How many attention heads there are.")
    intermediate_size: Count | None = Field(default=None, description="The width of the MLP.")
    num_tokens: Count | None = Field(default=None, description="How many tokens to train on.")
    learning_rate: Annotated[float, Field(gt=0)] | None = Field(default=None, description="The peak learning rate.")


class PretrainRecipe(Section):
    """A small base model trained from scratch, or a family of them: `qrft pretrain`."""

    name: Name = Field(description="The name of the model.")
    seed: Seed = Field(default=0, description="The seed for the initialisation and the corpus.")
    hidden_size: Count = Field(
        default=128, description="The width of the model, which must be an even multiple of num_heads."
    )
    num_layers: Count = Field(default=4, description="How many transformer blocks there are.")
    num_heads: Count = Field(default=4, validate_default=True, description="How many attention heads there are.")
    intermediate_size: Count = Field(default=384, description="The width of the MLP.")
    vocab_size: Count = Field(default=1024, description="The size of the vocabulary.")
    context_length: Count = Field(default=256, description="The length of a sequence, in tokens.")
    num_tokens: Count = Field(default=8_000_000, description="How many tokens to train on.")
    batch_size: Count = Field(default=32, description="How many sequences make up an optimizer step.")
    learning_rate: float = Field(default=1e-3, gt=0, description="The peak learning rate.")
    warmup_ratio: float = Field(
        default=0.02, gt=0, lt=1, description="The share of the optimizer steps over which the learning rate warms up."
    )
    family: dict[str, Member] = Field(
        default_factory=dict,
        description="Several base models under names of your choice, each with the keys in which it differs from "
        "those above. If empty, one model is made.",
    )

    @field_validator("num_heads")
    @classmethod
    def _heads_are_even(cls, num_heads: int, info: ValidationInfo) -> int:
        return _even_heads(num_heads, info.data.get("hidden_size", 0))

    @field_validator("family")
    @classmethod
    def _members_can_be_made(cls, family: dict[str, Member], info: ValidationInfo) -> dict[str, Member]:
        for name, member in family.items():
            if not MODEL_NAME.fullmatch(name):
                raise broken_rule(f"found the name {name!r}. Allowed: up to 40 letters, digits, _ and -")
            _even_heads(
                member.num_heads or info.data.get("num_heads", 1), member.hidden_size or info.data.get("hidden_size", 0)
            )
        return family

    def members(self) -> dict[str, PretrainRecipe]:
        """Return a recipe for each base of the family."""
        own = {name: member.model_dump(exclude_none=True) for name, member in self.family.items()}
        return {name: self.model_copy(update={**keys, "name": name, "family": {}}) for name, keys in own.items()}


def _even_heads(num_heads: int, hidden_size: int) -> int:
    if hidden_size % (2 * num_heads):  # rotary embeddings turn pairs
        raise broken_rule(
            f"found {num_heads} with hidden_size {hidden_size}. Allowed: hidden_size / num_heads whole and even"
        )
    return num_heads
