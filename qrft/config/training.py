"""The section `train` of a recipe, and the sections that override it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    GetPydanticSchema,
    ValidationInfo,
    field_validator,
)
from pydantic_core import core_schema

from qrft.config.section import Count, Section, Seed, broken_rule
from qrft.models.architectures import Linear
from qrft.models.prompts import PROMPT, Prompt

LORA_KEYS = ("lora_r", "lora_alpha", "lora_dropout", "target_modules", "use_rslora", "lora_init")

RUNTIME_KEYS = frozenset({"checkpoint_minutes", "report_to"})  # keys of `train` that do not decide what is learnt


class Train(Section):
    @property
    def runtime_keys(self) -> frozenset[str]:
        return RUNTIME_KEYS

    quantization: Literal["nf4", "none"] = Field(
        default="nf4", description="How the frozen base model is held in memory."
    )
    adapter: Literal["lora", "none"] = Field(
        default="lora",
        validate_default=True,
        description="What is trained: a LoRA adapter (lora), or every weight (none).",
    )
    lora_r: Count = Field(default=32, description="The rank of LoRA.")
    lora_alpha: Count = Field(default=64, description="The scale of LoRA: alpha/r, or alpha/sqrt(r) with use_rslora.")
    lora_dropout: float = Field(default=0.0, ge=0, lt=1, description="The dropout on the adapter's input.")
    target_modules: Literal["all-linear"] | Annotated[tuple[Linear, ...], Field(strict=False, min_length=1)] = Field(
        default="all-linear", description="The layers that get an adapter: all-linear, or a list of their names."
    )
    use_rslora: bool = Field(
        default=False,
        description="Divide alpha by the square root of the rank instead of the rank (rank-stabilised LoRA).",
    )
    lora_init: Literal["default", "pissa", "loftq"] = Field(
        default="default",
        description="Where LoRA starts: at zero (default), at the largest singular values (pissa), or at the "
        "quantisation error (loftq).",
    )
    learning_rate: float = Field(default=2e-4, gt=0, description="The peak learning rate.")
    lr_scheduler: Literal["cosine", "linear", "constant", "polynomial", "inverse_sqrt"] = Field(
        default="cosine", description="The schedule of the learning rate after the warm-up."
    )
    warmup_ratio: float = Field(default=0.03, ge=0, le=1, description="The share of the steps that warm up.")
    weight_decay: float = Field(default=0.0, ge=0, description="The weight decay of AdamW.")
    neftune_noise_alpha: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="The scale of NEFTune's noise on the embeddings; null adds none."
    )
    num_epochs: float = Field(
        default=3.0, gt=0, description="How many passes over the training set; a fraction is allowed."
    )
    micro_batch_size: Count = Field(default=8, description="How many examples are in memory at once.")
    gradient_accumulation_steps: Count = Field(default=1, description="How many micro-batches make an optimizer step.")
    sequence_len: Count = Field(
        default=512, description="The longest example, prompt and completion together, in tokens."
    )
    too_long: Literal["drop", "cut"] = Field(
        default="drop",
        description="Whether a longer example is left out (drop), or loses the end of its completion (cut).",
    )
    packing: bool = Field(
        default=True,
        description="Put the examples of a step into rows without padding; this changes the speed, not what is learnt.",
    )
    attention: Literal["auto", "sdpa", "eager", "flash_attention_2", "flash_attention_3", "flex_attention"] = Field(
        default="auto", description="The implementation of attention; auto takes the fastest that is installed."
    )
    gradient_checkpointing: bool | None = Field(
        default=None,
        description="Compute activations again instead of keeping them; null does so where memory is short.",
    )
    optimizer: Literal["auto", "adamw", "adamw_8bit", "paged_adamw_8bit"] = Field(
        default="auto",
        description="How AdamW holds its states; auto: paged and in 8 bits on a GPU, in 32 bits on the processor.",
    )
    vram: Literal["auto", 8, 12, 16, 24] | None = Field(
        default=None,
        description="The GPU memory, in GiB, to choose micro-batch, checkpointing and optimizer for; null keeps them.",
    )
    report_to: Annotated[tuple[Literal["tensorboard", "trackio", "wandb"], ...], Field(strict=False)] = Field(
        default=(), description="Where the losses go besides loss.jsonl."
    )
    checkpoint_minutes: float = Field(default=5.0, gt=0, description="Minutes between checkpoints.")

    @property
    def batch_size(self) -> int:
        """Examples per optimizer step, however many are in memory at once."""
        return self.micro_batch_size * self.gradient_accumulation_steps

    @field_validator("adapter")
    @classmethod
    def _frozen_weights_are_quantised(cls, adapter: str, info: ValidationInfo) -> str:
        if adapter == "none" and info.data.get("quantization") == "nf4":
            raise broken_rule(
                "found none with train.quantization nf4, whose weights can't be trained. "
                "Allowed: lora, or train.quantization none"
            )
        return adapter

    @field_validator(*LORA_KEYS)
    @classmethod
    def _lora_has_an_adapter(cls, value: Any, info: ValidationInfo) -> Any:
        default = cls.model_fields[str(info.field_name)].default
        if info.data.get("adapter") == "none" and value != default:
            shown = str(value).lower() if isinstance(value, bool) else value
            raise broken_rule(f"found {shown} with train.adapter none, which trains no LoRA. Leave the key out")
        return value

    @field_validator("lora_init")
    @classmethod
    def _there_is_an_error_to_start_from(cls, lora_init: str, info: ValidationInfo) -> str:
        """LoftQ starts at the quantisation error; docs/training.md says how that is taken off again at the end."""
        if lora_init == "loftq" and info.data.get("quantization") == "none":
            raise broken_rule(
                "found loftq with train.quantization none, which leaves no quantisation error to start from. "
                "Allowed: default, pissa, or train.quantization nf4"
            )
        return lora_init


class RftTrain(Train):
    models: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] = Field(
        default=(), description="Which of the models are fine-tuned again; without this key, all of them."
    )


def merged(train: Train, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return `train` with the overrides. Without an adapter its keys mean nothing, so they are left out."""
    shared = train.model_dump(exclude=set(LORA_KEYS) if overrides.get("adapter") == "none" else None)
    return {**shared, **overrides}


def _given_beside_train(values: Any, validate: Callable[[Any], Train], info: ValidationInfo) -> dict[str, Any]:
    """Return the keys that were given, checked together with those of `train` that they leave alone."""
    train = info.data.get("train")  # lacks when it is wrong itself
    if isinstance(train, Train) and isinstance(values, Mapping):
        right = validate(merged(train, values))
    else:
        right = validate(values)
    return {name: value for name, value in right.model_dump().items() if name in values}


# Validated as a Train section, kept as a dict of the keys that were given: what is absent must not override.
def _overrides(kind: type[Train]) -> GetPydanticSchema:
    return GetPydanticSchema(
        lambda _, handler: core_schema.with_info_wrap_validator_function(
            _given_beside_train, handler(kind), serialization=core_schema.plain_serializer_function_ser_schema(dict)
        )
    )


TrainOverrides = Annotated[dict[str, Any], _overrides(Train)]
RftOverrides = Annotated[dict[str, Any], _overrides(RftTrain)]


class Training(Train):
    """What `qrft train` takes with --set: the keys of `train`, and the recipe's own keys prompt and seed."""

    prompt: Prompt = PROMPT
    seed: Seed = Field(default=0, description="Decides the order of training and the initialisation.")
