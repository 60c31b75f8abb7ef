"""One model's part of a run, as the steps that it takes. The flow itself is in `qrft.pipeline.flow`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from qrft.config.paths import local_path, without_folders
from qrft.config.recipe import Recipe
from qrft.config.section import Section
from qrft.config.training import Training
from qrft.data.problems.registry import rules_for
from qrft.data.samples import pooled
from qrft.grading.latex import judges_expressions
from qrft.grading.rules import Rules, Verdicts
from qrft.models.architectures import is_supported
from qrft.models.json_file import read_json
from qrft.models.wording import Wording
from qrft.pipeline.graph import STAGES, Plan, Source, Step, beneath, joined
from qrft.pipeline.stages import curate, export, grade, report, sample
from qrft.report.run.settings import Input, Pooled
from qrft.sampling.backends import registry

Inputs = Mapping[str, Step | Source]


@dataclass(eq=False)
class ModelPlan:
    """One model's part of a run: what it is tuned to, and what was sampled from it so far."""

    plan: Plan
    recipe: Recipe  # of this model alone
    name: str  # in the run, "" where it is the only one
    number: int  # among the models
    base: Source
    train_set: Step
    test_set: Step
    base_file: Inputs = field(default_factory=dict)  # what the base model is sampled from, beside its folder
    tuned: dict[str, Inputs] = field(default_factory=dict)  # by phase, what it is sampled from; the newest last
    adapter: Step | None = None  # the newest
    sampled: dict[str, Step] = field(default_factory=dict)  # by the source of its rows, the newest last

    def add(self, stage: str, settings: Section, inputs: Inputs, *, kind: str, phase: str = "", part: str = "") -> Step:
        """Add a step of this model to the run."""
        return self.plan.add(stage, settings, inputs, kind=kind, phase=phase, part=part, model=self.name)

    @property
    def grading(self) -> grade.Settings:
        """Return the settings by which the samples of the training problems are graded."""
        return grading_by(train_rules(self.recipe))

    @property
    def judging(self) -> dict[str, Any]:
        """Return how samples are judged, for other steps than those that write grades."""
        return judging(self.recipe)

    @property
    def evaluated(self) -> dict[str, Inputs]:
        """Return what the models that answer the test problems are sampled from, by phase."""
        final = {phase: inputs for phase, inputs in self.tuned.items() if phase in ("sft", "control", "rft")}
        return {"base": self.base_file, **final}

    @property
    def reads(self) -> registry.Reads:
        """Return what the sampler reads of a model; only a GGUF file has to be made."""
        return registry.backend(self.recipe.sample.sampler).READS

    def add_base(self) -> None:
        """Make the base model's file, if it is sampled; a ready file is used in place, and only checked."""
        inputs: dict[str, Step | Source] = {"model": self.base, "problems": self.test_set}
        if self.reads != "gguf":
            return
        if self.recipe.gguf.file is None:
            self.base_file = {"base": self.add_export("base", inputs, makes_base=True)}
        else:
            inputs["file"] = Source(local_path(self.recipe.gguf.file))
            self.base_file = {"base": inputs["file"]}
            self.add_export("base", inputs, makes_base=False)

    def add_export(self, phase: str, inputs: Inputs, *, makes_base: bool) -> Step:
        chosen = self.recipe.gguf
        quant = chosen.quant if makes_base else None
        settings = export.Settings(**dict(self.recipe.wording), quant=quant, parity=chosen.parity)
        return self.add("export", settings, inputs, kind="gguf", phase=phase)

    def add_training(self, phase: str, rows: Step) -> None:
        """Fine-tune the base on these rows, or the newest adapter further, and export it for sampling.

        phase: sft, rft, or the round whose model the next one samples.
        """
        settings = self.training_settings("sft" if phase == "sft" else "rft")
        inputs: dict[str, Step | Source] = {"model": self.base, "training": rows}
        if self.recipe.rounds_from == "last" and self.adapter:
            inputs["start"] = self.adapter
        self.adapter = self.add("train", settings, inputs, kind="train", phase=phase)
        self.tuned[phase] = self.export_tuned(phase, self.adapter, trains_adapter=settings.adapter != "none")

    def add_control(self, gold: Step) -> None:
        """Fine-tune the base on the gold solutions for as many steps as the newest training took, and export it."""
        assert self.adapter is not None
        settings = self.training_settings("sft")
        inputs: Inputs = {"model": self.base, "training": gold, "steps_of": self.adapter}
        trained = self.add("train", settings, inputs, kind="train", phase="control")
        self.tuned["control"] = self.export_tuned("control", trained, trains_adapter=settings.adapter != "none")

    def training_settings(self, stage: Literal["sft", "rft"]) -> Training:
        return Training(**dict(self.recipe.train_config(stage)), **dict(self.recipe.wording), seed=self.recipe.seed)

    def export_tuned(self, phase: str, trained: Step, *, trains_adapter: bool) -> Inputs:
        """Return what a tuned model is sampled from: the base with the adapter applied to it, or a file of its own."""
        if self.reads != "gguf":
            return {"adapter" if trains_adapter else "tuned": trained}
        if not trains_adapter:
            return {"base": self.add_export(phase, {"tuned": trained, "problems": self.test_set}, makes_base=True)}
        inputs: Inputs = {"model": self.base, "adapter": trained, "problems": self.test_set}
        chosen = self.recipe.gguf
        if chosen.merge:
            return {"base": self.add_export(phase, inputs, makes_base=True)}
        # Whether there is a GPU is no part of the plan: what one machine made serves another.
        may_merge = chosen.merge is None and chosen.file is None
        return {**self.base_file, "adapter": self.add_export(phase, {**self.base_file, **inputs}, makes_base=may_merge)}

    def add_samples(self, phase: str, number: int) -> tuple[str, Step]:
        """Sample the newest model for the training problems: the base where none is tuned. Return also their source."""
        phase_sampled, files = list({"base": self.base_file, **self.tuned}.items())[-1]
        label = phase_sampled if number == 1 else f"rft-{number - 1}"
        settings = self.sampling(label, number)
        inputs = {"model": self.base, "problems": self.train_set, **files}
        source, samples = joined(self.name, label), self.add("sample", settings, inputs, kind="samples", phase=phase)
        self.sampled[source] = samples
        return source, samples

    def sampling(self, label: str, number: int) -> sample.Settings:
        first_samples = self.recipe.curate.first_samples
        own = self.recipe.sampler_of(label)
        if number > 1 and first_samples:  # only a first round's samples serve other runs too
            own["num_samples"] = first_samples
        return drawing(self.recipe, own, model=label, seed=seed_of(self.recipe, self.number, number))

    @property
    def pooled(self) -> dict[str, Step]:
        """Return the samples that a round selects from."""
        newest = list(self.sampled)[-1:]
        return {name: self.sampled[name] for name in (self.sampled if self.recipe.rounds_pool == "all" else newest)}


