"""The recipe: one YAML file that says what to run, validated strictly. This file is the reference of all its keys.

`load` reports every fault at once, each with its line, the key, what was found and what is allowed. `qrft.yaml_lines`
makes values of the text, `qrft.recipe_faults` words what is wrong with them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, overload

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetPydanticSchema,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError, core_schema

from qrft import sweep, yaml_lines
from qrft.errors import RecipeError
from qrft.recipe_faults import (
    BUILTIN_MODELS,
    BUILTIN_PROBLEMS,
    PUBLISHED_PROBLEMS,
    did_you_mean,
    key_paths,
    local_path,
    near_recipes,
    path_faults,
    value_faults,
)

__all__ = [
    "BUILTIN_MODELS",
    "BUILTIN_PROBLEMS",
    "HOW_IT_GOES",
    "PUBLISHED_PROBLEMS",
    "PretrainRecipe",
    "Recipe",
    "Train",
    "Training",
    "Variant",
    "dump",
    "json_schema",
    "load",
    "local_path",
    "training",
]

MAX_BYTES = 256 * 1024  # a recipe is about 2 kB: a larger file was named by mistake


class Section(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$", max_length=100)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]  # the range of numpy's seeds, the narrowest of all that take it
Count = Annotated[int, Field(ge=1)]
# Of every block of every supported model. An adapter elsewhere could not be exported, which would show after training.
Linear = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


Prompt = Literal["plain", "alpaca", "chat"]
# A share may be written 1/8.
Share = Annotated[float, Field(gt=0, le=1), BeforeValidator(sweep.number)]
Percent = Annotated[float, Field(ge=0, le=100)]


def _broken_rule(text: str, *at: str) -> PydanticCustomError:
    """at: the key inside the validated section that is wrong."""
    return PydanticCustomError("broken_rule", "{text}", {"text": text, "at": at})


class Problems(Section):
    train: str = Field(description="Problems to train and sample on: a built-in or published set, or a JSONL file.")
    test: str = Field(description="Problems to evaluate on: a built-in or published set, or a JSONL file.")
    num_train: Count | None = Field(
        default=None, validate_default=True, description="How many of the training problems; null takes all."
    )
    num_test: Count | None = Field(
        default=None, validate_default=True, description="How many problems of each test set; null takes all."
    )
    seed: Seed = Field(default=0, description="Draws the problems of a generated set.")
    train_fraction: Share = Field(
        default=1.0,
        description="Share of the training problems to use; drawn by seed, smaller within larger.",
    )

    @field_validator("num_train", "num_test")
    @classmethod
    def _generated_sets_end(cls, num_problems: int | None, info: ValidationInfo) -> int | None:
        name = info.data.get(str(info.field_name).removeprefix("num_"))
        if num_problems is None and name in BUILTIN_PROBLEMS:
            raise _broken_rule(f"found null with {name}, which has no end. Allowed: how many problems to draw")
        return num_problems


LORA_KEYS = ("lora_r", "lora_alpha", "lora_dropout", "target_modules", "use_rslora", "lora_init")

HOW_IT_GOES = {"checkpoint_minutes", "report_to"}  # keys of `train` that do not decide what is learnt


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
            raise _broken_rule(
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
            raise _broken_rule(f"found {shown} with train.adapter none, which trains no LoRA. Leave the key out")
        return value

    @field_validator("lora_init")
    @classmethod
    def _there_is_an_error_to_start_from(cls, lora_init: str, info: ValidationInfo) -> str:
        """Both starts are taken off again at the end, so that the adapter fits the base as it was: docs/training.md."""
        if lora_init == "loftq" and info.data.get("quantization") == "none":
            raise _broken_rule(
                "found loftq with train.quantization none, which leaves no quantisation error to start from. "
                "Allowed: default, pissa, or train.quantization nf4"
            )
        return lora_init


class Until(Section):
    correct: Count | None = Field(default=None, description="Enough correct samples of a problem; null: no such goal.")
    distinct: Count | None = Field(
        default=None,
        validate_default=True,
        description="Enough distinct correct paths beside the gold one; null: no such goal.",
    )
    max_samples: Count | None = Field(
        default=None, validate_default=True, description="Most samples of a problem; null takes sample.num_samples."
    )

    @field_validator("distinct")
    @classmethod
    def _one_goal(cls, distinct: int | None, info: ValidationInfo) -> int | None:
        if distinct is not None and info.data.get("correct") is not None:
            raise _broken_rule(f"found {distinct} beside sample.until.correct. Allowed: one of the two")
        return distinct

    @field_validator("max_samples")
    @classmethod
    def _goal_is_in_reach(cls, max_samples: int | None, info: ValidationInfo) -> int | None:
        goal = info.data.get("correct") or info.data.get("distinct")
        if max_samples is not None and goal is None and {"correct", "distinct"} <= set(info.data):
            raise _broken_rule(f"found {max_samples} without a goal. Allowed: with sample.until.correct or .distinct")
        if max_samples is not None and goal is not None and max_samples < goal:
            raise _broken_rule(f"found {max_samples}, which can't hold {goal} paths. Allowed: a whole number >= {goal}")
        return max_samples


class Sample(Section):
    num_samples: Count = Field(default=30, description="Samples per problem: k.")
    temperature: float = Field(default=0.7, ge=0, description="0 always takes the likeliest token.")
    top_p: float = Field(default=1.0, gt=0, le=1, description="Nucleus sampling; 1 is off.")
    top_k: int = Field(default=0, ge=0, description="Keep the k likeliest tokens; 0 is off.")
    min_p: float = Field(
        default=0.0, ge=0, le=1, description="Keep tokens of at least this share of the likeliest one's probability."
    )
    stop: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(strict=False)] = Field(
        default=(), description="Texts that end a completion where they begin."
    )
    until: Until = Field(default_factory=Until, description="Sample problems more until they have enough paths.")
    max_new_tokens: Count = Field(default=512, description="Longest completion, in tokens.")
    num_sequences: Count | None = Field(
        default=None, description="Sequences decoded together in one context; null chooses by the model's size."
    )

    @field_validator("until")
    @classmethod
    def _goal_is_in_reach(cls, until: Until, info: ValidationInfo) -> Until:
        goal, num_samples = until.correct or until.distinct or 0, info.data.get("num_samples", 1)
        if until.max_samples is None and goal > num_samples:
            raise _broken_rule(
                f"found {goal} paths with sample.num_samples {num_samples}. Allowed: fewer, or with until.max_samples"
            )
        return until

    @field_validator("temperature")
    @classmethod
    def _samples_differ(cls, temperature: float, info: ValidationInfo) -> float:
        num_samples = info.data.get("num_samples", 1)
        if temperature == 0 and num_samples > 1:
            raise _broken_rule(
                f"found 0 with sample.num_samples {num_samples}: all samples of a problem would be equal. "
                "Allowed: a temperature > 0, or num_samples 1"
            )
        return temperature


class Gguf(Section):
    quant: Literal["f32", "f16", "q8_0", "q4_k_m"] = Field(
        default="f16", description="How the files that qrft makes hold their matrices; file has its own."
    )
    file: str | None = Field(
        default=None, description="A ready GGUF file of this very base model, used where it lies; null makes one."
    )
    merge: bool = Field(
        default=False, description="Merge each adapter into a copy of the base, or apply it to the base at run time."
    )

    @field_validator("merge")
    @classmethod
    def _a_ready_file_stays_as_it_is(cls, merge: bool, info: ValidationInfo) -> bool:
        if merge and info.data.get("file") is not None:
            raise _broken_rule(
                "found true with gguf.file, into which nothing can be merged. Allowed: false, or no file"
            )
        return merge


class Grade(Section):
    """The fields of core.Rules; docs/semantics.md defines every value."""

    mode: Literal["default", "paper"] = Field(
        default="default", description="paper: decide as the paper's own script does; the other keys then stay out."
    )
    answer_format: Literal["gsm8k", "boxed", "answer-is", "last-number", "auto"] = Field(
        default="gsm8k", description="Where the answer stands in a solution."
    )
    marker: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, description="The text after which the answer stands, in place of answer_format; null: none."
    )
    equations: Literal["marked", "anywhere"] = Field(
        default="marked", description="Check the equations between << and >>, or those in running text too."
    )
    order: Literal["exact", "commutative"] = Field(
        default="exact", description="Whether swapped operands of + and * make another path, or the same one."
    )

    @field_validator("answer_format", "marker", "equations", "order")
    @classmethod
    def _paper_leaves_no_choice(cls, value: str | None, info: ValidationInfo) -> str | None:
        if info.data.get("mode") == "paper" and value != (default := cls.model_fields[str(info.field_name)].default):
            raise _broken_rule(
                f"found {value!r} with grade.mode paper, which decides everything as the paper does. "
                f"Allowed: {default or 'null'}, or leave the key out"
            )
        return value


class Curate(Section):
    keep: Literal["farthest", "first", "shortest", "longest"] = Field(
        default="farthest",
        description="Of solution paths with the same equations keep the one least like the others, the first, ...",
    )
    max_per_problem: Count | None = Field(
        default=None, description="Keep at most so many sampled paths of a problem; null keeps all."
    )
    dedup: bool = Field(default=True, description="Keep one path per list of equations; false keeps every right one.")
    first_samples: Count | None = Field(
        default=None, description="Look at the first so many samples of a problem (and model); null looks at all."
    )
    pool: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        default=(), description="Models whose samples are selected from together, for all; empty: each has its own."
    )


Counts = Annotated[tuple[Count, ...], Field(strict=False)]


class Evaluate(Section):
    greedy: bool = Field(
        default=True, description="One greedy answer a problem; without it the accuracy is the samples' mean."
    )
    maj_at: Counts = Field(default=(), description="maj@K: is the right answer the most frequent of K samples.")
    pass_at: Counts = Field(default=(), validate_default=True, description="pass@K: is any of K samples right.")
    temperature: float = Field(default=0.7, gt=0, description="Of these samples, as many as the largest K.")
    few_shot: Annotated[
        tuple[Annotated[int, Field(ge=0)], ...],
        Field(strict=False, min_length=1, description="Numbers of worked examples to show the base model in turn."),
    ] = (0,)
    problems: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        default=(), description="Test sets beside problems.test: published or built-in ones, or JSONL files."
    )
    max_new_tokens: Count = Field(default=512, description="Longest completion, in tokens.")

    @field_validator("maj_at", "pass_at", "few_shot")
    @classmethod
    def _each_once(cls, counts: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(counts)) < len(counts):
            raise _broken_rule(f"found {list(counts)}. Allowed: each number once")
        return counts

    @field_validator("pass_at")
    @classmethod
    def _something_is_measured(cls, pass_at: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        if not pass_at and not info.data.get("maj_at", True) and not info.data.get("greedy", True):
            raise _broken_rule("found nothing to measure. Allowed: evaluate.greedy true, or some maj_at or pass_at")
        return pass_at


class RftTrain(Train):
    models: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] = Field(
        default=(), description="Which of the models are fine-tuned again; without the key all."
    )


class Figures(Section):
    icl: Percent | None = Field(default=None, description="Accuracy of the base, by examples in the prompt.")
    sft: Percent | None = Field(default=None, description="Accuracy after SFT.")
    rft: Percent | None = Field(default=None, description="Accuracy after RFT.")


class Cell(Figures):
    at: dict[str, Any] = Field(description="Which runs these are of: sweep keys with their values, and model.")


class Paper(Figures):
    source: str | None = Field(default=None, description="Where the figures stand.")
    cells: Annotated[tuple[Cell, ...], Field(strict=False)] = Field(
        default=(), description="Figures of single models and runs of a sweep."
    )

    def narrowed(self, settings: Mapping[str, Any]) -> Paper:
        """What is left where these settings are fixed: cells of other values go, those fully met give the figures."""
        figures, cells = self.model_dump(include={"icl", "sft", "rft"}), []
        for cell in self.cells:
            fixed = cell.at.keys() & settings.keys()
            if all(sweep.number(cell.at[key]) == sweep.number(settings[key]) for key in fixed):
                rest = {key: value for key, value in cell.at.items() if key not in fixed}
                found = cell.model_dump(include={"icl", "sft", "rft"}, exclude_none=True)
                if rest:
                    cells.append(cell.model_copy(update={"at": rest}))
                else:
                    figures.update(found)
        return self.model_copy(update={**figures, "cells": tuple(cells)})


def _merged(train: Train, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The overrides over `train`. Without an adapter its keys mean nothing, so they are not taken over."""
    shared = train.model_dump(exclude=set(LORA_KEYS) if overrides.get("adapter") == "none" else None)
    return {**shared, **overrides}


