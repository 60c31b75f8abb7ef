"""The steps that an evaluation takes: which answers to which test problems."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from qrft.config.recipe import Recipe
from qrft.data.problems.registry import rules_for
from qrft.grading.rules import Rules
from qrft.models import prompts
from qrft.pipeline.graph import Source, Step
from qrft.pipeline.model_plan import ModelPlan, grading_by, trace_rules
from qrft.pipeline.problem_sets import add_problem_set, further_sets, set_name
from qrft.pipeline.stages import evaluate, problems, sample


class TestSet(NamedTuple):
    """A set of test problems. part: its part of the path in the run folder; name: what tables call it; rules: how its
    answers are graded."""

    part: str
    name: str
    problems: Step
    rules: Rules


class Asked(NamedTuple):
    """One model's answers to one test set, to be made with some worked examples in the prompt.

    phase: base, sft, control or rft. part: what distinguishes them from the other answers of that phase, in the run
    folder.
    """

    phase: str
    part: str
    test_set: TestSet
    few_shot: int
    settings: sample.Settings


def add_evaluation(model: ModelPlan) -> Step:
    """Answer each test set with the base model and with its tuned models, grade the answers, and add them up."""
    chosen = model.recipe.evaluate
    sets = add_test_sets(model)
    inputs: dict[str, Step | Source] = {one.problems.name: one.problems for one in sets}
    entries = []
    for asked in answers(model, sets):
        samples, graded = add_answers(model, asked)
        inputs |= {samples.name: samples, graded.name: graded}
        entries.append(
            evaluate.Answers(
                model=asked.phase,
                problems=asked.test_set.name,
                few_shot=asked.few_shot,
                rules=asked.test_set.rules,
                is_greedy=asked.settings.temperature == 0,
                asked=asked.test_set.problems.name,
                samples=samples.name,
                graded=graded.name,
                judges_expressions=grading_by(asked.test_set.rules).judges_expressions,
            )
        )
    # Without greedy answers the mean over samples stands for the accuracy.
    maj_at = sorted({*chosen.maj_at} if chosen.greedy else {1, *chosen.maj_at})
    settings = evaluate.Settings(
        maj_at=tuple(maj_at),
        pass_at=tuple(sorted(chosen.pass_at)),
        entries=tuple(entries),
    )
    return model.add("evaluate", settings, inputs, kind="evaluation")


def add_test_sets(model: ModelPlan) -> list[TestSet]:
    """Add the test sets beside problems.test; files of one name are distinguished by their part."""
    recipe = model.recipe
    rules = rules_for(recipe.problems.test, recipe.grade)
    sets = [TestSet("test", set_name(recipe.problems.test), model.test_set, rules)]
    for part, name in further_sets(recipe).items():
        settings = problems.Settings(num_problems=recipe.problems.num_test)
        step = add_problem_set(model.plan, recipe, part, name, settings, model.name)
        is_known = set_name(name) in [known.name for known in sets]
        rules = rules_for(name, recipe.grade)
        sets.append(TestSet(part, part if is_known else set_name(name), step, rules))
    return sets


def answers(model: ModelPlan, sets: list[TestSet]) -> Iterator[Asked]:
    """Yield the answers that are wanted. The base model is shown examples too, in turn as many as the recipe says."""
    for phase in model.evaluated:
        for test_set in sets:
            for kind, settings in answering(model.recipe, phase).items():
                for few_shot in model.recipe.evaluate.few_shot if phase == "base" else [0]:
                    shots = f"{few_shot}-shot" if few_shot else ""
                    part = "-".join(filter(None, [test_set.part, shots, kind]))
                    yield Asked(phase, part, test_set, few_shot, settings)


def add_answers(model: ModelPlan, asked: Asked) -> tuple[Step, Step]:
    """Add the step that samples these answers, and the one that grades them."""
    settings, recipe = asked.settings, model.recipe
    inputs = {"model": model.base, "problems": asked.test_set.problems, **model.evaluated[asked.phase]}
    if asked.few_shot:
        stop = tuple(filter(None, [*recipe.sample.stop, prompts.next_example(recipe.wording)]))
        shown = {"few_shot": asked.few_shot, "examples_seed": recipe.seed, "stop": stop}
        settings = settings.model_copy(update=shown)
        inputs["examples"] = model.train_set
    samples = model.add("sample", settings, inputs, kind="samples", phase=asked.phase, part=asked.part)
    inputs = {"samples": samples, "problems": asked.test_set.problems}
    grading = grading_by(asked.test_set.rules)
    return samples, model.add("grade", grading, inputs, kind="graded", phase=asked.phase, part=asked.part)


def answering(recipe: Recipe, phase: str) -> dict[str, sample.Settings]:
    """Return how a model answers the test problems: greedily (""), and k times for maj@K and pass@K (such as "k5")."""
    chosen = recipe.evaluate
    common = sample.Settings(
        **dict(recipe.wording),
        model=phase,
        stop=recipe.sample.stop,
        rules=trace_rules(recipe),
        max_new_tokens=chosen.max_new_tokens,
        num_samples=1,
        temperature=0.0,
        seed=0,
        **recipe.sampler_of(phase),
    )
    ways = {"": common} if chosen.greedy else {}
    if k := max((*chosen.maj_at, *chosen.pass_at), default=0):
        several = {"num_samples": k, "temperature": chosen.temperature, "seed": recipe.seed}
        ways[f"k{k}"] = common.model_copy(update=several)
    return ways
