"""The recipe: one YAML file that says what to run, validated strictly.

Its sections are in `qrft.config.sections` and `qrft.config.training`: the reference of all keys.

`load` reports every fault at once, each with its line, the key, what was found and what is allowed.
`qrft.config.yaml_lines` makes values of the text, `qrft.config.messages` words what is wrong with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, overload

from pydantic import (
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from qrft.config import sweep, yaml_lines
from qrft.config.messages import (
    BUILTIN_MODELS,
    did_you_mean,
    key_paths,
    local_path,
    near_recipes,
    path_faults,
    value_faults,
)
from qrft.config.pretrain import PretrainRecipe
from qrft.config.section import Count, Name, Section, Seed, broken_rule
from qrft.config.sections import MODEL_NAME, Curate, Evaluate, Gguf, Paper, Problems, Sample
from qrft.config.study import study_faults
from qrft.config.training import RUNTIME_KEYS, RftOverrides, Train, Training, TrainOverrides, merged
from qrft.data.problems.registry import GENERATED
from qrft.errors import RecipeError
from qrft.grading.rules import Rules
from qrft.models.prompts import Prompt
from qrft.sampling.backends import registry
from qrft.studies.registry import StudyName

__all__ = [
    "BUILTIN_MODELS",
    "RUNTIME_KEYS",
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


Values = Annotated[tuple[Any, ...], Field(strict=False, min_length=1)]


class Model(Section):
    base_model: str = Field(description="A built-in model, a model folder, or a hub name org/model.")
    gguf_file: str | None = Field(default=None, description="gguf.file of this model; null: as the recipe says.")
    train: TrainOverrides = Field(default_factory=dict, description="Keys of train that differ for this model.")


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
    gguf: Gguf = Field(default_factory=Gguf, validate_default=True, description="The base model's file for llama.cpp.")
    grade: Rules = Field(default_factory=Rules, description="How solutions are judged.")
    curate: Curate = Field(default_factory=Curate, description="Which of the correct samples are kept.")
    evaluate: Evaluate = Field(default_factory=Evaluate, description="What is measured on the test problems.")
    num_threads: Count | None = Field(default=None, description="Processor threads; null takes all cores.")
    paper: Paper = Field(default_factory=Paper, description="Published figures to compare with, in percent.")
    study: StudyName | None = Field(default=None, description="The findings that the sweep is held against: study.md.")
    # null takes it away: --set sweep=null
    sweep: Annotated[dict[str, Values], BeforeValidator(lambda value: {} if value is None else value)] = Field(
        default_factory=dict, description="Keys with lists of values: a run for every combination of them."
    )

    @field_validator("models")
    @classmethod
    def _names_are_folders(cls, models: dict[str, Model]) -> dict[str, Model]:
        for name in models:
            if not MODEL_NAME.fullmatch(name):
                raise broken_rule(f"found the name {name!r}. Allowed: up to 40 letters, digits, _ and -")
        return models

    @field_validator("base_model")
    @classmethod
    def _one_or_several(cls, base_model: str | None, info: ValidationInfo) -> str | None:
        if base_model is not None and info.data.get("models"):
            raise broken_rule(f"found {base_model!r} beside models. Allowed: one of the two")
        if base_model is None and info.data.get("models") == {}:
            raise broken_rule("missing. Allowed: text, or in its place the section models")
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
            raise broken_rule(
                f"found last with rft.{shape[0]}, but an adapter keeps its shape. Allowed: base, or without that key"
            )
        return rounds_from

    @field_validator("gguf")
    @classmethod
    def _a_file_is_one_models(cls, gguf: Gguf, info: ValidationInfo) -> Gguf:
        if gguf.file is not None and info.data.get("models"):
            raise broken_rule("found a file with models. Allowed: gguf_file of each model", "file")
        return gguf

    @field_validator("sample")
    @classmethod
    def _a_name_at_the_server_is_one_models(cls, sample: Sample, info: ValidationInfo) -> Sample:
        if dict(sample).get("server_model") and info.data.get("models"):
            raise broken_rule(
                "found a name with models. Allowed: leave it out; the server then knows each by its base_model",
                "server_model",
            )
        return sample

    @field_validator("gguf")
    @classmethod
    def _the_sampler_reads_gguf(cls, gguf: Gguf, info: ValidationInfo) -> Gguf:
        sample: Sample | None = info.data.get("sample")
        files = [model.gguf_file for model in info.data.get("models", {}).values()]
        if sample and (gguf != Gguf() or any(files)) and registry.backend(sample.sampler).READS != "gguf":
            raise broken_rule(
                f"found settings of a GGUF file with sample.sampler {sample.sampler}, which reads none. "
                "Allowed: none of them (--set gguf={} takes them away), or sample.sampler llama.cpp"
            )
        return gguf

    @field_validator("curate")
    @classmethod
    def _pool_and_samples_are_there(cls, curate: Curate, info: ValidationInfo) -> Curate:
        _check_names(curate.pool, info, "pool")
        sample: Sample | None = info.data.get("sample")
        if sample and (curate.first_samples or 0) > (num_samples := sample.num_samples):
            raise broken_rule(
                f"found {curate.first_samples} with sample.num_samples {num_samples}. Allowed: at most as many",
                "first_samples",
            )
        return curate

    @field_validator("evaluate")
    @classmethod
    def _problems_are_there(cls, evaluate: Evaluate, info: ValidationInfo) -> Evaluate:
        problems, shots = info.data.get("problems"), max(evaluate.few_shot)
        if problems and problems.num_test is None and (endless := {*evaluate.problems} & {*GENERATED}):
            raise broken_rule(f"found {min(endless)}, which has no end. Allowed: with problems.num_test")
        if problems and shots and problems.num_train is not None and problems.num_train <= shots:
            raise broken_rule(
                f"found few_shot {shots} with problems.num_train {problems.num_train}. "
                "Allowed: fewer, so that one is to spare for a problem that is an example itself"
            )
        return evaluate

    def train_config(self, stage: Literal["sft", "rft"]) -> Train:
        """The `train` section with the stage's own overrides in it."""
        overrides = {"sft": self.sft, "rft": self.rft}[stage]
        own = {key: value for key, value in overrides.items() if key != "models"}
        return Train.model_validate(merged(self.train, own))

    def sampler_of(self, phase: str) -> dict[str, Any]:
        """Return what samples the model of a phase: the sampler with its own settings.

        A server has the base model (phase "base") by a name of a person's choice; what is tuned gets its name later.
        """
        own = registry.own_values(self.sample.sampler, dict(self.sample))
        if "server_model" in own:
            own["server_model"] = (own["server_model"] or self.base_model) if phase == "base" else None
        return {"sampler": self.sample.sampler, **own}

    def by_model(self) -> dict[str, Recipe]:
        """A recipe of one base_model for each of the models, by name; "" is the name of the only one."""
        found = {name: self._of(model) for name, model in self.models.items()} or {"": self}
        return {name: own.model_copy(update={"paper": self._figures(name, own)}) for name, own in found.items()}

    def _of(self, model: Model) -> Recipe:
        train = Train.model_validate(merged(self.train, model.train))
        gguf = self.gguf.model_copy(update={"file": model.gguf_file})
        return self.model_copy(
            update={"models": {}, "base_model": model.base_model, "train": train, "gguf": gguf},
        )

    def _figures(self, model: str, own: Recipe) -> Paper:
        """What was published of this run and model: cells are held against every value that the run has."""
        if not self.paper.cells:
            return self.paper
        values = own.model_dump(mode="json") | {"models": self.model_dump(mode="json", include={"models"})["models"]}
        for stage in ("sft", "rft"):
            values[stage] = values["train"] | values[stage]
        values["sample"]["num_samples"] = self.curate.first_samples or self.sample.num_samples

        def of_run(key: str) -> Any:
            return model if key == "model" else sweep.value_at(values, sweep.matches(key, KEYS)[0])

        return self.paper.at(of_run)

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
        values = self.model_dump(mode="json", exclude={"sweep", "study"})  # a study is told of all runs together
        found = []
        for name, settings in sweep.combinations(self.sweep):
            recipe = Recipe.model_validate(sweep.substituted(values, settings, self.sweep, KEYS))
            found.append(Variant(name, settings, recipe))
        return found


