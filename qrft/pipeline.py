"""The whole of RFT on one page.

    problems ─┬─► train (sft) ─► export ─► sample ─► grade ─► curate ─► train (rft) ─► export ─► evaluate ─► report
              └──────────────────────────────────────────────────────────────────────────────────▲

`plan` runs nothing: it says which steps a recipe needs. `execute` runs what the store lacks.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from qrft import cost, models, store
from qrft.core import latex
from qrft.recipe import BUILTIN_PROBLEMS, Recipe, Until, dump, local_path
from qrft.stages import curate, evaluate, export, grade, problems, report, sample, train
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


def plan(recipe: Recipe, model: Path) -> list[Step]:
    """The steps of a recipe, each after what it reads. `model` is the base model's folder."""
    steps: list[Step] = []

    def step(name: str, stage: str, config: Mapping[str, Any], **inputs: Step | Source) -> Step:
        steps.append(Step(name, stage, config, inputs))
        return steps[-1]

    base = Source(model)
    prompt = {"prompt": recipe.prompt}
    sampling = {**prompt, **recipe.sample.model_dump(), "seed": recipe.seed}
    greedy = {**sampling, "num_samples": 1, "temperature": 0.0, "top_p": 1.0, "top_k": 0, "seed": 0}
    greedy |= {"min_p": 0.0, "until": Until().model_dump(), "max_new_tokens": recipe.evaluate.max_new_tokens}
    rules = {"rules": recipe.grade.model_dump()}
    # Once Math-Verify is there, expressions are judged that were not before.
    grading = {**rules, "judges_expressions": recipe.grade.mode != "paper" and latex.is_available()}

    def training(stage: str, rows: Step) -> Step:
        config = recipe.train_config(stage).model_dump(exclude={"checkpoint_minutes"})  # type: ignore[arg-type]
        return step(f"{stage}/train", "train", {**config, **prompt, "seed": recipe.seed}, model=base, training=rows)

    def exported(stage: str, adapter: Step) -> dict[str, Step | Source]:
        """What a tuned model is sampled from: the base with the adapter applied to it, or a merged file of its own."""
        inputs: dict[str, Step | Source] = {"model": base, "adapter": adapter, "problems": test_set}
        if recipe.gguf.merge:
            return {"base": step(f"{stage}/gguf", "export", as_quantized, **inputs)}
        return {"base": base_gguf, "adapter": step(f"{stage}/gguf", "export", prompt, base=base_gguf, **inputs)}

    def greedy_answers(name: str, **gguf: Step | Source) -> dict[str, Step | Source]:
        config = {**greedy, "model": name}
        answers = step(f"{name}/test-samples", "sample", config, model=base, problems=test_set, **gguf)
        graded = step(f"{name}/test-graded", "grade", grading, samples=answers, problems=test_set)
        return {name: answers, f"{name}-graded": graded}

    train_set = problem_set(step, recipe, "train")
    test_set = problem_set(step, recipe, "test")
    as_quantized = {**prompt, "quant": recipe.gguf.quant}
    base_gguf: Step | Source
    if recipe.gguf.file is None:
        base_gguf = step("base/gguf", "export", as_quantized, model=base, problems=test_set)
    else:  # used where it lies; the step only checks it
        base_gguf = Source(local_path(recipe.gguf.file))
        step("base/gguf", "export", prompt, model=base, file=base_gguf, problems=test_set)

    gold = step("sft/training", "curate", {}, problems=train_set)  # nothing to choose among
    sft = training("sft", gold)
    sft_gguf = exported("sft", sft)

    # What counts as enough paths is up to the rules.
    sampled = {**sampling, "model": "sft", **(grading if recipe.sample.until != Until() else {})}
    samples = step("round-1/samples", "sample", sampled, model=base, problems=train_set, **sft_gguf)
    graded = step("round-1/graded", "grade", grading, samples=samples, problems=train_set)
    choice = {**recipe.curate.model_dump(), **rules}
    paths = step("round-1/training", "curate", choice, problems=train_set, samples=samples, graded=graded)
    rft = training("rft", paths)
    rft_gguf = exported("rft", rft)

    answers = {
        **greedy_answers("base", base=base_gguf),
        **greedy_answers("sft", **sft_gguf),
        **greedy_answers("rft", **rft_gguf),
    }
    step("evaluation", "evaluate", {"models": ["base", "sft", "rft"]}, **answers)
    everything = {s.name: s for s in steps}
    step("report", "report", {"name": recipe.name, "recipe": recipe.model_dump(mode="json")}, **everything)
    return steps


def problem_set(step: Callable[..., Step], recipe: Recipe, split: str) -> Step:
    """The step that draws or reads the train or the test problems."""
    name = getattr(recipe.problems, split)
    num_problems = getattr(recipe.problems, f"num_{split}")
    if name in BUILTIN_PROBLEMS:
        config = {"set": name, "seed": recipe.problems.seed, "num_problems": num_problems}
        return step(f"problems/{split}", "problems", config)
    return step(f"problems/{split}", "problems", {"num_problems": num_problems}, file=Source(local_path(name)))


class Watcher(Protocol):
    """Who is told how a run goes: see qrft.console."""

    def plan(self, rows: list[tuple[Step, bool]]) -> None: ...

    def bar(self, name: str) -> AbstractContextManager[Callable[[int, int, str], None]]: ...


def execute(steps: list[Step], root: Store, run_dir: Path, recipe: Recipe, watcher: Watcher) -> dict[str, Path]:
    """Runs what the store lacks and links everything into the run folder; returns the artifact of each step."""
    with store.lock(run_dir):
        store.write_atomic(run_dir / "recipe.yaml", dump(recipe))
        root.tidy()
        watcher.plan([(step, root.has(step.stage, step.digest)) for step in steps])
        done: dict[str, Path] = {}
        for step in steps:
            if not root.has(step.stage, step.digest):
                run_step(step, root, done, recipe, watcher)
            done[step.digest] = root.path(step.stage, step.digest)
            store.link(done[step.digest], run_dir / step.name)
        for name in report.OUTPUTS:
            store.link(done[steps[-1].digest] / name, run_dir / name)
    return {step.name: done[step.digest] for step in steps}


def run_step(step: Step, root: Store, done: Mapping[str, Path], recipe: Recipe, watcher: Watcher) -> None:
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
    with store.disk_errors(root.root), watcher.bar(step.name) as progress:
        with cost.Meter() as meter:
            facts = STAGES[step.stage].run(inputs, work, settings, progress)
        root.commit(work, manifest(step, inputs, facts, meter))


def manifest(step: Step, inputs: Mapping[str, Path], facts: Mapping[str, Any], meter: cost.Meter) -> dict[str, Any]:
    """What the artifact says of how it came about."""
    return {
        "config": dict(step.config),
        "inputs": {
            name: inputs[name].name if isinstance(source, Step) else f"{source.path.name} {source.digest}"
            for name, source in step.inputs.items()
        },
        "version": STAGES[step.stage].VERSION,
        "seconds": meter.seconds,
        "cost": {**cost.of_stage(step.stage, step.config, inputs, facts), **meter.facts},
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "report": dict(facts),
    }
