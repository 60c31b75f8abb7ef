"""Recipes of one model, of several and of sweeps, in the current folder, and the steps that are planned for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qrft.config import load as recipes
from qrft.config.recipe import Recipe
from qrft.models.find import BUILTIN
from qrft.pipeline import flow
from qrft.pipeline.graph import Step

ONE = """\
name: trial
base_model: tiny-base
problems: {train: tiny-math/train, test: tiny-math/test, num_train: 16, num_test: 8}
train: {num_epochs: 4, learning_rate: 3e-3, lora_r: 8, quantization: none}
sample: {num_samples: 8, max_new_tokens: 48}
evaluate: {max_new_tokens: 48}
num_threads: 1
"""
TWO = ONE.replace(
    "base_model: tiny-base",
    "models: {small: {base_model: tiny-base}, large: {base_model: tiny-base, train: {lora_r: 4}}}",
)


def load(text: str, *overrides: str, folder: Path | None = None) -> Recipe:
    path = (folder or Path()) / "r.yaml"
    path.write_text(text)
    return recipes.load(path, overrides)


def plan(recipe: Recipe) -> list[Step]:
    return flow.plan(recipe, BUILTIN)


def distinct(steps: Sequence[Step]) -> Counter[str]:
    return Counter(stage for stage, _ in {(step.stage, step.digest) for step in steps})


def named(steps: Sequence[Step]) -> dict[str, Step]:
    return {step.path: step for step in steps}


def chosen(step: Step) -> Any:
    """The settings of a step, whatever its stage."""
    return step.settings


def reads(step: Step) -> dict[str, str]:
    return {name: source.path for name, source in step.inputs.items() if isinstance(source, Step)}
