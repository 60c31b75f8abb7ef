"""Sweeps, pools and rounds that are run whole, killed and resumed, and held against separate runs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from helpers.variants import ONE, TWO, load, plan

from qrft.config.recipe import Recipe
from qrft.config.variants import expand_sweep
from qrft.pipeline import execute as pipeline
from qrft.pipeline import store
from qrft.pipeline.graph import Step
from qrft.pipeline.stages import sweep
from qrft.pipeline.store import Store


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class Quiet:
    """A watcher that counts what was done."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def plan(self, rows: list[tuple[Step, bool]]) -> None:
        pass

    @contextlib.contextmanager
    def bar(self, name: str) -> Iterator[Callable[[int, int, str], None]]:
        self.done.append(name)
        yield lambda *_: None


def execute(recipe: Recipe, out: Path) -> tuple[dict[str, Path], list[str]]:
    """The artifacts by step, and the names of what was done for them."""
    watcher = Quiet()
    return pipeline.execute(plan(recipe), Store(out / "store"), out / recipe.name, recipe, watcher), watcher.done


@pytest.mark.slow
def test_pools_and_rounds_run(tmp_path: Path) -> None:
    settings = "curate: {pool: [small, large], dedup: false}\nrft: {models: [small]}\nrounds: 2\nrounds_from: last\n"
    recipe = load(TWO + settings, "train.num_epochs=40", "train.lora_r=32")
    artifacts, _ = execute(recipe, tmp_path)
    summary = json.loads((tmp_path / "trial/small/summary.json").read_text())
    assert summary["samples_per_problem"] == 3 * 8 and summary["num_samples"] == 3 * 8 * 16
    assert summary["num_kept"] > 0, "40 epochs on 16 problems must teach it to solve some of them"
    assert (tmp_path / "trial/small/report.html").exists()
    assert "rft" not in json.loads((tmp_path / "trial/large/summary.json").read_text())
    rows = pq.read_table(artifacts["round-2/training"] / "training.parquet").to_pylist()
    sources = {row["source"] for row in rows}
    assert {"gold", "small/rft-1"} < sources <= {"gold", "small/sft", "large/sft", "small/rft-1"}


SWEEP = "sweep: {train_fraction: [1, 1/2], num_samples: [2, 4, 8], seed: [0, 1]}\n"
# As little as teaches it to solve some of the problems.
LITTLE = ["problems.num_train=8", "train.num_epochs=16", "train.learning_rate=8e-3", "train.lora_r=32"]
LITTLE += ["train.micro_batch_size=4"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """The folder of an undisturbed sweep, and the rows of its table."""
    out = tmp_path_factory.mktemp("sweep")
    recipe = load(ONE + SWEEP, *LITTLE, folder=out)
    _, done = execute(recipe, out)
    assert len(done) == len({step.digest for step in plan(recipe)}) == len(list((out / "store").glob("*-*")))
    assert execute(recipe, out)[1] == [], "nothing is left to do"
    return out, rows_of(out / "trial")


def rows_of(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "sweep.jsonl").read_text().splitlines()]


def results(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """All but the time and the energy that it took."""
    took = ("seconds", "joules")
    return [{key: value for key, value in row.items() if not key.endswith(took)} for row in rows]


@pytest.mark.slow
def test_a_sweep_killed_and_resumed_gives_the_same_table(
    whole: tuple[Path, list[dict[str, Any]]], tmp_path: Path
) -> None:
    words = [sys.executable, "-m", "qrft", "run", str(whole[0] / "r.yaml"), "-o", str(tmp_path)]
    words += [word for change in LITTLE for word in ("--set", change)]
    for number in (3, 30, 60):
        kill_when(lambda number=number: len(list((tmp_path / "store").glob("*-*"))) >= number, words)  # type: ignore[misc]
    subprocess.run(words, check=True, capture_output=True)
    assert results(rows_of(tmp_path / "trial")) == results(whole[1])
    assert {path.name for path in tmp_path.glob("store/*-*")} == {path.name for path in whole[0].glob("store/*-*")}
    folder = tmp_path / "trial" / whole[1][5]["variant"]
    assert store.verify(folder / "rft/train", fresh=True)["stage"] == "train"
    assert (folder / "report.html").exists() and (folder / "recipe.yaml").exists()


@pytest.mark.slow
def test_the_table_of_12_runs_is_that_of_12_separate_runs(
    whole: tuple[Path, list[dict[str, Any]]], tmp_path: Path
) -> None:
    rows = whole[1]
    assert len(rows) == 12 and any(row["num_kept"] for row in rows)
    for row, variant in zip(rows, expand_sweep(load(ONE + SWEEP, *LITTLE)), strict=True):
        # Not plainly k samples: what else is in a batch can, rarely, change a sample (docs/sampling.md).
        changes = [f"problems.train_fraction={variant.settings['train_fraction']}", f"seed={variant.settings['seed']}"]
        changes += ["sample.num_samples=8", f"curate.first_samples={variant.settings['num_samples']}"]
        artifacts, done = execute(load(ONE, *LITTLE, *changes), tmp_path / variant.name)
        assert len(done) == len(artifacts)
        summary = json.loads((artifacts["report"] / "summary.json").read_text())
        settings = {f"sweep.{key}": value for key, value in variant.settings.items()}
        alone = {"variant": variant.name, "model": "tiny-base", **settings, **sweep.columns(summary)}
        assert results([alone]) == results([row])


@pytest.mark.slow
def test_a_run_of_fewer_samples_costs_what_its_own_sampling_would(tmp_path: Path) -> None:
    execute(load(ONE + "sweep: {num_samples: [2, 8]}\n", *LITTLE), tmp_path)
    of_sweep = {row["sweep.num_samples"]: row for row in rows_of(tmp_path / "trial")}
    artifacts, _ = execute(load(ONE, *LITTLE, "sample.num_samples=2", "name=alone"), tmp_path)
    alone = sweep.columns(json.loads((artifacts["report"] / "summary.json").read_text()))
    # Rarely a sample differs (docs/sampling.md), and with it a length.
    for unit in ("num_tokens", "flops"):
        ours = of_sweep[2][f"cost.rft.{unit}"]
        assert ours == pytest.approx(alone[f"cost.rft.{unit}"], rel=0.02)
        assert ours < 0.95 * of_sweep[8][f"cost.rft.{unit}"]


def kill_when(condition: Callable[[], object], words: list[str]) -> None:
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    while not condition():
        assert process.poll() is None, "it ended before"
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
