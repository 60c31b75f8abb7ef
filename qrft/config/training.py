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
from qrft.models.wording import Wording

LORA_KEYS = ("lora_r", "lora_alpha", "lora_dropout", "target_modules", "use_rslora", "lora_init")

RUNTIME_KEYS = frozenset({"checkpoint_minutes", "report_to"})  # keys of `train` that do not decide what is learnt


class Train(Section):
    @property
    def runtime_keys(self) -> frozenset[str]:
        return RUNTIME_KEYS

    quantization: Literal["nf4", "none"] = Field(
        default="nf4",
        description="How the frozen base model is held in memory: in 4 bits (nf4), or unquantised (none).",
    )
    adapter: Literal["lora", "none"] = Field(
        default="lora",
        validate_default=True,
        description="What is trained: a LoRA adapter (lora), or every weight (none).",
    )
    lora_r: Count = Field(default=32, description="The rank of the LoRA adapter.")
    lora_alpha: Count = Field(
        default=64,
        description="Sets the scale of the LoRA adapter, which is alpha/r, or alpha/sqrt(r) with use_rslora.",
    )
    lora_dropout: float = Field(default=0.0, ge=0, lt=1, description="The dropout rate on the adapter's input.")
    target_modules: Literal["all-linear"] | Annotated[tuple[Linear, ...], Field(strict=False, min_length=1)] = Field(
        default="all-linear",
        description="The linear layers that get an adapter: all of them (all-linear), or a list of names.",
    )
    use_rslora: bool = Field(
        default=False,
        description="Divide alpha by the square root of the rank instead of the rank (rank-stabilised LoRA).",
    )
    lora_init: Literal["default", "pissa", "loftq"] = Field(
        default="default",
        description="Where the adapter starts: at zero (default), at the largest singular values of each weight "
        "(pissa), or at the quantisation error (loftq).",
    )
    learning_rate: float = Field(default=2e-4, gt=0, description="The peak learning rate.")
    lr_scheduler: Literal["cosine", "linear", "constant", "polynomial", "inverse_sqrt"] = Field(
        default="cosine", description="The shape of the learning rate's curve after the warm-up."
    )
    warmup_ratio: float = Field(
        default=0.03, ge=0, le=1, description="The share of the optimizer steps over which the learning rate warms up."
    )
    weight_decay: float = Field(default=0.0, ge=0, description="The weight decay of AdamW.")
    neftune_noise_alpha: Annotated[float, Field(gt=0)] | None = Field(
        default=None,
        description="The scale of the noise that NEFTune adds to the embeddings. If not set, none is added.",
    )
    num_epochs: float = Field(
        default=3.0, gt=0, description="How many times to pass over the training set; fractions are allowed."
    )
    num_steps: Count | None = Field(
        default=None,
        description="How many optimizer steps to take, in place of num_epochs: trainings on more and on fewer rows are "
        "then equally long.",
    )
    micro_batch_size: Count = Field(default=8, description="How many examples to process at once.")
    gradient_accumulation_steps: Count = Field(
        default=1, description="How many micro-batches make up an optimizer step."
    )
    sequence_len: Count = Field(
        default=512, description="The maximum length of an example, prompt and completion together, in tokens."
    )
    too_long: Literal["drop", "cut"] = Field(
        default="drop",
        description="Whether an example that is too long is left out (drop) or loses the end of its completion (cut).",
    )
    packing: bool = Field(
        default=True,
        description="Pack the examples of a step into rows without padding. This changes the speed, not what is "
        "learnt.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="The precision of the arithmetic; auto takes bfloat16 on a GPU that has it, and for adapters on "
        "a processor that has it (AMX, AVX512-BF16) where a short measurement finds it faster.",
    )
    attention: Literal[
        "auto", "sdpa", "varlen", "eager", "flash_attention_2", "flash_attention_3", "flex_attention"
    ] = Field(default="auto", description="The implementation of attention; auto takes the fastest one that runs here.")
    gradient_checkpointing: bool | None = Field(
        default=None,
        description="Recompute activations instead of keeping them. If not set, this is done where memory is short.",
    )
    optimizer: Literal["auto", "adamw", "adamw_8bit", "paged_adamw_8bit"] = Field(
        default="auto",
        description="Which AdamW to use; auto takes adamw, in 32 bits, or on a GPU where that does not fit, "
        "paged_adamw_8bit.",
    )
    vram: Literal["auto", 8, 12, 16, 24] | None = Field(
        default=None,
        description="Choose micro_batch_size, gradient_checkpointing and optimizer so that training fits into this "
        "much GPU memory, in GiB; auto takes what is free. If not set, what the recipe says is used.",
    )
    report_to: Annotated[tuple[Literal["tensorboard", "trackio", "wandb"], ...], Field(strict=False)] = Field(
        default=(), description="Where to send the losses besides loss.jsonl."
    )
    checkpoint_minutes: float = Field(
        default=5.0, gt=0, description="How many minutes to train between two checkpoints."
    )

    def identity(self) -> dict[str, Any]:
        """Return the settings as ever, and the newer `num_steps` where it is set."""
        own = super().identity()
        return {name: value for name, value in own.items() if name != "num_steps" or value}

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
        """LoftQ starts at the quantisation error; docs/training.md says how that is subtracted again at the end."""
        if lora_init == "loftq" and info.data.get("quantization") == "none":
            raise broken_rule(
                "found loftq with train.quantization none, which leaves no quantisation error to start from. "
                "Allowed: default, pissa, or train.quantization nf4"
            )
        return lora_init


class RftTrain(Train):
    models: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] = Field(
        default=(), description="The models that are fine-tuned again. If not set, all of them."
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


class Training(Train, Wording):
    """What `qrft train` takes with --set: the keys of `train`, and the recipe's own keys of the prompt, and seed."""

    seed: Seed = Field(default=0, description="The seed for the order of the examples and for the initialisation.")
