"""The recipe: one YAML file that says what to run, validated strictly. This file is the reference of all its keys.

`load` reports every fault at once, each with its line, the key, what was found and what is allowed. `qrft.yaml_lines`
makes values of the text, `qrft.recipe_faults` words what is wrong with them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, overload

from pydantic import BaseModel, ConfigDict, Field, GetPydanticSchema, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError, core_schema

from qrft import yaml_lines
from qrft.errors import RecipeError
from qrft.recipe_faults import BUILTIN_MODELS, BUILTIN_PROBLEMS, local_path, near_recipes, path_faults, value_faults

__all__ = [
    "BUILTIN_MODELS",
    "BUILTIN_PROBLEMS",
    "PretrainRecipe",
    "Recipe",
    "Train",
    "dump",
    "json_schema",
    "load",
    "local_path",
]

MAX_BYTES = 256 * 1024  # a recipe is about 2 kB: a larger file was named by mistake


class Section(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$", max_length=100)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]  # the range of numpy's seeds, the narrowest of all that take it
Count = Annotated[int, Field(ge=1)]
# Of every block of every supported model. An adapter elsewhere could not be exported, which would show after training.
Linear = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def _broken_rule(text: str) -> PydanticCustomError:
    return PydanticCustomError("broken_rule", "{text}", {"text": text})


class Problems(Section):
    train: str = Field(description="Problems to train and sample on: a built-in set, or a JSONL file.")
    test: str = Field(description="Problems to evaluate on: a built-in set, or a JSONL file.")
    num_train: Count | None = Field(
        default=None, validate_default=True, description="How many of the training problems; null takes all."
    )
    num_test: Count | None = Field(
        default=None, validate_default=True, description="How many of the test problems; null takes all."
    )
    seed: Seed = Field(default=0, description="Draws the problems of a generated set.")

    @field_validator("num_train", "num_test")
    @classmethod
    def _generated_sets_end(cls, num_problems: int | None, info: ValidationInfo) -> int | None:
        name = info.data.get(str(info.field_name).removeprefix("num_"))
        if num_problems is None and name in BUILTIN_PROBLEMS:
            raise _broken_rule(f"found null with {name}, which has no end. Allowed: how many problems to draw")
        return num_problems


class Train(Section):
    quantization: Literal["nf4", "none"] = Field(
        default="nf4", description="How the frozen base model is held in memory."
    )
    lora_r: Count = Field(default=32, description="LoRA rank.")
    lora_alpha: Count = Field(default=64, description="LoRA scale: alpha/r, or alpha/sqrt(r) with use_rslora.")
    lora_dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout on the input of the adapter.")
    target_modules: Literal["all-linear"] | Annotated[tuple[Linear, ...], Field(strict=False, min_length=1)] = Field(
        default="all-linear", description="The layers that get an adapter: all-linear, or a list of their names."
    )
    use_rslora: bool = Field(default=False, description="Rank-stabilised LoRA scaling.")
    learning_rate: float = Field(default=2e-4, gt=0, description="Peak learning rate.")
    lr_scheduler: Literal["cosine", "linear", "constant"] = Field(
        default="cosine", description="Schedule after the warm-up."
    )
    warmup_ratio: float = Field(default=0.03, ge=0, le=1, description="Share of the steps that warm up.")
    weight_decay: float = Field(default=0.0, ge=0, description="AdamW weight decay.")
    num_epochs: float = Field(default=3.0, gt=0, description="Passes over the training set; a fraction is allowed.")
    micro_batch_size: Count = Field(default=8, description="Examples in memory at once.")
    gradient_accumulation_steps: Count = Field(default=1, description="Micro-batches per optimizer step.")
    max_length: Count = Field(default=512, description="Tokens of prompt and completion together.")
    checkpoint_minutes: float = Field(default=5.0, gt=0, description="Minutes between checkpoints.")


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


class Evaluate(Section):
    max_new_tokens: Count = Field(default=512, description="Longest completion, in tokens.")


def _given_keys(section: Train) -> dict[str, Any]:
    return section.model_dump(exclude_unset=True)


# Validated as a Train section, kept as a dict of the keys that were given: what is absent must not override.
TrainOverrides = Annotated[
    dict[str, Any],
    GetPydanticSchema(
        lambda _, handler: core_schema.no_info_after_validator_function(
            _given_keys, handler(Train), serialization=core_schema.plain_serializer_function_ser_schema(dict)
        )
    ),
]


class Recipe(Section):
    """A run of supervised and rejection-sampling fine-tuning: `qrft run`."""

    name: Name = Field(description="The run folder is runs/<name>.")
    base_model: str = Field(description="A built-in model, a model folder, or a hub name org/model.")
    seed: Seed = Field(default=0, description="Training order, initialisation and sampling.")
    prompt: Literal["plain", "alpaca"] = Field(default="plain", description="The prompt's wording.")
    problems: Problems = Field(description="The problems to learn from and to be measured on.")
    train: Train = Field(default_factory=Train, description="Training settings of both sft and rft.")
    sft: TrainOverrides = Field(default_factory=dict, description="Keys of train that differ for sft.")
    rft: TrainOverrides = Field(default_factory=dict, description="Keys of train that differ for rft.")
    sample: Sample = Field(default_factory=Sample, description="How the fine-tuned model is sampled.")
    gguf: Gguf = Field(default_factory=Gguf, description="The base model's file for llama.cpp.")
    grade: Grade = Field(default_factory=Grade, description="How solutions are judged.")
    curate: Curate = Field(default_factory=Curate, description="Which of the correct samples are kept.")
    evaluate: Evaluate = Field(default_factory=Evaluate, description="Greedy answers to the test problems.")
    num_threads: Count | None = Field(default=None, description="Processor threads; null takes all cores.")

    def train_config(self, stage: Literal["sft", "rft"]) -> Train:
        """The `train` section with the stage's own overrides in it."""
        overrides = {"sft": self.sft, "rft": self.rft}[stage]
        return Train.model_validate({**self.train.model_dump(), **overrides})


MEMBER_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,39}")  # a folder's; with a dot, --set could not name it


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
            if not MEMBER_NAME.fullmatch(name):
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
    required = ", ".join(name for name, info in kind.model_fields.items() if info.is_required())
    values = yaml_lines.read(_read_text(path), reading, required)
    for override in overrides:
        yaml_lines.set_value(override, values, reading)
    recipe = _validate(values, reading, kind)
    if kind is Recipe:
        for key, text in path_faults(values):
            reading.fault(key, text)
    if reading.faults:
        raise RecipeError(reading.report())
    assert recipe is not None  # no recipe without a fault
    return recipe


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


def dump(recipe: Section) -> str:
    """The whole recipe in YAML, defaults spelled out; it loads back equal."""
    return yaml_lines.to_yaml(recipe.model_dump(mode="json"))


def json_schema(kind: type[Section] = Recipe) -> dict[str, Any]:
    """The JSON schema of a recipe, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **kind.model_json_schema()}
