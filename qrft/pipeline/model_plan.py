"""One model's way through a run, as the steps that it takes. The flow itself is in `qrft.pipeline.flow`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from qrft.config.recipe import RUNTIME_KEYS, Recipe, local_path
from qrft.grading import latex
from qrft.pipeline.evaluation_plan import evaluation
from qrft.pipeline.graph import Source, Step, beneath


@dataclass(eq=False)
class Lane:
    """One model's way through a run: what it is now, and what was sampled from it so far."""

    add: Callable[..., Step]  # a step to the run
    recipe: Recipe  # of this model alone
    model: str  # its name in the run, "" where it is the only one
    place: int  # among the models
    base: Source
    train_set: Step
    test_set: Step
    source: Callable[[Path], Source]
    base_gguf: Step | Source = field(init=False)
    tuned: dict[str, dict[str, Step | Source]] = field(default_factory=dict)  # by stage, what is sampled
    adapter: Step | None = None  # the newest
    samples: dict[str, dict[str, Step]] = field(default_factory=dict)  # by where they come from, the newest last

    def named(self, name: str) -> str:
        return f"{self.model}/{name}" if self.model else name

    def step(self, name: str, stage: str, config: Mapping[str, Any], **inputs: Step | Source) -> Step:
        return self.add(self.named(name), stage, config, **inputs)

    @cached_property
    def prompt(self) -> dict[str, Any]:
        return {"prompt": self.recipe.prompt}

    @cached_property
    def grading(self) -> dict[str, Any]:
        # Once Math-Verify is there, expressions are judged that were not before.
        judges = self.recipe.grade.mode != "paper" and latex.is_available()
        return {"rules": self.recipe.grade.model_dump(), "judges_expressions": judges}

    @cached_property
    def as_quantized(self) -> dict[str, Any]:
        return {**self.prompt, "quant": self.recipe.gguf.quant}

    def export_base(self) -> None:
        inputs: dict[str, Step | Source] = {"model": self.base, "problems": self.test_set}
        if self.recipe.gguf.file is None:
            self.base_gguf = self.step("base/gguf", "export", self.as_quantized, **inputs)
        else:  # used where it lies; the step only checks it
            self.base_gguf = self.source(local_path(self.recipe.gguf.file))
            self.step("base/gguf", "export", self.prompt, file=self.base_gguf, **inputs)

    def train(self, stage: str, rows: Step) -> None:
        """sft, rft, or the round whose model the next one samples."""
        kind: Literal["sft", "rft"] = "sft" if stage == "sft" else "rft"
        config = {**self.recipe.train_config(kind).model_dump(exclude=RUNTIME_KEYS), **self.prompt}
        inputs: dict[str, Step | Source] = {"model": self.base, "training": rows}
        if self.recipe.rounds_from == "last" and self.adapter:
            inputs["start"] = self.adapter
        self.adapter = self.step(f"{stage}/train", "train", {**config, "seed": self.recipe.seed}, **inputs)
        self.tuned[stage] = self.exported(stage, self.adapter)

    def exported(self, stage: str, trained: Step) -> dict[str, Step | Source]:
        """What a tuned model is sampled from: the base with the adapter applied to it, or a file of its own."""
        name = f"{stage}/gguf"
        if trained.config["adapter"] == "none":
            return {"base": self.step(name, "export", self.as_quantized, tuned=trained, problems=self.test_set)}
        inputs: dict[str, Step | Source] = {"model": self.base, "adapter": trained, "problems": self.test_set}
        if self.recipe.gguf.merge:
            return {"base": self.step(name, "export", self.as_quantized, **inputs)}
        adapter_gguf = self.step(name, "export", self.prompt, base=self.base_gguf, **inputs)
        return {"base": self.base_gguf, "adapter": adapter_gguf}

    def sample(self, number: int) -> None:
        """Of the newest model, for the training problems; then grade."""
        stage = list(self.tuned)[-1]
        label = "sft" if number == 1 else f"rft-{number - 1}"
        config = {**self.prompt, **self.recipe.sample.model_dump(), "seed": self.seed(number), "model": label}
        if self.recipe.sample.until.goal:  # what counts as enough paths is up to the rules
            config |= self.grading
        if number > 1 and self.recipe.curate.first_samples:  # only a first round's samples serve other runs too
            config["num_samples"] = self.recipe.curate.first_samples
        name, problems = f"round-{number}", self.train_set
        made = self.step(f"{name}/samples", "sample", config, model=self.base, problems=problems, **self.tuned[stage])
        graded = self.step(f"{name}/graded", "grade", self.grading, samples=made, problems=problems)
        self.samples[self.named(label)] = {"samples": made, "graded": graded}

    def seed(self, number: int) -> int:
        """Random streams of its own for each model and round: with shared ones similar models sample similar paths,
        and a pool of them would hold fewer than it could."""
        return (self.recipe.seed + 1_000_003 * (self.place + 1_000 * (number - 1))) % 2**32

    def evaluate(self) -> Step:
        kinds = {kind: inputs for kind, inputs in self.tuned.items() if kind in ("sft", "rft")}
        tested = {"base": {"base": self.base_gguf}, **kinds}
        sets = {"train": self.train_set, "test": self.test_set}
        return evaluation(self.step, self.recipe, self.grading, tested, model=self.base, **sets, source=self.source)

    def report(self, variant: str, steps: Sequence[Step], evaluation: Step, recipe: Recipe) -> None:
        """Of all that this model's evaluation stands on, under the names of a run of its own."""
        own = self.named("")
        inputs: dict[str, Step | Source] = {"model": self.base}
        others = beneath(evaluation) - {step.digest for step in steps if step.name.startswith(own)}
        for step in steps:
            if step.name.startswith(own):
                inputs[step.name.removeprefix(own)] = step
            elif step.digest in others:
                inputs[step.name] = step
                others.remove(step.digest)  # what two models share counts once
        title = "/".join(filter(None, [self.recipe.name, variant, self.model]))
        config = {"name": title, "recipe": recipe.model_dump(mode="json"), "paper": self.recipe.paper.model_dump()}
        self.step("report", "report", config, **inputs)


def choose(step: Callable[..., Step], name: str, recipe: Recipe, problems: Step, lanes: Sequence[Lane]) -> Step:
    """The training table of gold solutions and of what was sampled in these lanes, selected from together."""
    config = {**recipe.curate.model_dump(exclude={"pool", "first_samples"}), "rules": recipe.grade.model_dump()}
    if recipe.curate.first_samples:
        config["first_samples"] = recipe.curate.first_samples
    found: dict[str, dict[str, Step]] = {}
    for lane in lanes:
        newest = list(lane.samples)[-1:]
        found |= {key: lane.samples[key] for key in (lane.samples if recipe.rounds_pool == "all" else newest)}
    if len(found) == 1:
        return step(name, "curate", config, problems=problems, **next(iter(found.values())))
    inputs = {f"{key}/{kind}": made for key, pair in found.items() for kind, made in pair.items()}
    return step(name, "curate", {**config, "sources": list(found)}, problems=problems, **inputs)