def with_fitting_sampler(recipe: Recipe, folder: Path) -> Recipe:
    """Return the recipe of one model, with transformers in place of a sampler whose GGUF file can't be made."""
    if registry.backend(recipe.sample.sampler).READS != "gguf" or is_supported(read_json(folder / "config.json")):
        return recipe
    return recipe.model_copy(update={"sample": recipe.sample.model_copy(update={"sampler": "transformers"})})


def trace_rules(recipe: Recipe) -> Rules | None:
    """Return the rules of traces alone, which say where stop texts do not count; None for what any text has."""
    rules = recipe.grade
    alone = Rules() if rules.mode == "paper" else Rules(trace_tags=rules.trace_tags, trace_is_open=rules.trace_is_open)
    return None if alone == Rules() else alone


def gold_settings(recipe: Recipe) -> curate.Settings:
    """Return how the worked solutions are written; no other rule decides that."""
    if recipe.curate.traces == "keep" or recipe.grade.mode == "paper":
        return curate.Settings()
    return curate.Settings(traces="drop", rules=trace_rules(recipe) or Rules())


def train_rules(recipe: Recipe) -> Rules:
    """Return the rules by which the samples of the training problems are graded and selected."""
    return rules_for(recipe.problems.train, recipe.grade)


def grading_by(rules: Rules) -> grade.Settings:
    """Return the settings of a grade step. They say whether Math-Verify, if installed, judges expressions."""
    return grade.Settings(rules=rules, judges_expressions=judges_expressions(rules))


def judging(recipe: Recipe) -> dict[str, Any]:
    """Return how samples of the training problems are judged, for other steps than those that write grades."""
    grading = grading_by(train_rules(recipe))
    return {"rules": grading.rules, "judges_expressions": grading.judges_expressions}


def drawing(recipe: Recipe, sampler: Mapping[str, Any], wording: Wording | None = None, **own: Any) -> sample.Settings:
    """Return how samples of the training problems are drawn by a sampler. own: the seed, and what else differs."""
    values = {**dict(recipe.sample), **sampler}
    if recipe.sample.until.goal:  # the rules decide what counts as enough paths
        values |= {**judging(recipe), "cut_off": recipe.curate.cut_off}
        values["sound"] = "require" if recipe.curate.sound == "require" else None
    else:
        values["rules"] = trace_rules(recipe)
    return sample.Settings(**values, **dict(wording or recipe.wording), **own)


