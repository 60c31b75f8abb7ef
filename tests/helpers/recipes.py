"""Recipes as files in the current folder, and what is said of those that are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from qrft.config import load as loading
from qrft.config.recipe import Recipe
from qrft.errors import RecipeError

BASE = """\
name: tiny
base_model: tiny-base
problems:
  train: tiny-math/train
  test: tiny-math/test
  num_train: 3
  num_test: 2
"""


def load(text: str | bytes, *overrides: str, base: str = BASE) -> Recipe:
    data = text if isinstance(text, bytes) else (base + text).encode()
    Path("r.yaml").write_bytes(data)
    return loading.load("r.yaml", overrides)


def faults(text: str | bytes, *overrides: str, base: str = BASE) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load(text, *overrides, base=base)
    assert caught.value.exit_code == 2
    return str(caught.value).splitlines()


def fault(text: str | bytes, *overrides: str, base: str = BASE) -> str:
    lines = faults(text, *overrides, base=base)
    assert len(lines) == 1, lines
    return lines[0]
