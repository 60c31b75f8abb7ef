"""gguf.parity: when a run compares llama.cpp with transformers, and what it says when it did not."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.paths import TINY

from qrft.config.load import load
from qrft.errors import ModelError
from qrft.models.find import BUILTIN
from qrft.models.gguf.base import export_base
from qrft.pipeline.execute import execute
from qrft.pipeline.flow import plan
from qrft.pipeline.graph import Step
from qrft.pipeline.store import Store, manifest

BASE = ("problems/test", "base/gguf", "base/test-samples")
SMALL = ("problems.num_test=4", "evaluate.max_new_tokens=2", "num_threads=1")


class Notes:
    """A watcher that keeps the last note of each step."""

    def __init__(self) -> None:
        self.last: dict[str, str] = {}

    def plan(self, rows: list[tuple[Step, bool]]) -> None:
        pass

    @contextlib.contextmanager
    def bar(self, name: str) -> Iterator[Callable[[int, int, str], None]]:
        yield lambda done, total, note: self.last.update({name: note})


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def run(out: Path, *changes: str, only: tuple[str, ...] = BASE) -> tuple[dict[str, str], Path]:
    """Run what the base model's answers take. Return the last notes, and the export."""
    recipe, notes = load(TINY, [*SMALL, *changes]), Notes()
    steps = [step for step in plan(recipe, BUILTIN["tiny-base"]) if step.path in only]
    artifacts = execute(steps, Store(out / "store"), out / recipe.name, recipe, notes)
    return notes.last, artifacts["base/gguf"]


def test_off_is_said_and_made_good_before_more_is_sampled(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        notes, made = run(tmp_path, "gguf.parity=off")
    assert notes["base/gguf"] == "not compared" and manifest(made)["report"] == {"parity": "off"}
    assert "llama.cpp was not compared with transformers (gguf.parity off)" in caplog.text

    assert "base/gguf" not in run(tmp_path, "gguf.parity=once")[0], "nothing is left to sample"
    notes, again = run(tmp_path, "gguf.parity=once", "evaluate.max_new_tokens=3")
    assert again == made and notes["base/gguf"].startswith("logits within ")
    (kept,) = (tmp_path / "cache" / "qrft" / "gguf").glob("*.json")
    stamp = kept.stat().st_mtime_ns
    notes, _ = run(tmp_path, "gguf.parity=once", "evaluate.max_new_tokens=4")
    assert notes["base/gguf"].startswith("logits within ") and kept.stat().st_mtime_ns == stamp, "once is enough"


def test_once_is_once_and_always_is_before_every_sampling(tmp_path: Path) -> None:
    notes, made = run(tmp_path)
    assert notes["base/gguf"].startswith("logits within ") and manifest(made)["report"]["sampling_kl"] < 0.05
    assert "base/gguf" not in run(tmp_path, "evaluate.max_new_tokens=3")[0]
    notes, again = run(tmp_path, "gguf.parity=always", "evaluate.max_new_tokens=4")
    assert again == made and notes["base/gguf"].startswith("logits within ")
    assert "base/gguf" not in run(tmp_path, "gguf.parity=always", "evaluate.max_new_tokens=4")[0]


def test_a_wrong_file_is_found_when_the_comparison_is_turned_on(tmp_path: Path) -> None:
    wrong = f"gguf.file={make_wrong(tmp_path)}"
    run(tmp_path, wrong, "gguf.parity=off")
    for parity in ("once", "always"):
        with pytest.raises(ModelError, match=r"wrong.gguf.*disagree"):
            run(tmp_path, wrong, f"gguf.parity={parity}", "evaluate.max_new_tokens=3")


def make_wrong(folder: Path) -> Path:
    """Make the file of the tiny base with another rotary base."""
    copy = shutil.copytree(BUILTIN["tiny-base"], folder / "copy")
    config: dict[str, Any] = json.loads((copy / "config.json").read_text())
    config["rope_parameters"]["rope_theta"] *= 3
    (copy / "config.json").write_text(json.dumps(config))
    export_base(copy, folder / "wrong.gguf")
    return folder / "wrong.gguf"
