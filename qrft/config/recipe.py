"""The recipe: what `qrft run` is told, as one model with every key and every rule that keys have among themselves.

`qrft.config.load` reads recipes from files and reports all their faults, `qrft.config.variants` resolves the runs of a
sweep and the models of a run. docs/recipe.md lists every key.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from qrft.config.messages import did_you_mean, key_paths
from qrft.config.section import Count, Name, Section, Seed, broken_rule
from qrft.config.sections import MODEL_NAME, Curate, Evaluate, Paper, Problems, Sample
from qrft.config.training import RftOverrides, Train, TrainOverrides, merged
from qrft.data.problems.registry import GENERATED
from qrft.grading.rules import Gold, Rules
from qrft.models.gguf.quant import Gguf
from qrft.models.wording import CHAT, PROMPT, SYSTEM, TEMPLATE_ARGS, Prompt, System, TemplateArgs, Wording, wording_of
from qrft.sampling.backends import registry
from qrft.studies.registry import StudyName

ADAPTER_SHAPE = ("adapter", "target_modules", "use_rslora", "quantization")

BASE_MODEL = (
    "The base model: a name (tiny-base, or smollm2-135m from the extra qrft[smollm2]), a model folder, a hub name such "
    "as org/model, or a GGUF file."
)
Values = Annotated[tuple[Any, ...], Field(strict=False, min_length=1)]


TEACHER = "openai"  # what samples a teacher

if TYPE_CHECKING:

    class Served(Section):
        server: str | None = None
        server_model: str | None = None
        chat: bool = False
else:
    Served = registry.backend(TEACHER).Settings


class Model(Served):
    """One of several models: a base model that is trained, or a teacher, which a server samples and nobody trains."""

    base_model: str | None = Field(default=None, description=f"{BASE_MODEL} A teacher has none.")
    sampler: Literal["openai"] | None = Field(
        default=None,
        description="Only for a teacher: a model that is not trained, but sampled by a server (openai), and from whose "
        "paths the others learn. Such a model needs server and server_model. The keys of a server are those of sample.",
    )
    system: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, description="What a teacher is told in a system turn before each question. Only with chat."
    )
    gguf_file: str | None = Field(
        default=None,
        description="A ready-made GGUF file of this model, which is read where it lies. If not set, qrft makes one.",
    )
    train: TrainOverrides = Field(default_factory=dict, description="Keys of train that differ for this model.")

    @model_validator(mode="after")
    def _is_trained_or_served(self) -> Self:
        served = {*Served.model_fields, "system"}
        is_teacher = self.sampler is not None
        foreign = {"base_model", "gguf_file", "train"} if is_teacher else served
        for key in [key for key in type(self).model_fields if key in foreign and getattr(self, key)]:
            if getattr(self, key) != type(self).model_fields[key].default:
                way = "which a teacher has not" if is_teacher else "which only a teacher has (sampler openai)"
                raise broken_rule(f"found {getattr(self, key)!r}, {way}. Allowed: leave it out", key)
        for key in ("server", "server_model") if is_teacher else ("base_model",):
            if getattr(self, key) is None:
                other = "" if is_teacher else ", or sampler openai for a teacher"
                raise broken_rule(f"missing. Allowed: text{other}", key)
        if self.system is not None and not self.chat:
            raise broken_rule("found a text without chat, so there are no turns. Allowed: chat true, or null", "system")
        return self


class Recipe(Section):
    """A run of supervised and rejection-sampling fine-tuning: `qrft run`."""

    name: Name = Field(description="The name of the run and of its folder, runs/<name>.")
    models: dict[str, Model] = Field(
        default_factory=dict, description="Several base models under names of your choice, instead of base_model."
    )
    base_model: str | None = Field(
        default=None,
        validate_default=True,
        description=BASE_MODEL,
    )
    seed: Seed = Field(
        default=0, description="The seed for the order of training, the initialisation and the sampling."
    )
    prompt: Prompt = PROMPT
    system: System = SYSTEM
    chat_template_args: TemplateArgs = TEMPLATE_ARGS
    problems: Problems = Field(description="The problems to train on and to test on.")
    train: Train = Field(default_factory=Train, description="The settings of both fine-tunings, SFT and RFT.")
    sft: TrainOverrides = Field(default_factory=dict, description="Keys of train that differ for SFT.")
    rft: RftOverrides = Field(default_factory=dict, description="Keys of train that differ for RFT.")
    start: Literal["sft", "base"] | None = Field(
        default=None,
        description="What the first round samples: the model after SFT (sft), or the base model as it is (base), as "
        "suits an instruct model. If not set, base where no training problem has a worked solution, otherwise sft.",
    )
    rounds: int = Field(
        default=1, ge=0, description="How many times to sample the newest model and fine-tune again; 0 stops after SFT."
    )
    rounds_from: Literal["base", "last"] = Field(
        default="base",
        description="Whether each round trains a new adapter on the base model (base), or trains the previous adapter "
        "further (last).",
    )
    rounds_pool: Literal["all", "last"] = Field(
        default="all",
        description="Whether each round selects from the samples of all rounds so far (all), or only of the latest "
        "one (last).",
    )
    control: Literal["equal_steps"] | None = Field(
        default=None,
        description="What RFT is compared with besides SFT: one more SFT with as many optimizer steps as RFT "
        "(equal_steps), so that a gain over it does not come from more steps. It takes the time of another RFT.",
    )
    sample: Sample = Field(default_factory=Sample, description="How the fine-tuned model is sampled.")
    gguf: Gguf = Field(default_factory=Gguf, validate_default=True, description="The model files for llama.cpp.")
    grade: Rules = Field(default_factory=Rules, description="How solutions are judged.")
    curate: Curate = Field(default_factory=Curate, description="Which of the correct samples are kept.")
    gold: Gold = Field(
        default_factory=Gold, description="Where the gold answers of training problems without any come from."
    )
    evaluate: Evaluate = Field(default_factory=Evaluate, description="What is measured on the test problems.")
    num_threads: Count | None = Field(
        default=None, description="How many processor threads to use. If not set, one per core."
    )
    paper: Paper = Field(
        default_factory=Paper, description="Published figures to compare with. Accuracies are in percent."
    )
    study: StudyName | None = Field(
        default=None,
        description="The study whose published claims are compared with the results of the sweep, in study.md.",
    )
    # null removes it: --set sweep=null
    sweep: Annotated[dict[str, Values], BeforeValidator(lambda value: {} if value is None else value)] = Field(
        default_factory=dict,
        description="Keys, each with a list of values. There is one run for every combination of the values.",
    )

    @field_validator("models")
    @classmethod
    def _names_are_folders(cls, models: dict[str, Model]) -> dict[str, Model]:
        for name in models:
            if not MODEL_NAME.fullmatch(name):
                raise broken_rule(f"found the name {name!r}. Allowed: up to 40 letters, digits, _ and -")
        if models and all(model.sampler for model in models.values()):
            raise broken_rule("found only teachers. Allowed: a model with a base_model too, which learns from them")
        return models

    @field_validator("base_model")
    @classmethod
    def _one_or_several(cls, base_model: str | None, info: ValidationInfo) -> str | None:
        if base_model is not None and info.data.get("models"):
            raise broken_rule(f"found {base_model!r} together with models. Allowed: one of the two, not both")
        if base_model is None and info.data.get("models") == {}:
            raise broken_rule("missing. Allowed: text, or the section models instead")
        return base_model

    @field_validator("prompt")
    @classmethod
    def _a_teacher_has_the_template(cls, prompt: str, info: ValidationInfo) -> str:
        for name, model in info.data.get("models", {}).items():
            if prompt == CHAT and model.sampler and not model.chat:
                raise broken_rule(
                    f"found chat with models.{name}, whose chat template only its server has. Allowed: chat: true there"
                )
        return prompt

    @field_validator("rft")
    @classmethod
    def _rft_models_are_there(cls, rft: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        _check_names(rft.get("models", ()), info, "models")
        for name in rft.get("models", ()):
            if info.data.get("models", {})[name].sampler:
                raise broken_rule(f"found {name!r}, a teacher, which is not trained. Allowed: other models", "models")
        return rft

    @field_validator("rounds")
    @classmethod
    def _something_is_trained(cls, rounds: int, info: ValidationInfo) -> int:
        if not rounds and any(model.sampler for model in info.data.get("models", {}).values()):
            raise broken_rule("found 0 with a teacher, whose samples nobody would learn from. Allowed: 1 or more")
        if info.data.get("start") == "base" and not rounds:
            raise broken_rule("found 0 with start base, so nothing would be trained. Allowed: 1 or more")
        return rounds

    @field_validator("rounds_from")
    @classmethod
    def _last_adapter_stays_as_it_is(cls, rounds_from: str, info: ValidationInfo) -> str:
        shape = [key for key in info.data.get("rft", {}) if key.startswith("lora_") or key in ADAPTER_SHAPE]
        if rounds_from == "last" and shape:
            raise broken_rule(
                f"found last with rft.{shape[0]}, but an adapter keeps its shape. Allowed: base, or leave that key out"
            )
        return rounds_from

    @field_validator("gguf")
    @classmethod
    def _a_file_is_one_models(cls, gguf: Gguf, info: ValidationInfo) -> Gguf:
        if gguf.file is not None and info.data.get("models"):
            raise broken_rule(
                "found a file together with models. Allowed: null, with a gguf_file for each model that has one", "file"
            )
        return gguf

    @field_validator("sample")
    @classmethod
    def _a_name_at_the_server_is_one_models(cls, sample: Sample, info: ValidationInfo) -> Sample:
        if dict(sample).get("server_model") and info.data.get("models"):
            raise broken_rule(
                "found a name together with models. Allowed: null; the server then knows each model by its base_model",
                "server_model",
            )
        return sample

    @field_validator("sample")
    @classmethod
    def _one_template_is_applied(cls, sample: Sample, info: ValidationInfo) -> Sample:
        if dict(sample).get("chat") and info.data.get("prompt") == CHAT:
            raise broken_rule(
                "found true with prompt chat, whose text has the template already. Allowed: false", "chat"
            )
        return sample

    @field_validator("gguf")
    @classmethod
    def _the_sampler_reads_gguf(cls, gguf: Gguf, info: ValidationInfo) -> Gguf:
        sample: Sample | None = info.data.get("sample")
        files = [model.gguf_file for model in info.data.get("models", {}).values()]
        if sample and (gguf != Gguf() or any(files)) and registry.backend(sample.sampler).READS != "gguf":
            raise broken_rule(
                f"found settings of a GGUF file with sample.sampler {sample.sampler}, which does not read one. "
                "Allowed: no such settings (--set gguf={} removes them), or sample.sampler llama.cpp"
            )
        return gguf

    @field_validator("curate")
    @classmethod
    def _pool_and_samples_are_there(cls, curate: Curate, info: ValidationInfo) -> Curate:
        _check_names(curate.pool, info, "pool")
        for name, model in info.data.get("models", {}).items():
            if model.sampler and curate.pool and name not in curate.pool:
                raise broken_rule(
                    f"found a pool without {name!r}, a teacher, so that nobody would learn from it. Allowed: name it, "
                    "or an empty pool, in which each model learns from its own samples and the teachers'",
                    "pool",
                )
        sample: Sample | None = info.data.get("sample")
        if sample and (curate.first_samples or 0) > (num_samples := sample.num_samples):
            raise broken_rule(
                f"found {curate.first_samples} with sample.num_samples {num_samples}. Allowed: at most that many",
                "first_samples",
            )
        rules: Rules | None = info.data.get("grade")
        if curate.sound != "off" and rules and rules.mode == "paper":
            raise broken_rule(
                f"found {curate.sound} with grade.mode paper, which judges no path. Allowed: off, or mode default",
                "sound",
            )
        return curate

    @field_validator("gold")
    @classmethod
    def _there_are_votes_to_wait_for(cls, gold: Gold, info: ValidationInfo) -> Gold:
        sample: Sample | None = info.data.get("sample")
        curate: Curate | None = info.data.get("curate")
        faults = {
            "sample.until, whose goal needs the answers while the samples are drawn. Allowed: one of the two": (
                sample and sample.until.goal
            ),
            "sample.num_samples 1, of which there is no majority. Allowed: more samples": (
                sample and sample.num_samples == 1
            ),
            "curate.verdicts, which decide themselves. Allowed: one of the two": curate and curate.verdicts,
            "rounds 0, so nothing is sampled. Allowed: 1 or more": info.data.get("rounds") == 0,
        }
        for fault, is_there in faults.items():
            if gold.vote is not None and is_there:
                raise broken_rule(f"found {gold.vote:g} with {fault}", "vote")
        return gold

    @field_validator("control")
    @classmethod
    def _there_is_what_it_controls(cls, control: str | None, info: ValidationInfo) -> str | None:
        for key, value in (("start", "base"), ("rounds", 0), ("rounds_from", "last")):
            if control and info.data.get(key) == value:
                raise broken_rule(
                    f"found {control} with {key} {value}. Allowed: with an SFT, and an RFT of the base model"
                )
        steps = getattr(info.data.get("train"), "num_steps", None)
        if control and steps and not any("num_steps" in info.data.get(part, ()) for part in ("sft", "rft")):
            raise broken_rule(f"found {control} with train.num_steps {steps}, which is both's. Allowed: leave one out")
        return control

    @field_validator("evaluate")
    @classmethod
    def _problems_are_there(cls, evaluate: Evaluate, info: ValidationInfo) -> Evaluate:
        problems, shots = info.data.get("problems"), max(evaluate.few_shot)
        if problems and problems.num_test is None and (endless := {*evaluate.problems} & {*GENERATED}):
            raise broken_rule(
                f"found {min(map(str, endless))}, which has no end. Allowed: such a set, once problems.num_test is set"
            )
        if problems and shots and problems.num_train is not None and problems.num_train <= shots:
            raise broken_rule(
                f"found few_shot {shots} with problems.num_train {problems.num_train}. "
                "Allowed: fewer examples than problems, since a problem is not shown as its own example"
            )
        return evaluate

    def train_config(self, stage: Literal["sft", "rft"]) -> Train:
        """Return the section `train` with the stage's own overrides."""
        overrides = {"sft": self.sft, "rft": self.rft}[stage]
        own = {key: value for key, value in overrides.items() if key != "models"}
        return Train.model_validate(merged(self.train, own))

    def sampler_of(self, phase: str) -> dict[str, Any]:
        """Return what samples the model of a phase: the sampler with its own settings.

        A server knows the base model (phase "base") by a name that a person chooses; a tuned model gets its name later.
        """
        own = registry.own_values(self.sample.sampler, dict(self.sample))
        if "server_model" in own:
            own["server_model"] = (own["server_model"] or self.base_model) if phase == "base" else None
        return {"sampler": self.sample.sampler, **own}

    @property
    def may_lack_answers(self) -> bool:
        """Return whether something else than a gold answer may decide of a training problem's samples."""
        return self.gold.vote is not None or self.curate.verdicts

    @property
    def wording(self) -> Wording:
        return wording_of(self)

    @property
    def tuned(self) -> list[str]:
        """Return the names of the models that get RFT."""
        if not self.rounds:
            return []
        trained = [name for name in self.models if name not in self.teachers]
        return list(self.rft.get("models") or trained or [""])

    @property
    def teachers(self) -> dict[str, Model]:
        """Return the models that a server samples and nobody trains, by their names."""
        return {name: model for name, model in self.models.items() if model.sampler is not None}


def _check_names(names: Sequence[str], info: ValidationInfo, key: str) -> None:
    """Refuse a name in `key` that is not one of the models, or occurs twice, unless the models are wrong themselves."""
    if "models" not in info.data:
        return
    known = info.data["models"]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise broken_rule(f"found {name!r} twice. Allowed: once", key)
        if name not in known:
            allowed = ", ".join(known) or "only with the section models"
            raise broken_rule(f"found {name!r}. {did_you_mean(name, known)}Allowed: {allowed}", key)


SCHEMA = Recipe.model_json_schema()
KEYS = key_paths(SCHEMA)