def seed_of(recipe: Recipe, model: int, number: int) -> int:
    """Return a separate seed for each model, by its number among them, and round.

    With a shared one similar models would sample similar paths, and a pool of them would hold fewer paths.
    """
    return (recipe.seed + 1_000_003 * (model + 1_000 * (number - 1))) % 2**32


def sample_grading(recipe: Recipe) -> grade.Settings:
    """Return how samples of the training problems are graded, to be selected from."""
    return grading_by(train_rules(recipe)).model_copy(update={"judges_paths": recipe.curate.sound != "off"})


def add_choice(
    plan: Plan,
    recipe: Recipe,
    phase: str,
    train_set: Step,
    pool: Mapping[str, tuple[Step, Step]],
    name: str = "",
    *,
    stage: str = "curate",
    kind: str = "training",
    **own: Any,
) -> Step:
    """Add a step that selects paths together from these samples and their grades, by their source; by default the
    training table.

    name: the model that it is for; "" where several share it. own: settings of the stage beside those of selection.
    """
    sources, inputs = pool_inputs(train_set, pool)
    chosen = recipe.curate.model_dump(exclude={"pool", "pairs", "samples", *Verdicts.model_fields})
    settings = STAGES[stage].Settings(**chosen, **own, rules=train_rules(recipe), sources=sources)
    return plan.add(stage, settings, inputs, kind=kind, phase=phase, model=name)


def pool_of(models: Sequence[ModelPlan], outside: Mapping[str, Step]) -> dict[str, Step]:
    """Return what a round selects from, by source: the samples of these models, and those made elsewhere."""
    return {source: sampled for model in models for source, sampled in model.pooled.items()} | dict(outside)


def pool_inputs(
    train_set: Step, pool: Mapping[str, tuple[Step, Step]]
) -> tuple[tuple[str, ...], dict[str, Step | Source]]:
    """Return the sources that a round selects from, "" for a single one, and a step's inputs of them."""
    sources = tuple(pool) if len(pool) > 1 else ("",)
    inputs: dict[str, Step | Source] = {"problems": train_set}
    for source, sampled in zip(sources, pool.values(), strict=True):
        inputs |= dict(zip(pooled.input_names(source), sampled, strict=True))
    return sources, inputs


def add_report(model: ModelPlan, evaluation: Step, steps: Sequence[Step], recipe: Recipe) -> None:
    """Add the report of all that this model's evaluation rests on, under the names of a run of its own.

    steps: all of the run; recipe: that of the whole run, which is shown.
    """
    made: dict[str, Step] = {}
    others = beneath(evaluation) - {step.digest for step in steps if step.model == model.name}
    for step in steps:
        if step.model == model.name:
            made[step.name] = step
        elif step.digest in others:
            made[joined(step.model, step.name)] = step
            others.remove(step.digest)  # a step that two models share counts once
    settings = report.Settings(
        name=joined(recipe.name, model.plan.variant, model.name),
        recipe=without_folders(recipe.model_dump(mode="json")),
        paper=model.recipe.paper,
        steps=tuple(described(name, step, model) for name, step in made.items()),
        **model.judging,
        test_rules=rules_for(model.recipe.problems.test, model.recipe.grade),
        dedup=recipe.curate.dedup,
        cut_off=recipe.curate.cut_off,
        sound=recipe.curate.sound,
        first_samples=recipe.curate.first_samples,
        pool=pool_in(made),
    )
    model.add("report", settings, {"model": model.base, **made}, kind="report")


def described(name: str, step: Step, model: ModelPlan) -> Input:
    other = "" if step.model == model.name else step.model
    return Input(name=name, kind=step.kind, phase=step.phase, part=step.part, model=other)


def pool_in(made: Mapping[str, Step]) -> tuple[Pooled, ...]:
    """Return the samples that the last training table was selected from, by the names of the report's inputs."""
    names = {step.digest: name for name, step in made.items()}
    table = [step for step in made.values() if step.kind == "training"][-1]
    settings = table.settings
    assert isinstance(settings, curate.Settings)
    pool = []
    for source in settings.sources:
        samples, graded = (table.inputs[key].digest for key in pooled.input_names(source))
        pool.append(Pooled(name=source, samples=names[samples], graded=names[graded]))
    return tuple(pool)
