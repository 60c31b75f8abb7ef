"""A finished run without any training: its folder and store, with random adapters of a given base."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from helpers.models import make_adapter
from helpers.paths import TINY

from qrft.config.load import load
from qrft.config.recipe import Recipe
from qrft.config.training import Training
from qrft.data import disk
from qrft.data.problems.registry import draw
from qrft.models.find import find_model, fingerprint
from qrft.pipeline.execute import write_recipes
from qrft.pipeline.store import Store

FACTS = {"num_examples": 221, "num_steps": 168, "num_tokens": 176_520, "final_loss": 0.25}
SMALL = ("evaluate.max_new_tokens=24",)


def make_run(
    root: Path, base: str | Path, *changes: str, phases: Sequence[str] = ("sft", "rft"), num_problems: int = 6
) -> Path:
    """Write root/made and root/store as `qrft run` leaves them, as far as is needed to ask its models. `changes`: of
    the recipe, by --set."""
    recipe = load(TINY, ["name=made", f"base_model={base}", *SMALL, *changes])
    store, run, folder = Store(root / "store"), root / "made", find_model(str(base))
    run.mkdir(parents=True)
    write_recipes(recipe, run)
    for split in ("train", "test"):
        work = store.begin("problems", _digest(split))
        pq.write_table(draw(f"tiny-math/{split}", 0, num_problems), work / "problems.parquet")
        disk.link(_commit(store, work, {}, {}), run / "problems" / split)
    for phase in phases:
        work = store.begin("train", _digest(phase))
        make_adapter(work / "adapter", folder, base_model_name_or_path="base")
        config = _training(recipe).identity()
        disk.link(_commit(store, work, config, {"model": f"base {fingerprint(folder)}"}), run / phase / "train")
    return run


def _training(recipe: Recipe) -> Training:
    return Training(**dict(recipe.train_config("rft")), **dict(recipe.wording))


def _digest(name: str) -> str:
    return name.encode().hex().ljust(20, "0")[:20]


def _commit(store: Store, work: Path, config: dict[str, Any], inputs: dict[str, str]) -> Path:
    known = {"seconds": 1.0, "peak_memory_bytes": 1, "report": FACTS}
    return store.commit(work, {"config": config, "inputs": inputs, **known})
