"""The base model that most trainings here begin with."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.models import make_model


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama whose tokenizer has no padding token."""
    return make_model(tmp_path_factory.mktemp("models") / "small")
