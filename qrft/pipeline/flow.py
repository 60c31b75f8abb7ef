"""The whole of RFT on one page.

    problems ─┬─► train (sft) ─► export ─► sample ─► grade ─► curate ─► train (rft) ─► export ─► evaluate ─► report
              └──────────────────────────────────────────────────────────────────────────────────▲

`plan` runs nothing: it says which steps a recipe needs, of one run (`plan_run`, the flow) or of all runs of a sweep.
`execute` runs what the store lacks; steps that are equal, in several runs too, are one artifact.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from qrft.config.recipe import RUNTIME_KEYS, Recipe, dump
from qrft.data import disk
from qrft.pipeline import cost
from qrft.pipeline.evaluation_plan import problem_set
from qrft.pipeline.graph import STAGES, Source, Step
from qrft.pipeline.model_plan import Lane, choose
from qrft.pipeline.store import Store
from qrft.report.sweep.page import can_draw_png


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
                page = "/".join(filter(None, [one.name, f"{step.name}.html"]))
                rows.append({"variant": one.name, "model": model, "settings": one.settings, "report": page})
    config = {"name": recipe.name, "study": recipe.study, "png": can_draw_png(), "rows": rows}
    return [*steps, Step("sweep", "sweep", config, dict(reports))]


def plan_run(
    recipe: Recipe, name: str, models: Path | Mapping[str, Path], source: Callable[[Path], Source]
) -> list[Step]:
    """The flow: one run, of one model or of several."""
    steps: list[Step] = []

    def step(name: str, stage: str, config: Mapping[str, Any], **inputs: Step | Source) -> Step:
        steps.append(Step(name, stage, config, inputs))
        return steps[-1]

    sets = recipe.problems
    share = {} if sets.train_fraction == 1 else {"fraction": sets.train_fraction, "fraction_seed": recipe.seed}
    train_set = problem_set(step, recipe, "problems/train", sets.train, sets.num_train, source, **share)
    test_set = problem_set(step, recipe, "problems/test", sets.test, sets.num_test, source)
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
        rows = f"round-{number}/training"
        together = choose(step, rows, recipe, train_set, pool) if pool else None
        for lane in tuned:
            paths = together or choose(lane.step, rows, recipe, train_set, [lane])
            lane.train("rft" if number == recipe.rounds else f"round-{number}", paths)
    evaluations = {lane: lane.evaluate() for lane in lanes.values()}
    everything = list(steps)
    for lane in lanes.values():
        lane.report(name, everything, evaluations[lane], recipe)
    return steps


class Watcher(Protocol):
    """Who is told how a run goes: see qrft.cli.console."""

    def plan(self, rows: list[tuple[Step, bool]]) -> None: ...

    def bar(self, name: str) -> AbstractContextManager[Callable[[int, int, str], None]]: ...


def execute(steps: list[Step], root: Store, run_dir: Path, recipe: Recipe, watcher: Watcher) -> dict[str, Path]:
    """Runs what the store lacks and links everything into the run folder; returns the artifact of each step."""
    with disk.lock(run_dir):
        disk.write_atomic(run_dir / "recipe.yaml", dump(recipe))
        for variant in recipe.variants() if recipe.sweep else ():
            (run_dir / variant.name).mkdir(parents=True, exist_ok=True)
            disk.write_atomic(run_dir / variant.name / "recipe.yaml", dump(variant.recipe))
        root.tidy()
        is_there = {step.digest: root.has(step.stage, step.digest) for step in steps}
        watcher.plan([(step, is_there[step.digest]) for step in steps])
        num_missing, number = sum(not found for found in is_there.values()), 0
        done: dict[str, Path] = {}
        for step in steps:
            if not root.has(step.stage, step.digest):
                number += 1
                # The name of a sweep's run would fill the line.
                name = (
                    f"{number}/{num_missing} {step.name.partition('/')[2] or step.name}" if recipe.sweep else step.name
                )
                run_step(step, name, root, done, recipe, watcher)
            done[step.digest] = root.path(step.stage, step.digest)
            disk.link(done[step.digest], run_dir / step.name)
            for name in getattr(STAGES[step.stage], "OUTPUTS", ()):
                if (done[step.digest] / name).exists():  # study.md is a study's alone
                    disk.link(done[step.digest] / name, (run_dir / step.name).parent / name)
    return {step.name: done[step.digest] for step in steps}


def run_step(step: Step, name: str, root: Store, done: Mapping[str, Path], recipe: Recipe, watcher: Watcher) -> None:
    """One stage, into a work folder that becomes the artifact by one rename."""
    inputs = {
        name: done[source.digest] if isinstance(source, Step) else source.path for name, source in step.inputs.items()
    }
    # How often to checkpoint, who is told, and how many threads to use do not make another artifact.
    settings = {
        **step.config,
        **recipe.train.model_dump(include=RUNTIME_KEYS),
        "num_threads": recipe.num_threads,
    }
    work = root.begin(step.stage, step.digest)
    with disk.disk_errors(root.root), watcher.bar(name) as progress:
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
