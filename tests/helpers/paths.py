"""Where the repository's own files are, and the published data that some tests read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "recipes"
TINY = RECIPES / "tiny.yaml"
DATA = Path(os.environ.get("QRFT_TEST_DATA", ROOT.parent / "shared" / "data"))


def published(name: str) -> Path:
    """Return a published file or folder, such as gsm8k/train.jsonl; skip the test where it does not exist."""
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{name} is not in {DATA}: set QRFT_TEST_DATA to the folder that holds the published sets")
    return path
