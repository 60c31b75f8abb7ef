"""A run without SFT: the base model is sampled as it is, and learns from its own right answers."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from helpers.commands import fails, run_qrft
from helpers.jsonl import read_jsonl, write_jsonl
from helpers.paths import TINY

from qrft.config.load import load
from qrft.data.problems import registry
from qrft.models.find import BUILTIN
from qrft.pipeline.flow import plan

SMALL = ["train.num_epochs=10", "sample.num_samples=8", "problems.num_train=24", "problems.num_test=30"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with problems that have bare answers, and a model that was taught some of them."""
    folder = tmp_path_factory.mktemp("bare")
    problems: pa.Table = registry.draw("tiny-math/train", 0, 24)
    rows = problems.to_pylist()
    write_jsonl(folder / "bare.jsonl", [{"question": row["question"], "answer": row["answer"]} for row in rows])
    gold = [{"question": row["question"], "completion": row["solution"]} for row in rows]
    write_jsonl(folder / "gold.jsonl", gold)
    sets = ["adapter=none", "quantization=none", "num_epochs=30", "learning_rate=3e-3", "optimizer=adamw"]
    options = [word for value in sets for word in ("--set", value)]
    run_qrft("train", "tiny-base", "--data", folder / "gold.jsonl", "-o", folder / "taught", *options)
    return folder


def options(folder: Path, *sets: str) -> list[str]:
    chosen = [f"base_model={folder / 'taught'}", f"problems.train={folder / 'bare.jsonl'}", *SMALL, *sets]
    return [word for value in chosen for word in ("--set", value)]


def test_questions_with_bare_answers_are_enough(folder: Path) -> None:
    printed = run_qrft("run", TINY, "-o", folder / "runs", *options(folder)).stdout
    assert "There is no SFT: no problem of problems.train has a worked solution" in " ".join(printed.split())
    run = folder / "runs" / "tiny"
    assert not (run / "sft").exists()
    summary = json.loads((run / "summary.json").read_text())
    assert "sft" not in summary and summary["gain_over"] == "base" and summary["num_gold"] == 0
    assert summary["gain"] == pytest.approx(summary["rft"]["accuracy"] - summary["base"]["accuracy"])
    rows = read_jsonl(run / "round-1" / "training" / "training.jsonl")
    assert len(rows) == summary["num_kept"] == summary["num_rows"] > 5
    assert {row["source"] for row in rows} == {"base"}
    assert "RFT over the base model" in printed and f"RFT trained on {len(rows)} distinct correct paths" in printed
    page = (run / "report.html").read_text()
    assert "RFT over the base model" in page and ">SFT" not in page and "that the base model got wrong" in page


def test_a_plan_says_so_and_takes_answers_of_half_the_limit(folder: Path) -> None:
    words = " ".join(run_qrft("plan", TINY, "-o", folder / "none", *options(folder)).stdout.split())
    assert "There is no SFT" in words and "sft/" not in words
    steps = json.loads(run_qrft("plan", TINY, "-o", folder / "none", "--json", *options(folder)).stdout)["steps"]
    samples = next(step for step in steps if step["step"] == "round-1/samples")
    assert samples["tokens"] == 24 * 8 * load(TINY).sample.max_new_tokens // 2


def test_start_decides_where_there_are_worked_solutions() -> None:
    def phases(*sets: str) -> set[str]:
        return {step.phase for step in plan(load(TINY, [*sets]), BUILTIN["tiny-base"])}

    assert "sft" in phases() and "sft" in phases("start=sft") and "sft" not in phases("start=base")
    steps = plan(load(TINY, ["start=base", "rounds=2"]), BUILTIN["tiny-base"])
    sampled = [step.settings.model for step in steps if step.kind == "samples" and step.phase.startswith("round")]  # type: ignore[attr-defined]
    assert sampled == ["base", "rft-1"]


def test_a_run_that_would_train_nothing_is_refused(folder: Path) -> None:
    assert "start: base" in fails(1, "run", TINY, "-o", folder / "none", *options(folder, "start=sft"), has_begun=True)
    assert "start: base" in fails(1, "run", TINY, "-o", folder / "no", *options(folder, "rounds=0"), has_begun=True)
    assert "nothing would be trained" in fails(2, "plan", TINY, "--set", "start=base", "--set", "rounds=0")
