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
from qrft.models.prompts import Prompt

LORA_KEYS = ("lora_r", "lora_alpha", "lora_dropout", "target_modules", "use_rslora", "lora_init")

RUNTIME_KEYS = {"checkpoint_minutes", "report_to"}  # keys of `train` that do not decide what is learnt


class Train(Section):
    quantization: Literal["nf4", "none"] = Field(
        default="nf4", description="How the frozen base model is held in memory."
    )
    adapter: Literal["lora", "none"] = Field(
        default="lora", validate_default=True, description="What is trained: a LoRA adapter, or none: every weight."
    )
    lora_r: Count = Field(default=32, description="LoRA rank.")
    lora_alpha: Count = Field(default=64, description="LoRA scale: alpha/r, or alpha/sqrt(r) with use_rslora.")
    lora_dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout on the input of the adapter.")
    target_modules: Literal["all-linear"] | Annotated[tuple[Linear, ...], Field(strict=False, min_length=1)] = Field(
        default="all-linear", description="The layers that get an adapter: all-linear, or a list of their names."
    )
    use_rslora: bool = Field(default=False, description="Rank-stabilised LoRA scaling.")
    lora_init: Literal["default", "pissa", "loftq"] = Field(
        default="default",
        description="How LoRA starts: at nothing, at the largest singular values, at the quantisation error.",
    )
    learning_rate: float = Field(default=2e-4, gt=0, description="Peak learning rate.")
    lr_scheduler: Literal["cosine", "linear", "constant", "polynomial", "inverse_sqrt"] = Field(
        default="cosine", description="Schedule after the warm-up."
    )
    warmup_ratio: float = Field(default=0.03, ge=0, le=1, description="Share of the steps that warm up.")
    weight_decay: float = Field(default=0.0, ge=0, description="AdamW weight decay.")
    neftune_noise_alpha: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="Scale of NEFTune's noise on the embeddings; null: none."
    )
    num_epochs: float = Field(default=3.0, gt=0, description="Passes over the training set; a fraction is allowed.")
    micro_batch_size: Count = Field(default=8, description="Examples in memory at once.")
    gradient_accumulation_steps: Count = Field(default=1, description="Micro-batches per optimizer step.")
    sequence_len: Count = Field(default=512, description="Longest example, prompt and completion, in tokens.")
    too_long: Literal["drop", "cut"] = Field(
        default="drop", description="Longer examples are left out, or lose the end of their completion."
    )
    packing: bool = Field(
        default=True, description="Examples of a step in one row without padding; changes speed, not what is learnt."
    )
    attention: Literal["auto", "sdpa", "eager", "flash_attention_2", "flash_attention_3", "flex_attention"] = Field(
        default="auto", description="The attention's implementation; auto takes the fastest that is installed."
    )
    gradient_checkpointing: bool | None = Field(
        default=None, description="Compute activations again in place of keeping them; null: where memory is short."
    )
    optimizer: Literal["auto", "adamw", "adamw_8bit", "paged_adamw_8bit"] = Field(
        default="auto", description="AdamW's states; auto: paged and 8-bit on a GPU, 32-bit on the processor."
    )
    vram: Literal["auto", 8, 12, 16, 24] | None = Field(
        default=None,
        description="GiB of GPU memory to choose micro-batch, checkpointing and optimizer for; null: as given.",
    )
    report_to: Annotated[tuple[Literal["tensorboard", "trackio", "wandb"], ...], Field(strict=False)] = Field(
        default=(), description="Who gets the losses too, beside loss.jsonl."
    )
    checkpoint_minutes: float = Field(default=5.0, gt=0, description="Minutes between checkpoints.")

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
        """Both starts are taken off again at the end, so that the adapter fits the base as it was: docs/training.md."""
        if lora_init == "loftq" and info.data.get("quantization") == "none":
            raise broken_rule(
                "found loftq with train.quantization none, which leaves no quantisation error to start from. "
                "Allowed: default, pissa, or train.quantization nf4"
            )
        return lora_init


class RftTrain(Train):
    models: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] = Field(
        default=(), description="Which of the models are fine-tuned again; without the key all."
    )


def merged(train: Train, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The overrides over `train`. Without an adapter its keys mean nothing, so they are not taken over."""
    shared = train.model_dump(exclude=set(LORA_KEYS) if overrides.get("adapter") == "none" else None)
    return {**shared, **overrides}


def _given_beside_train(values: Any, validate: Callable[[Any], Train], info: ValidationInfo) -> dict[str, Any]:
    """The keys that were given, right beside those of `train` that they leave alone."""
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
    """What `qrft train` takes with --set: the keys of `train`, and the recipe's own two."""

    prompt: Prompt = Field(default="plain", description="The prompt's wording; chat: the tokenizer's own template.")
    seed: Seed = Field(default=0, description="Training order and initialisation.")
