"""recipes/models: a file per model that loads, says what it does, and fits the card that it names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from helpers.paths import RECIPES

from qrft.config.load import load

FOLDER = RECIPES / "models"
QWEN = {"qwen2.5-0.5b", "qwen2.5-1.5b", "qwen3-0.6b", "qwen3-4b"}
MODELS = QWEN | {"llama-3.2-1b", "llama-3.2-3b", "mistral-7b", "gemma-3-1b", "gemma-3-4b"}


def test_there_is_one_for_each_model() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == MODELS
    listed = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in listed for name in MODELS)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_it_loads_and_says_what_it_is(path: Path, tmp_path: Path) -> None:
    own = [f"base_model={tmp_path}"] if path.stem == "gemma-3-4b" else []  # a folder of one's own
    recipe = load(path, own)
    assert recipe.name == path.stem
    head = path.read_text(encoding="utf-8").partition("\nname:")[0]
    for word in ("# Card: ", "Time: ", "an estimate", "--set train.vram=", "# Expect: "):
        assert word in head, word
    assert re.search(r"Time: [\d.]+ h on an? \w", head), "what `qrft plan` says"
    for vram in (8, 12, 16, 24):
        assert load(path, [*own, f"train.vram={vram}"]).train.vram == vram


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("*.yaml")), ids=lambda path: str(path.relative_to(RECIPES)))
def test_every_recipe_is_yaml_with_a_comment_on_top(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith("# ")