class Variant(NamedTuple):
    """A run of a sweep: the folder's name, the sweep's keys with the run's values, and what it runs."""

    name: str
    settings: dict[str, Any]
    recipe: Recipe


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
            raise broken_rule(f"found {name!r} twice. Allowed: once", key)
        if name not in known:
            allowed = ", ".join(known) or "only with the section models"
            raise broken_rule(f"found {name!r}. {did_you_mean(name, known)}Allowed: {allowed}", key)


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
    _check_kind(str(path), values, kind)
    recipe = _validate(values, reading, kind)
    if kind is Recipe:
        for key, text in path_faults(values):
            reading.fault(key, text)
        for key, text in [*sweep.faults(values, KEYS, _faults_of), *study_faults(values, KEYS), *_cell_faults(values)]:
            reading.fault(key, text)
    if reading.faults:
        raise RecipeError(reading.report())
    assert recipe is not None  # no recipe without a fault
    return recipe


def _check_kind(path: str, values: Mapping[str, Any], kind: type[Section]) -> None:
    """Raises RecipeError for a recipe of the other command: all its keys would be faults."""
    commands: dict[str, type[Section]] = {"qrft run": Recipe, "qrft pretrain": PretrainRecipe}
    fits = {command: len(values.keys() & other.model_fields.keys()) for command, other in commands.items()}
    command = max(fits, key=fits.__getitem__)
    if kind in commands.values() and kind is not commands[command] and fits[command] > len(values) / 2:
        raise RecipeError(f"{path}: is a recipe for `{command}`, by its keys. Give it to that command")


def training(values: Mapping[str, Any], overrides: Sequence[str] = ()) -> Training:
    """The settings of one training, from Python and from `--set`. Raises RecipeError, one line per fault."""
    reading = yaml_lines.Reading("train")
    given = dict(values)
    for override in overrides:
        yaml_lines.set_value(override.removeprefix("train."), given, reading)  # as a recipe and messages spell the keys
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


def _cell_faults(values: Mapping[str, Any]) -> Iterator[tuple[yaml_lines.KeyPath, str]]:
    """Figures at a key that no run has would be shown nowhere."""
    paper = values.get("paper")
    cells = paper.get("cells") if isinstance(paper, dict) else None
    for place, cell in enumerate(cells if isinstance(cells, list) else ()):
        at = cell.get("at") if isinstance(cell, dict) else None
        for key in at if isinstance(at, dict) else ():
            paths = ["model"] if key == "model" else sweep.matches(str(key), KEYS)
            where = ("paper", "cells", place, "at", key)
            if not paths:
                guess = did_you_mean(str(key), [*KEYS, *(path.rpartition(".")[2] for path in KEYS)])
                yield where, f"unknown key. {guess}Allowed: model, and keys of a recipe"
            elif len(paths) > 1:
                yield where, f"could be {', '.join(paths)}. Allowed: one of them, written out"


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
