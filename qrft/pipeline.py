"""The whole of RFT on one page.

    problems ─┬─► train (sft) ─► export ─► sample ─► grade ─► curate ─► train (rft) ─► export ─► evaluate ─► report
              └──────────────────────────────────────────────────────────────────────────────────▲

`plan` runs nothing: it says which steps a recipe needs, of one run (`plan_run`, the flow) or of all runs of a sweep.
`execute` runs what the store lacks; steps that are equal, in several runs too, are one artifact.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Protocol

from qrft import models, store
from qrft.core import latex
from qrft.recipe import BUILTIN_PROBLEMS, Recipe, Until, dump, local_path
from qrft.stages import curate, evaluate, export, grade, problems, report, sample, sweep, train
from qrft.store import Store

STAGES: dict[str, ModuleType] = {
    "problems": problems,
    "curate": curate,
    "train": train,
    "export": export,
    "sample": sample,
    "grade": grade,
    "evaluate": evaluate,
    "report": report,
    "sweep": sweep,
}


@dataclass(frozen=True)
class Source:
    """What comes from outside: a person's file, or a model's folder."""

    path: Path

    @cached_property
    def digest(self) -> str:
        return models.fingerprint(self.path)


@dataclass(frozen=True)
class Step:
    """One stage with its settings and what it reads; its digest names its artifact in the store."""

    name: str  # its place in the run folder
    stage: str
    config: Mapping[str, Any]
    inputs: Mapping[str, Step | Source]

    @cached_property
    def digest(self) -> str:
        inputs = {name: source.digest for name, source in self.inputs.items()}
        return store.digest(self.stage, STAGES[self.stage].VERSION, self.config, inputs)


def plan(recipe: Recipe, models: Path | Mapping[str, Path]) -> list[Step]:
    """The steps of a recipe, each after what it reads: of a sweep every run's, then those of the table of all.

    models: the folder of each base model that the recipe names; of a recipe with a single one, its folder.
    """
    source = cache(Source)  # so that what many runs read is hashed once
    variants = recipe.variants()
    runs = [plan_run(one.recipe, one.name, models, source) for one in variants]
    if not recipe.sweep and not recipe.models:
        return runs[0]
    steps: list[Step] = []
    rows: list[dict[str, Any]] = []
    reports: dict[str, Step] = {}
    for one, run in zip(variants, runs, strict=True):
        for step in run:
            steps.append(replace(step, name=f"{one.name}/{step.name}".lstrip("/")))
            if step.stage == "report":
                model = step.name.rpartition("/")[0] or one.recipe.base_model
                reports[f"{len(rows)}"] = step
                rows.append({"variant": one.name, "model": model, "settings": one.settings})
    return [*steps, Step("sweep", "sweep", {"rows": rows}, dict(reports))]


def plan_run(
    recipe: Recipe, name: str, models: Path | Mapping[str, Path], source: Callable[[Path], Source]
) -> list[Step]:
    """The flow: one run, of one model or of several."""
    steps: list[Step] = []

    def step(name: str, stage: str, config: Mapping[str, Any], **inputs: Step | Source) -> Step:
        steps.append(Step(name, stage, config, inputs))
        return steps[-1]

    train_set = problem_set(step, recipe, "train", source)
    test_set = problem_set(step, recipe, "test", source)
    lanes = {}
    for place, (model, own) in enumerate(recipe.by_model().items()):
        folder = models if isinstance(models, Path) else models[str(own.base_model)]
        lanes[model] = Lane(step, own, model, place, source(folder), train_set, test_set, source)
    pool = [lanes[model] for model in recipe.curate.pool]
    tuned = [lanes[model] for model in recipe.tuned]

    for lane in lanes.values():
        lane.export_base()
    gold = step("sft/training", "curate", {}, problems=train_set)  # nothing to choose among
    for lane in lanes.values():
        lane.train("sft", gold)
    for number in range(1, recipe.rounds + 1):
        for lane in lanes.values():
            if (lane in pool or lane in tuned) and (number == 1 or lane in tuned):  # else nothing new to sample from
                lane.sample(number)
        together = choose(step, f"round-{number}/training", recipe, train_set, pool) if pool else None
        for lane in tuned:
            paths = together or choose(step, lane.named(f"round-{number}/training"), recipe, train_set, [lane])
            lane.train("rft" if number == recipe.rounds else f"round-{number}", paths)
    evaluations = {lane: lane.evaluate() for lane in lanes.values()}
    everything = list(steps)
    for lane in lanes.values():
        lane.report(name, everything, evaluations[lane], recipe)
    return steps


@dataclass(eq=False)
class Lane:
    """One model's way through a run: what it is now, and what was sampled from it so far."""

    step: Callable[..., Step]
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
            self.base_gguf = self.step(self.named("base/gguf"), "export", self.as_quantized, **inputs)
        else:  # used where it lies; the step only checks it
            self.base_gguf = self.source(local_path(self.recipe.gguf.file))
            self.step(self.named("base/gguf"), "export", self.prompt, file=self.base_gguf, **inputs)

    def train(self, stage: str, rows: Step) -> None:
        """sft, rft, or the round whose model the next one samples."""
        kind: Literal["sft", "rft"] = "sft" if stage == "sft" else "rft"
        config = {**self.recipe.train_config(kind).model_dump(exclude={"checkpoint_minutes"}), **self.prompt}
        inputs: dict[str, Step | Source] = {"model": self.base, "training": rows}
        if self.recipe.rounds_from == "last" and self.adapter:
            inputs["start"] = self.adapter
        self.adapter = self.step(self.named(f"{stage}/train"), "train", {**config, "seed": self.recipe.seed}, **inputs)
        self.tuned[stage] = self.exported(stage, self.adapter)

    def exported(self, stage: str, adapter: Step) -> dict[str, Step | Source]:
        """What a tuned model is sampled from: the base with the adapter applied to it, or a merged file of its own."""
        inputs: dict[str, Step | Source] = {"model": self.base, "adapter": adapter, "problems": self.test_set}
        name = self.named(f"{stage}/gguf")
        if self.recipe.gguf.merge:
            return {"base": self.step(name, "export", self.as_quantized, **inputs)}
        adapter_gguf = self.step(name, "export", self.prompt, base=self.base_gguf, **inputs)
        return {"base": self.base_gguf, "adapter": adapter_gguf}

    def sample(self, number: int) -> None:
        """Of the newest model, for the training problems; then grade."""
        stage = list(self.tuned)[-1]
        label = "sft" if number == 1 else f"rft-{number - 1}"
        config = {**self.prompt, **self.recipe.sample.model_dump(), "seed": self.seed(number), "model": label}
        if self.recipe.sample.until != Until():  # what counts as enough paths is up to the rules
            config |= self.grading
        if number > 1 and self.recipe.curate.first_samples:  # only a first round's samples serve other runs too
            config["num_samples"] = self.recipe.curate.first_samples
        name, problems = self.named(f"round-{number}"), self.train_set
        made = self.step(f"{name}/samples", "sample", config, model=self.base, problems=problems, **self.tuned[stage])
        graded = self.step(f"{name}/graded", "grade", self.grading, samples=made, problems=problems)
        self.samples[self.named(label)] = {"samples": made, "graded": graded}

    def seed(self, number: int) -> int:
        """Random streams of its own for each model and round: with shared ones similar models sample similar paths,
        and a pool of them would hold fewer than it could."""
        return (self.recipe.seed + 1_000_003 * (self.place + 1_000 * (number - 1))) % 2**32

    def evaluate(self) -> Step:
        answers = self.greedy_answers("base", base=self.base_gguf)
        kinds = ["base", *(stage for stage in self.tuned if stage in ("sft", "rft"))]
        for kind in kinds[1:]:
            answers |= self.greedy_answers(kind, **self.tuned[kind])
        return self.step(self.named("evaluation"), "evaluate", {"models": kinds}, **answers)

    def greedy_answers(self, name: str, **gguf: Step | Source) -> dict[str, Step | Source]:
        config = {**self.prompt, **self.recipe.sample.model_dump(), "model": name, "num_samples": 1, "seed": 0}
        config |= {"temperature": 0.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "until": Until().model_dump()}
        config |= {"max_new_tokens": self.recipe.evaluate.max_new_tokens}
        inputs = {"model": self.base, "problems": self.test_set, **gguf}
        answers = self.step(self.named(f"{name}/test-samples"), "sample", config, **inputs)
        graded = self.step(
            self.named(f"{name}/test-graded"), "grade", self.grading, samples=answers, problems=self.test_set
        )
        return {name: answers, f"{name}-graded": graded}

    def report(self, variant: str, steps: Sequence[Step], evaluation: Step, recipe: Recipe) -> None:
        """Of all that this model's evaluation stands on, under the names of a run of its own."""
        own = {step.name: step for step in steps if step.name.startswith(self.named(""))}
        used = beneath(evaluation) - {step.digest for step in own.values()}
        inputs = {
            step.name.removeprefix(self.named("")): step for step in steps if step.name in own or step.digest in used
        }
        title = "/".join(filter(None, [self.recipe.name, variant, self.model]))
        config = {"name": title, "recipe": recipe.model_dump(mode="json"), "paper": self.recipe.paper.model_dump()}
        self.step(self.named("report"), "report", config, **inputs)


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


