"""Which answers to the test problems an evaluation takes, as steps."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

from qrft.config.recipe import Recipe, local_path
from qrft.data.problems import registry
from qrft.models import prompts
from qrft.pipeline.graph import Source, Step
from qrft.sampling.budget import Until

MakeSource = Callable[[Path], Source]


def evaluation(
    step: Callable[..., Step],
    recipe: Recipe,
    grading: Mapping[str, Any],
    tested: Mapping[str, Mapping[str, Step | Source]],  # each model's GGUF inputs, by its name
    *,
    model: Source,
    train: Step,
    test: Step,
    source: MakeSource,
) -> Step:
    """Each model's answers to each test set, graded, and what they add up to. The base model is shown examples too."""
    chosen, entries = recipe.evaluate, []
    sets = {"test": (set_name(recipe.problems.test), test)}
    for place, name in further_sets(recipe).items():
        asked = problem_set(step, recipe, f"problems/{place}", name, recipe.problems.num_test, source)
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
            inputs |= {f"{answers}-samples": samples, f"{answers}-graded": graded}
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
    return name if name in registry.BY_NAME else local_path(name).name


def problem_set(
    step: Callable[..., Step],
    recipe: Recipe,
    place: str,
    name: str,
    num_problems: int | None,
    source: MakeSource,
    **share: Any,
) -> Step:
    """The step that draws or reads a set of problems. share: the part of it to take, in the stage's words."""
    config: dict[str, Any] = {"num_problems": num_problems, **share}
    if name in registry.GENERATED:
        return step(place, "problems", {**config, "set": name, "seed": recipe.problems.seed})
    if name in registry.PUBLISHED and not local_path(name).is_file():
        return step(place, "problems", {**config, "set": name}, file=source(registry.locate(name)))
    return step(place, "problems", config, file=source(local_path(name)))
