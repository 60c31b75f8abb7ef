"""The whole of RFT on one page.

    problems ─┬─► train (sft) ─► export ─► sample ─► grade ─► curate ─► train (rft) ─► export ─► evaluate ─► report
              └──────────────────────────────────────────────────────────────────────────────────▲

`plan` runs nothing: it says which steps a recipe needs. `execute` runs what the store lacks.
"""

from __future__ import annotations

import re
import resource
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from qrft import models, prompts, store
from qrft.core import latex
from qrft.problems import find
from qrft.recipe import BUILTIN_PROBLEMS, PUBLISHED_PROBLEMS, Recipe, Until, dump, local_path
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

    train_set = problem_set(step, recipe, "problems/train", recipe.problems.train, recipe.problems.num_train)
    test_set = problem_set(step, recipe, "problems/test", recipe.problems.test, recipe.problems.num_test)
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

    tested: dict[str, dict[str, Step | Source]] = {"base": {"base": base_gguf}, "sft": sft_gguf, "rft": rft_gguf}
    evaluation(step, recipe, grading, tested, model=base, train=train_set, test=test_set)
    everything = {s.name: s for s in steps}
    step("report", "report", {"name": recipe.name, "recipe": recipe.model_dump(mode="json")}, **everything)
    return steps


def problem_set(step: Callable[..., Step], recipe: Recipe, place: str, name: str, num_problems: int | None) -> Step:
    """The step that draws or reads a set of problems."""
    config: dict[str, Any] = {"num_problems": num_problems}
    if name in BUILTIN_PROBLEMS:
        return step(place, "problems", {**config, "set": name, "seed": recipe.problems.seed})
    if name in PUBLISHED_PROBLEMS and not local_path(name).is_file():
        return step(place, "problems", {**config, "set": name}, file=Source(find.locate(name)))
    return step(place, "problems", config, file=Source(local_path(name)))


# ---------------------------------------------------------------------------------------------------- evaluation ----


def evaluation(
    step: Callable[..., Step],
    recipe: Recipe,
    grading: Mapping[str, Any],
    tested: Mapping[str, Mapping[str, Step | Source]],  # each model's GGUF inputs, by its name
    *,
    model: Source,
    train: Step,
    test: Step,
) -> Step:
    """Each model's answers to each test set, graded, and what they add up to. The base model is shown examples too."""
    chosen, entries = recipe.evaluate, []
    sets = {"test": (set_name(recipe.problems.test), test)}
    for place, name in further_sets(recipe).items():
        asked = problem_set(step, recipe, f"problems/{place}", name, recipe.problems.num_test)
        is_known = set_name(name) in [known for known, _ in sets.values()]  # files of one name
        sets[place] = place if is_known else set_name(name), asked
    inputs = {f"problems/{place}": asked for place, (_, asked) in sets.items()}
    for tuned, (place, (name, asked)), ways in product(tested, sets.items(), answering(recipe).items()):
        for few_shot in chosen.few_shot if tuned == "base" else [0]:
            kind, config = ways[0], {**ways[1], "model": tuned}
            read = {"model": model, "problems": asked, **tested[tuned]}
            if few_shot:
                config |= {"few_shot": few_shot, "examples_seed": recipe.seed}
                config["stop"] = [*recipe.sample.stop, prompts.next_example(recipe.prompt)]
                read["examples"] = train
            answers = f"{tuned}/{place}{f'-{few_shot}-shot' if few_shot else ''}{kind}"
            samples = step(f"{answers}-samples", "sample", config, **read)
            graded = step(f"{answers}-graded", "grade", grading, samples=samples, problems=asked)
            inputs |= {samples.name: samples, graded.name: graded}
            told = {"model": tuned, "problems": name, "few_shot": few_shot}
            entries.append({**told, "answers": answers, "place": place, "is_greedy": config["temperature"] == 0})
    # Without greedy answers the mean over samples stands for the accuracy.
    maj_at = sorted({*chosen.maj_at} if chosen.greedy else {1, *chosen.maj_at})
    config = {"maj_at": maj_at, "pass_at": sorted(chosen.pass_at), "rules": grading["rules"], "entries": entries}
    return step("evaluation", "evaluate", config, **inputs)


def answering(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """How the test problems are answered, by the ends of the steps' names: greedily, and k times for maj@K."""
    chosen = recipe.evaluate
    common: dict[str, Any] = {
        **{"prompt": recipe.prompt, "stop": recipe.sample.stop, "max_new_tokens": chosen.max_new_tokens},
        **{"num_sequences": recipe.sample.num_sequences, "until": Until().model_dump()},
        **{"top_p": 1.0, "top_k": 0, "min_p": 0.0},
    }
    found = {"": {**common, "num_samples": 1, "temperature": 0.0, "seed": 0}} if chosen.greedy else {}
    if k := max((*chosen.maj_at, *chosen.pass_at), default=0):
        found[f"-k{k}"] = {**common, "num_samples": k, "temperature": chosen.temperature, "seed": recipe.seed}
    return found


def further_sets(recipe: Recipe) -> dict[str, str]:
    """The test sets beside problems.test, each by a place for it in the run folder."""
    places = {"train": "", "test": recipe.problems.test}
    for name in recipe.evaluate.problems:
        if name not in places.values():
            place = re.sub(r"[^A-Za-z0-9._-]+", "-", set_name(name).removesuffix(".jsonl"))
            while place in places:
                place += "-2"
            places[place] = name
    return dict(list(places.items())[2:])


def set_name(name: str) -> str:
    """Of a set; of a file without its folders, which differ between machines."""
    return name if name in (*BUILTIN_PROBLEMS, *PUBLISHED_PROBLEMS) else local_path(name).name


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
    start = time.monotonic()
    with store.disk_errors(root.root), watcher.bar(step.name) as progress:
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
