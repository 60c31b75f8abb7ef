"""What a step is: its place in the run folder, what of its settings counts, and that they come back from a manifest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.paths import ROOT, TINY

from qrft.config.load import load
from qrft.config.section import Section
from qrft.config.training import RUNTIME_KEYS, Training
from qrft.models.find import BUILTIN
from qrft.pipeline.flow import plan
from qrft.pipeline.graph import STAGES, Plan, Source, Step

MANY = [
    "rounds=2",
    "evaluate.few_shot=[0,2]",
    "evaluate.maj_at=[3]",
    "sample.until={correct: 2}",
    "curate.first_samples=4",
]


class Models(dict[str, Path]):
    """tiny-base for whatever a recipe names."""

    def __missing__(self, name: str) -> Path:
        return BUILTIN["tiny-base"]


def step(**what_for: str) -> Step:
    return Step("curate", Section(), {}, **{"kind": "training", **what_for})


@pytest.mark.parametrize(
    ("what_for", "path"),
    [
        ({}, "training"),
        ({"phase": "round-1"}, "round-1/training"),
        ({"phase": "sft", "kind": "samples", "part": "test-8-shot"}, "sft/test-8-shot-samples"),
        ({"kind": "problems", "part": "train"}, "problems/train"),
        ({"kind": "problems", "part": "svamp-test", "model": "small"}, "small/problems/svamp-test"),
        ({"kind": "report", "model": "small", "variant": "seed=1"}, "seed=1/small/report"),
    ],
)
def test_a_path_follows_from_what_a_step_is_for(what_for: dict[str, str], path: str) -> None:
    assert step(**what_for).path == path


def test_what_a_step_is_for_does_not_enter_its_digest() -> None:
    digests = {step(phase=phase, variant=variant).digest for phase in ("sft", "rft") for variant in ("", "seed=1")}
    assert len(digests) == 1


def test_a_plan_adds_steps_of_its_run(tmp_path: Path) -> None:
    run = Plan("seed=1")
    first = run.add("problems", Section(), {"file": Source(tmp_path)}, kind="problems", part="train")
    second = run.add("curate", Section(), {"problems": first}, kind="training", phase="sft", model="small")
    assert run.steps == [first, second] and second.path == "seed=1/small/sft/training"


def test_how_a_training_goes_does_not_enter_its_digest() -> None:
    def trained(**changes: object) -> Step:
        return Step("train", Training.model_validate(changes), {}, kind="train")

    plain = trained()
    assert trained(checkpoint_minutes=1.0, report_to=["wandb"]).digest == plain.digest
    assert not RUNTIME_KEYS & plain.identity.keys() and "micro_batch_size" in plain.identity
    assert trained(learning_rate=1e-3).digest != plain.digest != trained(seed=1).digest


@pytest.mark.parametrize("recipe", [TINY, *sorted((ROOT / "recipes" / "studies").glob("*.yaml"))], ids=lambda p: p.stem)
def test_every_step_has_a_place_of_its_own_and_typed_settings_that_a_manifest_gives_back(recipe: Path) -> None:
    steps = plan(load(recipe, MANY if recipe == TINY else []), Models())
    assert len({step.path for step in steps}) == len(steps)
    kinds = {(step.stage, step.kind) for step in steps}
    assert len(kinds) == len({stage for stage, _ in kinds}), "a stage makes one kind of thing"
    for step in {step.digest: step for step in steps}.values():
        assert isinstance(step.settings, STAGES[step.stage].Settings)
        again = STAGES[step.stage].Settings.model_validate_json(json.dumps(step.identity))
        assert again.identity() == step.identity, step.path


@pytest.mark.parametrize(("name", "banks"), [("2-num-samples", 1), ("3-gain", 5), ("4-pooling", 4), ("6-selection", 1)])
def test_the_arms_of_a_study_share_one_bank_of_samples_a_draw(name: str, banks: int) -> None:
    """A seed is a draw: problems, trainings and samples of its own; each model is sampled once, for all arms."""
    recipe = load(ROOT / "recipes" / "studies" / f"{name}.yaml")
    steps = {step.digest: step for step in plan(recipe, Models())}.values()
    num_seeds = len(recipe.sweep["seed"])
    assert sum(step.stage == "sample" and step.phase == "round-1" for step in steps) == banks * num_seeds
    drawn = [step.settings.model_dump()["seed"] for step in steps if step.stage == "problems"]
    assert sorted(drawn) == sorted([*recipe.sweep["seed"]] * 2), "train and test of each seed"


def test_problems_follow_the_seed_unless_they_have_their_own() -> None:
    def seeds(*sets: str) -> set[int]:
        steps = plan(load(TINY, [*sets]), Models())
        return {step.settings.model_dump()["seed"] for step in steps if step.stage == "problems"}

    assert seeds("seed=3") == {3} and seeds("seed=3", "problems.seed=0") == {0}