def _given_beside_train(values: Any, validate: Callable[[Any], Train], info: ValidationInfo) -> dict[str, Any]:
    """The keys that were given, right beside those of `train` that they leave alone."""
    train = info.data.get("train")  # lacks when it is wrong itself
    if isinstance(train, Train) and isinstance(values, Mapping):
        right = validate(_merged(train, values))
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


class Model(Section):
    base_model: str = Field(description="A built-in model, a model folder, or a hub name org/model.")
    gguf_file: str | None = Field(default=None, description="gguf.file of this model; null: as the recipe says.")
    train: TrainOverrides = Field(default_factory=dict, description="Keys of train that differ for this model.")


class Training(Train):
    """What `qrft train` takes with --set: the keys of `train`, and the recipe's own two."""

    prompt: Prompt = Field(default="plain", description="The prompt's wording; chat: the tokenizer's own template.")
    seed: Seed = Field(default=0, description="Training order and initialisation.")


# The keys of qrft.studies.claims.STUDIES.
Study = Literal["data-fraction", "num-samples", "gain", "pooling", "pretraining-loss", "selection", "budget", "rounds"]


class Recipe(Section):
    """A run of supervised and rejection-sampling fine-tuning: `qrft run`."""

    name: Name = Field(description="The run folder is runs/<name>.")
    models: dict[str, Model] = Field(
        default_factory=dict, description="Several base models by names of your own, in place of base_model."
    )
    base_model: str | None = Field(
        default=None,
        validate_default=True,
        description="A built-in model, a model folder, or a hub name org/model.",
    )
    seed: Seed = Field(default=0, description="Training order, initialisation and sampling.")
    prompt: Prompt = Field(default="plain", description="The prompt's wording; chat: the tokenizer's own template.")
    problems: Problems = Field(description="The problems to learn from and to be measured on.")
    train: Train = Field(default_factory=Train, description="Training settings of both sft and rft.")
    sft: TrainOverrides = Field(default_factory=dict, description="Keys of train that differ for sft.")
    rft: RftOverrides = Field(default_factory=dict, description="Keys of train that differ for rft.")
    rounds: int = Field(
        default=1, ge=0, description="How often to sample and fine-tune again; each samples the model before; 0: SFT."
    )
    rounds_from: Literal["base", "last"] = Field(
        default="base", description="Whether a round trains a new adapter on the base, or the last adapter further."
    )
    rounds_pool: Literal["all", "last"] = Field(
        default="all", description="Whether a round selects from the samples of all rounds, or of the last alone."
    )
    sample: Sample = Field(default_factory=Sample, description="How the fine-tuned model is sampled.")
    gguf: Gguf = Field(default_factory=Gguf, description="The base model's file for llama.cpp.")
    grade: Grade = Field(default_factory=Grade, description="How solutions are judged.")
    curate: Curate = Field(default_factory=Curate, description="Which of the correct samples are kept.")
    evaluate: Evaluate = Field(default_factory=Evaluate, description="What is measured on the test problems.")
    num_threads: Count | None = Field(default=None, description="Processor threads; null takes all cores.")
    paper: Paper = Field(default_factory=Paper, description="Published figures to compare with, in percent.")
    study: Study | None = Field(default=None, description="The findings that the sweep is held against: study.md.")
    sweep: dict[str, Annotated[tuple[Any, ...], Field(strict=False, min_length=1)]] = Field(
        default_factory=dict, description="Keys with lists of values: a run for every combination of them."
    )

    @field_validator("models")
    @classmethod
    def _names_are_folders(cls, models: dict[str, Model]) -> dict[str, Model]:
        for name in models:
            if not MODEL_NAME.fullmatch(name):
                raise _broken_rule(f"found the name {name!r}. Allowed: up to 40 letters, digits, _ and -")
        return models

    @field_validator("base_model")
    @classmethod
    def _one_or_several(cls, base_model: str | None, info: ValidationInfo) -> str | None:
        if base_model is not None and info.data.get("models"):
            raise _broken_rule(f"found {base_model!r} beside models. Allowed: one of the two")
        if base_model is None and info.data.get("models") == {}:
            raise _broken_rule("missing. Allowed: text, or in its place the section models")
        return base_model

    @field_validator("rft")
    @classmethod
    def _rft_models_are_there(cls, rft: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        _check_names(rft.get("models", ()), info, "models")
        return rft

    @field_validator("rounds_from")
    @classmethod
    def _last_adapter_stays_as_it_is(cls, rounds_from: str, info: ValidationInfo) -> str:
        shape = [key for key in info.data.get("rft", {}) if key.startswith("lora_") or key in ADAPTER_SHAPE]
        if rounds_from == "last" and shape:
            raise _broken_rule(
                f"found last with rft.{shape[0]}, but an adapter keeps its shape. Allowed: base, or without that key"
            )
        return rounds_from

    @field_validator("gguf")
    @classmethod
    def _a_file_is_one_models(cls, gguf: Gguf, info: ValidationInfo) -> Gguf:
        if gguf.file is not None and info.data.get("models"):
            raise _broken_rule("found a file with models. Allowed: gguf_file of each model", "file")
        return gguf

    @field_validator("curate")
    @classmethod
    def _pool_and_samples_are_there(cls, curate: Curate, info: ValidationInfo) -> Curate:
        _check_names(curate.pool, info, "pool")
        sample: Sample | None = info.data.get("sample")
        if sample and (curate.first_samples or 0) > (num_samples := sample.num_samples):
            raise _broken_rule(
                f"found {curate.first_samples} with sample.num_samples {num_samples}. Allowed: at most as many",
                "first_samples",
            )
        return curate

    @field_validator("evaluate")
    @classmethod
    def _problems_are_there(cls, evaluate: Evaluate, info: ValidationInfo) -> Evaluate:
        problems, shots = info.data.get("problems"), max(evaluate.few_shot)
        if problems and problems.num_test is None and (endless := {*evaluate.problems} & {*BUILTIN_PROBLEMS}):
            raise _broken_rule(f"found {min(endless)}, which has no end. Allowed: with problems.num_test")
        if problems and shots and problems.num_train is not None and problems.num_train <= shots:
            raise _broken_rule(
                f"found few_shot {shots} with problems.num_train {problems.num_train}. "
                "Allowed: fewer, so that one is to spare for a problem that is an example itself"
            )
        return evaluate

    def train_config(self, stage: Literal["sft", "rft"]) -> Train:
        """The `train` section with the stage's own overrides in it."""
        overrides = {"sft": self.sft, "rft": self.rft}[stage]
        own = {key: value for key, value in overrides.items() if key != "models"}
        return Train.model_validate(_merged(self.train, own))

    def by_model(self) -> dict[str, Recipe]:
        """A recipe of one base_model for each of the models, by name; "" is the name of the only one."""
        return {name: self._of(name, model) for name, model in self.models.items()} or {"": self}

    def _of(self, name: str, model: Model) -> Recipe:
        train = Train.model_validate(_merged(self.train, model.train))
        gguf = self.gguf.model_copy(update={"file": model.gguf_file})
        paper = self.paper.narrowed({"model": name})
        own = {"base_model": model.base_model, "train": train, "gguf": gguf, "paper": paper}
        return self.model_copy(update={"models": {}, **own})

    @property
    def tuned(self) -> list[str]:
        """The names of the models that get RFT."""
        if not self.rounds:
            return []
        return list(self.rft.get("models") or self.models or [""])

    def variants(self) -> list[Variant]:
        """The runs of a sweep, each a recipe without one; of a recipe without a sweep itself alone."""
        if not self.sweep:
            return [Variant("", {}, self)]
        values = self.model_dump(mode="json", exclude={"sweep"})
        found = []
        for name, settings in sweep.combinations(self.sweep):
            recipe = Recipe.model_validate(sweep.substituted(values, settings, self.sweep, KEYS))
            found.append(Variant(name, settings, recipe.model_copy(update={"paper": self.paper.narrowed(settings)})))
        return found


class Variant(NamedTuple):
    """A run of a sweep: the folder's name, the sweep's keys with the run's values, and what it runs."""

    name: str
    settings: dict[str, Any]
    recipe: Recipe


MODEL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,39}")  # a folder's; with a dot, --set could not name it
ADAPTER_SHAPE = ("adapter", "target_modules", "use_rslora", "quantization")
SCHEMA = Recipe.model_json_schema()
KEYS = key_paths(SCHEMA)
REQUIRED = ("name", "base_model", "problems")


