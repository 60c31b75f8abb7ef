"""The whole of RFT on one page.

    problems ─┬─► train (sft) ─► export ─► sample ─► grade ─► curate ─► train (rft) ─► export ─► evaluate ─► report
              └──────────────────────────────────────────────────────────────────────────────────▲

`plan` runs nothing: it says which steps a recipe needs, of one run (`plan_run`, the flow) or of all runs of a sweep.
The part of a single model is in `qrft.pipeline.model_plan`; `qrft.pipeline.execute` runs what the store lacks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from qrft.config.paths import for_people
from qrft.config.recipe import Recipe
from qrft.config.variants import Variant, expand_sweep, split_models
from qrft.errors import RecipeError
from qrft.pipeline.evaluation_plan import add_evaluation
from qrft.pipeline.grades import Grades
from qrft.pipeline.graph import Plan, Source, Step
from qrft.pipeline.model_plan import ModelPlan, add_choice, add_report, gold_settings, pool_of, with_fitting_sampler
from qrft.pipeline.outside_plan import add_outside, add_teachers
from qrft.pipeline.problem_sets import add_problems, begins_with_sft, set_name
from qrft.pipeline.stages import sweep
from qrft.report.sweep.picture_files import can_draw_png


def plan(recipe: Recipe, folders: Path | Mapping[str, Path]) -> list[Step]:
    """Return the steps of a recipe, each after what it reads; a sweep has those of every run, then the table of all.

    folders: the folder of each base model that the recipe names, or just the folder where it names one.
    """
    variants = expand_sweep(recipe)
    steps = [step for variant in variants for step in plan_run(variant, folders)]
    return [*steps, table_of(recipe, variants, steps)] if recipe.sweep or recipe.models else steps


def plan_run(variant: Variant, folders: Path | Mapping[str, Path]) -> list[Step]:
    """Return the steps of one run, of one model or several: this is the flow."""
    recipe, plan = variant.recipe, Plan(variant.name)
    sets = add_problems(plan, recipe)
    models = {}
    for number, (name, alone) in enumerate(split_models(recipe).items()):
        folder = folder_of(alone, folders)
        models[name] = ModelPlan(plan, with_fitting_sampler(alone, folder), name, number, Source(folder), *sets)
    pool = [models[name] for name in recipe.curate.pool if name in models]
    tuned = [models[name] for name in recipe.tuned]
    learns_from_own = pool or not recipe.curate.pool  # otherwise from teachers alone

    grades = Grades(plan, recipe, sets.train)
    outside = add_outside(plan, recipe, sets.train) | add_teachers(plan, recipe, sets.train)
    for source, samples in outside.items():
        grades.add(source, samples)

    gold = None
    if begins_with_sft(recipe):
        gold = plan.add("curate", gold_settings(recipe), {"problems": sets.train}, kind="training", phase="sft")
    elif recipe.control:
        raise RecipeError(
            f"control: found {recipe.control}, but no problem of {set_name(recipe.problems.train)} has a worked "
            "solution, so there is no SFT. Allowed: null"
        )
    for model in models.values():
        model.add_base()
    if gold is not None:
        for model in models.values():
            model.add_training("sft", gold)
    for number in range(1, recipe.rounds + 1):
        phase = f"round-{number}"
        for model in models.values():
            # A model that is not tuned has nothing new to sample.
            if (model in tuned and learns_from_own) or (model in pool and number == 1):
                grades.add(*model.add_samples(phase, number))
        grades.vote()
        asked, has_pool = grades.problems, bool(recipe.curate.pool)
        together = add_choice(plan, recipe, phase, asked, grades.of(pool_of(pool, outside))) if has_pool else None
        for model in tuned:
            chosen = grades.of(pool_of(pool if has_pool else [model], outside))
            paths = together or add_choice(plan, model.recipe, phase, asked, chosen, model.name)
            model.add_training("rft" if number == recipe.rounds else phase, paths)
            if most := model.recipe.curate.pairs:
                own = {"pairs_per_problem": most, **dict(model.recipe.wording)}
                as_pairs = {"stage": "pairs", "kind": "pairs"}
                add_choice(plan, model.recipe, phase, asked, chosen, model.name, **as_pairs, **own)
    if gold is not None and recipe.control:
        for model in tuned:
            model.add_control(gold)
    evaluations = [add_evaluation(model) for model in models.values()]
    before = list(plan.steps)
    for model, evaluation in zip(models.values(), evaluations, strict=True):
        add_report(model, evaluation, before, recipe)
    return plan.steps


def folder_of(recipe: Recipe, folders: Path | Mapping[str, Path]) -> Path:
    return folders if isinstance(folders, Path) else folders[str(recipe.base_model)]


def table_of(recipe: Recipe, variants: Sequence[Variant], steps: Sequence[Step]) -> Step:
    """Return the last step of a sweep or of several models: their table, with a row for every report."""
    runs = {variant.name: variant for variant in variants}
    texts = [value for run in variants for value in run.settings.values() if isinstance(value, str)]
    called = for_people([*texts, *(str(run.recipe.base_model) for run in variants)])
    reports = [step for step in steps if step.kind == "report"]
    rows = [
        sweep.Entry(
            variant=step.variant,
            model=step.model or called[str(runs[step.variant].recipe.base_model)],
            settings={
                key: called[value] if isinstance(value, str) else value
                for key, value in runs[step.variant].settings.items()
            },
            report=f"{step.path}.html",
        )
        for step in reports
    ]
    settings = sweep.Settings(name=recipe.name, rows=tuple(rows), study=recipe.study, png=can_draw_png())
    return Step("sweep", settings, {str(number): step for number, step in enumerate(reports)}, kind="sweep")
