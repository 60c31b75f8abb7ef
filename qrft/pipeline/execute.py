"""Run what the store lacks of a plan; steps that are equal, in several runs too, are one artifact."""

from __future__ import annotations

import logging
import resource
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from qrft.config.load import dump
from qrft.config.recipe import Recipe
from qrft.config.variants import expand_sweep
from qrft.data import disk
from qrft.machine import let_gpu_memory_grow
from qrft.pipeline import cost
from qrft.pipeline.graph import STAGES, Step
from qrft.pipeline.stages import Job, export
from qrft.pipeline.store import Store
from qrft.pipeline.store import manifest as read_manifest
from qrft.progress import Progress
from qrft.sampling.backends import registry

log = logging.getLogger(__name__)


class Watcher(Protocol):
    """Receives reports of how a run goes; qrft.cli.console has one."""

    def plan(self, rows: list[tuple[Step, bool]]) -> None: ...

    def bar(self, name: str) -> AbstractContextManager[Progress]: ...


def execute(steps: Sequence[Step], store: Store, run_dir: Path, recipe: Recipe, watcher: Watcher) -> dict[str, Path]:
    """Run what the store lacks and link everything into the run folder; return each step's artifact by its path."""
    let_gpu_memory_grow()  # here, since an earlier stage may start CUDA
    with disk.lock(run_dir):
        write_recipes(recipe, run_dir)
        store.tidy()
        is_there = {step.digest: has(step, store) for step in steps}
        watcher.plan([(step, is_there[step.digest]) for step in steps])
        sampling = [step for step in steps if step.stage == "sample" and not is_there[step.digest]]
        for step in sampling:
            registry.check(dict(step.settings)["sampler"], dict(step.settings))
        num_missing, number = sum(not there for there in is_there.values()), 0
        done: dict[str, Path] = {}
        for step in steps:
            made = False
            for lacking in to_make(step, store):
                number, made = number + 1, True
                # Without the name of the sweep's run, which would fill the line.
                name = replace(lacking, variant="").path
                label = f"{number}/{max(number, num_missing)} {name}" if recipe.sweep else lacking.path
                run_step(lacking, label, store, done, recipe.num_threads, watcher)
            if sampling and not made and step.digest not in done:
                compare_again(step, store.path(step.stage, step.digest), done, recipe.num_threads, watcher)
            done[step.digest] = store.path(step.stage, step.digest)
            link(step, done[step.digest], run_dir)
    return {step.path: done[step.digest] for step in steps}


def has(step: Step, store: Store) -> bool:
    """Return whether a step is done; what is damaged of it is told."""
    if store.has(step.stage, step.digest):
        return True
    if damage := store.damage(step.stage, step.digest):
        log.warning("%s is damaged and is made again: %s", step.path, damage)
    return False


def to_make(step: Step, store: Store) -> Iterator[Step]:
    """Yield what is to be made for a step to be there: nothing, or itself, after those of its inputs that were damaged
    since they were made. They are looked at when the step is about to read them: hours may have passed."""
    if has(step, store):
        return
    for source in step.inputs.values():
        if isinstance(source, Step):
            yield from to_make(source, store)
    yield step


def write_recipes(recipe: Recipe, run_dir: Path) -> None:
    """Write the recipe, and that of each run of a sweep, with all defaults spelled out."""
    disk.write_atomic(run_dir / "recipe.yaml", dump(recipe))
    for variant in expand_sweep(recipe) if recipe.sweep else ():
        (run_dir / variant.name).mkdir(parents=True, exist_ok=True)
        disk.write_atomic(run_dir / variant.name / "recipe.yaml", dump(variant.recipe))


def link(step: Step, artifact: Path, run_dir: Path) -> None:
    """Link an artifact to its place in the run folder, and what a person opens beside it."""
    place = run_dir / step.path
    disk.link(artifact, place)
    for name in getattr(STAGES[step.stage], "OUTPUTS", ()):
        if (artifact / name).exists():  # only a study has study.md
            disk.link(artifact / name, place.parent / name)


def run_step(
    step: Step, label: str, store: Store, done: Mapping[str, Path], num_threads: int | None, watcher: Watcher
) -> None:
    """Run one stage, in a work folder that becomes the artifact by one rename. done: artifacts by their digests."""
    inputs = paths(step, done)
    work = store.begin(step.stage, step.digest)
    with disk.disk_errors(store.root), watcher.bar(label) as progress:
        with cost.Meter() as meter:
            facts = STAGES[step.stage].run(inputs, work, step.settings, Job(num_threads, progress))
        store.commit(work, manifest(step, inputs, facts, meter))


def compare_again(
    step: Step, artifact: Path, done: Mapping[str, Path], num_threads: int | None, watcher: Watcher
) -> None:
    """Compare the files of a finished export with transformers where the recipe asks for it again."""
    settings = step.settings
    if isinstance(settings, export.Settings) and export.is_to_compare_again(
        settings, read_manifest(artifact)["report"]
    ):
        with watcher.bar(step.path) as progress:
            export.compare_again(paths(step, done), artifact, settings, Job(num_threads, progress))


def paths(step: Step, done: Mapping[str, Path]) -> dict[str, Path]:
    """Return where the inputs of a step lie."""
    return {
        name: done[source.digest] if isinstance(source, Step) else source.path for name, source in step.inputs.items()
    }


def manifest(step: Step, inputs: Mapping[str, Path], facts: Mapping[str, Any], meter: cost.Meter) -> dict[str, Any]:
    """Return what the artifact says about how it was made."""
    return {
        "config": step.identity,
        "inputs": {
            name: inputs[name].name if isinstance(source, Step) else f"{source.path.name} {source.digest}"
            for name, source in step.inputs.items()
        },
        "version": STAGES[step.stage].VERSION,
        "seconds": meter.seconds,
        "cost": {**cost.of_stage(step.stage, step.settings, inputs, facts), **meter.facts},
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "report": dict(facts),
    }