def beneath(step: Step) -> set[str]:
    """The digests of a step and of all that it stands on."""
    found, above = {step.digest}, [step]
    while above:
        for source in above.pop().inputs.values():
            if isinstance(source, Step) and source.digest not in found:
                found.add(source.digest)
                above.append(source)
    return found


def problem_set(step: Callable[..., Step], recipe: Recipe, split: str, source: Callable[[Path], Source]) -> Step:
    """The step that draws or reads the train or the test problems."""
    name = getattr(recipe.problems, split)
    config = {"num_problems": getattr(recipe.problems, f"num_{split}")}
    if split == "train" and recipe.problems.train_fraction < 1:
        config |= {"fraction": recipe.problems.train_fraction, "fraction_seed": recipe.seed}
    if name in BUILTIN_PROBLEMS:
        return step(f"problems/{split}", "problems", {"set": name, "seed": recipe.problems.seed, **config})
    return step(f"problems/{split}", "problems", config, file=source(local_path(name)))


class Watcher(Protocol):
    """Who is told how a run goes: see qrft.console."""

    def plan(self, rows: list[tuple[Step, bool]]) -> None: ...

    def bar(self, name: str) -> AbstractContextManager[Callable[[int, int, str], None]]: ...


def execute(steps: list[Step], root: Store, run_dir: Path, recipe: Recipe, watcher: Watcher) -> dict[str, Path]:
    """Runs what the store lacks and links everything into the run folder; returns the artifact of each step."""
    with store.lock(run_dir):
        store.write_atomic(run_dir / "recipe.yaml", dump(recipe))
        for variant in recipe.variants() if recipe.sweep else ():
            (run_dir / variant.name).mkdir(parents=True, exist_ok=True)
            store.write_atomic(run_dir / variant.name / "recipe.yaml", dump(variant.recipe))
        root.tidy()
        is_there = {step.digest: root.has(step.stage, step.digest) for step in steps}
        watcher.plan([(step, is_there[step.digest]) for step in steps])
        num_missing, number = sum(not found for found in is_there.values()), 0
        done: dict[str, Path] = {}
        for step in steps:
            if not root.has(step.stage, step.digest):
                number += 1
                # The name of a sweep's run would fill the line.
                name = f"{number}/{num_missing} {step.name.partition('/')[2]}" if recipe.sweep else step.name
                run_step(step, name, root, done, recipe, watcher)
            done[step.digest] = root.path(step.stage, step.digest)
            store.link(done[step.digest], run_dir / step.name)
            for name in getattr(STAGES[step.stage], "OUTPUTS", ()):
                store.link(done[step.digest] / name, (run_dir / step.name).parent / name)
    return {step.name: done[step.digest] for step in steps}


def run_step(step: Step, name: str, root: Store, done: Mapping[str, Path], recipe: Recipe, watcher: Watcher) -> None:
    """One stage, into a work folder that becomes the artifact by one rename."""
    inputs = {
        name: done[source.digest] if isinstance(source, Step) else source.path for name, source in step.inputs.items()
    }
    # How often to checkpoint and how many threads to use do not make another artifact.
    settings = {
        **step.config,
        "checkpoint_minutes": recipe.train.checkpoint_minutes,
        "num_threads": recipe.num_threads,
    }
    work = root.begin(step.stage, step.digest)
    start = time.monotonic()
    with store.disk_errors(root.root), watcher.bar(name) as progress:
        facts = STAGES[step.stage].run(inputs, work, settings, progress)
        root.commit(work, manifest(step, inputs, facts, time.monotonic() - start))


def manifest(step: Step, inputs: Mapping[str, Path], facts: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """What the artifact says of how it came about."""
    return {
        "config": dict(step.config),
        "inputs": {
            name: inputs[name].name if isinstance(source, Step) else f"{source.path.name} {source.digest}"
            for name, source in step.inputs.items()
        },
        "version": STAGES[step.stage].VERSION,
        "seconds": seconds,
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "report": dict(facts),
    }
