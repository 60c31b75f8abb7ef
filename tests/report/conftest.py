"""A made-up run that most tests of its report look at."""

from __future__ import annotations

import pytest
from helpers.runs import Made, solve


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("run"), 40, 120, 12, solve)