def _check_names(names: Sequence[str], info: ValidationInfo, key: str) -> None:
    """Raises for a name in `key` that is none of the models, or is there twice; not where those are wrong already."""
    if "models" not in info.data:
        return
    known = info.data["models"]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise _broken_rule(f"found {name!r} twice. Allowed: once", key)
        if name not in known:
            allowed = ", ".join(known) or "only with the section models"
            raise _broken_rule(f"found {name!r}. {did_you_mean(name, known)}Allowed: {allowed}", key)


class Member(Section):
    """What a base of a family has of its own; null: as the family."""

    seed: Seed | None = Field(default=None, description="Initialisation and corpus.")
    hidden_size: Count | None = Field(default=None, description="Width.")
    num_layers: Count | None = Field(default=None, description="Transformer blocks.")
    num_heads: Count | None = Field(default=None, description="Attention heads.")
    intermediate_size: Count | None = Field(default=None, description="Width of the MLP.")
    num_tokens: Count | None = Field(default=None, description="Tokens to train on.")
    learning_rate: Annotated[float, Field(gt=0)] | None = Field(default=None, description="Peak learning rate.")


class PretrainRecipe(Section):
    """A small base model trained from nothing, or a family of them: `qrft pretrain`."""

    name: Name = Field(description="The model's name.")
    seed: Seed = Field(default=0, description="Initialisation and corpus.")
    hidden_size: Count = Field(default=128, description="Width; an even multiple of num_heads.")
    num_layers: Count = Field(default=4, description="Transformer blocks.")
    num_heads: Count = Field(default=4, validate_default=True, description="Attention heads.")
    intermediate_size: Count = Field(default=384, description="Width of the MLP.")
    vocab_size: Count = Field(default=1024, description="Tokens in the tokenizer.")
    context_length: Count = Field(default=256, description="Tokens per sequence.")
    num_tokens: Count = Field(default=8_000_000, description="Tokens to train on.")
    batch_size: Count = Field(default=32, description="Sequences per step.")
    learning_rate: float = Field(default=1e-3, gt=0, description="Peak learning rate.")
    warmup_ratio: float = Field(default=0.02, gt=0, lt=1, description="Share of the steps that warm up.")
    family: dict[str, Member] = Field(
        default_factory=dict, description="Several bases, by name: what each has of its own; empty: one base."
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
                raise _broken_rule(f"found the name {name!r}. Allowed: up to 40 letters, digits, _ and -")
            _even_heads(
                member.num_heads or info.data.get("num_heads", 1), member.hidden_size or info.data.get("hidden_size", 0)
            )
        return family

    def members(self) -> dict[str, PretrainRecipe]:
        """A recipe for each base of the family."""
        own = {name: member.model_dump(exclude_none=True) for name, member in self.family.items()}
        return {name: self.model_copy(update={**keys, "name": name, "family": {}}) for name, keys in own.items()}


def _even_heads(num_heads: int, hidden_size: int) -> int:
    if hidden_size % (2 * num_heads):  # rotary embeddings turn pairs
        raise _broken_rule(
            f"found {num_heads} with hidden_size {hidden_size}. Allowed: hidden_size / num_heads whole and even"
        )
    return num_heads


S = TypeVar("S", bound=Section)


@overload
def load(path: str | Path, overrides: Sequence[str] = ()) -> Recipe: ...
@overload
def load(path: str | Path, overrides: Sequence[str], kind: type[S]) -> S: ...
def load(path: str | Path, overrides: Sequence[str] = (), kind: type[Section] = Recipe) -> Section:
    """Read and validate a recipe.

    overrides: `key.path=value` each, the value in YAML, the later one winning; `--set` on the command line.
    Raises RecipeError, one line per fault: `file:line: key: what was found. What is allowed`.
    """
    reading = yaml_lines.Reading(str(path))
    required = ", ".join(REQUIRED if kind is Recipe else kind.model_json_schema()["required"])
    values = yaml_lines.read(_read_text(path), reading, required)
    for override in overrides:
        yaml_lines.set_value(override, values, reading)
    recipe = _validate(values, reading, kind)
    if kind is Recipe:
        for key, text in path_faults(values):
            reading.fault(key, text)
        for key, text in sweep.faults(values, KEYS, _faults_of):
            reading.fault(key, text)
    if reading.faults:
        raise RecipeError(reading.report())
    assert recipe is not None  # no recipe without a fault
    return recipe


def training(values: Mapping[str, Any], overrides: Sequence[str] = ()) -> Training:
    """The settings of one training, from Python and from `--set`. Raises RecipeError, one line per fault."""
    reading = yaml_lines.Reading("train")
    given = dict(values)
    for override in overrides:
        yaml_lines.set_value(override, given, reading)
    found = _validate(given, reading, Training)
    if reading.faults:
        raise RecipeError(reading.report())
    assert found is not None  # none without a fault
    return found


def _read_text(path: str | Path) -> str:
    """The text of a recipe's file. Raises RecipeError when it can't be read or is not UTF-8."""
    full = local_path(str(path))
    try:
        with open(full, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such recipe; looked at {full}. {near_recipes(path)}") from None
    except IsADirectoryError:
        raise RecipeError(f"{path}: is a folder; a recipe is a YAML file. {near_recipes(Path(path) / 'x')}") from None
    except (OSError, ValueError) as error:
        raise RecipeError(f"{path}: can't be read at {full}: {getattr(error, 'strerror', error)}") from None
    if len(data) > MAX_BYTES:
        raise RecipeError(f"{path}: larger than {MAX_BYTES // 1024} KiB, which no recipe is. Name the recipe's file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = f"0x{data[error.start]:02x}"
        raise RecipeError(f"{path}:{line}: byte {byte} is not UTF-8 text. Save the file as UTF-8") from None


def _validate(values: dict[str, Any], reading: yaml_lines.Reading, kind: type[S]) -> S | None:
    try:
        return kind.model_validate(values)
    except ValidationError as errors:
        for key, text in value_faults(errors, kind.model_json_schema(), values):
            if key not in reading.unreadable:
                reading.fault(key, text)
        return None


def _faults_of(values: dict[str, Any]) -> list[tuple[yaml_lines.KeyPath, str]]:
    """All faults of a recipe's values."""
    found = path_faults(values)
    try:
        Recipe.model_validate(values)
    except ValidationError as errors:
        found += value_faults(errors, SCHEMA, values)
    return found


def dump(recipe: Section) -> str:
    """The whole recipe in YAML, defaults spelled out; it loads back equal."""
    return yaml_lines.to_yaml(recipe.model_dump(mode="json"))


def json_schema(kind: type[Section] = Recipe) -> dict[str, Any]:
    """The JSON schema of a recipe, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **kind.model_json_schema()}
