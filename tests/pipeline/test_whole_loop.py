"""The whole loop on the real parts, at its smallest size, through the command line."""

from __future__ import annotations

import json
import random
import re
import shutil
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from helpers import damage
from helpers.commands import fails, run_process, run_qrft
from helpers.paths import RECIPES, TINY, published
from helpers.torture import contents

from qrft import grading
from qrft.config.load import load
from qrft.data import schema
from qrft.models.find import BUILTIN
from qrft.models.gguf.base import export_base
from qrft.pipeline import store
from qrft.pipeline.flow import plan
from qrft.pipeline.stages import Job, sample
from qrft.sampling.spec import SampleSpec

SMALL = [
    "problems.num_train=24",
    "problems.num_test=40",
    "train.num_epochs=16",
    "train.micro_batch_size=8",
    "train.learning_rate=5e-3",
    "sample.num_samples=8",
    "control=equal_steps",
]


@pytest.fixture(scope="module", autouse=True)
def wide() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "140")
        yield


def run(recipe: Path, out: Path, *overrides: str, changes: list[str] = SMALL) -> str:
    """Run a recipe and return what it printed."""
    options = [word for override in (*changes, *overrides) for word in ("--set", override)]
    return run_qrft("run", recipe, "-o", out, *options).output


@pytest.fixture(scope="module")
def whole(wide: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """An undisturbed run: its output folder and what it printed."""
    out = tmp_path_factory.mktemp("runs")
    return out, run(TINY, out)


def test_a_run_shows_the_plan_a_line_a_stage_and_the_result(whole: tuple[Path, str]) -> None:
    out, printed = whole
    names = [step.path for step in plan(load(TINY, SMALL), BUILTIN["tiny-base"])]
    for name in names:
        assert printed.count(f"\n{name} ") >= 2 or name == names[0], (
            f"{name} has no line in the plan and none of its own"
        )
    assert f"{len(names)} steps, {len(names)} to do." in printed
    for word in (
        "accuracy",
        "95% interval",
        "Base",
        "SFT",
        "SFT, RFT's steps",
        "RFT",
        "RFT over SFT for as many steps",
        "gain",
        "clusters of alike problems",
        "paths",
        "Seconds:",
    ):
        assert word in printed
    assert f"{out / 'tiny' / 'report.html'}" in printed


def test_the_run_folder_has_everything_under_human_names(whole: tuple[Path, str]) -> None:
    folder = whole[0] / "tiny"
    recipe = load(TINY, SMALL)
    assert load(folder / "recipe.yaml") == recipe
    for step in plan(recipe, BUILTIN["tiny-base"]):
        assert (folder / step.path).is_symlink()
        assert store.verify(folder / step.path, fresh=True)["stage"] == step.stage
    assert (folder / "report.html").read_text().startswith("<!")
    assert (folder / "sft" / "train" / "adapter" / "adapter_config.json").exists()
    assert not list((whole[0] / "store" / "tmp").iterdir())


def test_the_summary_tells_the_result(whole: tuple[Path, str]) -> None:
    summary = json.loads((whole[0] / "tiny" / "summary.json").read_text())
    for model in ("base", "sft", "control", "rft"):
        row = summary[model]
        assert 0 <= row["low"] <= row["accuracy"] <= row["high"] <= 1
    assert summary["num_test"] == 40
    assert 0 < summary["p_value"] <= 1
    assert summary["num_kept"] > 0, "16 epochs on 24 problems must teach it to solve some of them"
    assert summary["parity"] < 1e-2
    assert {"sft/train", "round-1/samples", "rft/train"} <= set(summary["seconds"])


def test_the_tables_fit_their_schemas_and_what_was_trained_on_is_right(whole: tuple[Path, str]) -> None:
    folder = whole[0] / "tiny"
    problems = pq.read_table(folder / "problems/train/problems.parquet")
    samples = pq.read_table(folder / "round-1/samples/samples.parquet")
    graded = pq.read_table(folder / "round-1/graded/graded.parquet")
    training = pq.read_table(folder / "round-1/training/training.parquet")
    assert problems.schema == schema.PROBLEMS.append(schema.CLUSTER_FIELD) and samples.schema == schema.SAMPLES
    assert graded.schema == schema.GRADED and training.schema == schema.TRAINING
    assert samples["sample_index"].to_pylist() == list(range(8)) * 24
    assert graded.num_rows == samples.num_rows
    answers = dict(zip(problems["problem_id"].to_pylist(), problems["answer"].to_pylist(), strict=True))
    again = grading.grade(training["completion"], [answers[i] for i in training["problem_id"].to_pylist()])
    assert all(again["is_correct"].to_pylist()) and set(again["equations_status"].to_pylist()) == {"ok"}
    keys = list(zip(training["problem_id"].to_pylist(), again["equation_key"].to_pylist(), strict=True))
    assert len(set(keys)) == len(keys), "a path was kept twice"


def test_the_control_is_sft_for_as_many_steps_as_rft(whole: tuple[Path, str]) -> None:
    folder = whole[0] / "tiny"
    control, sft, rft = (store.manifest(folder / model / "train") for model in ("control", "sft", "rft"))
    assert control["report"]["num_steps"] == rft["report"]["num_steps"] > sft["report"]["num_steps"]
    assert control["report"]["num_examples"] == sft["report"]["num_examples"] == 24
    summary = json.loads((folder / "summary.json").read_text())
    accuracies = [summary[model]["accuracy"] for model in ("control", "rft")]
    assert summary["gain_over_control"] == pytest.approx(accuracies[1] - accuracies[0])
    assert summary["gain_over_control_low"] <= summary["gain_over_control"] <= summary["gain_over_control_high"]
    assert any(line.startswith("Over SFT for as many steps (") for line in summary["explained"])
    assert summary["cost"]["rft"]["num_tokens"] == sum(
        store.manifest(folder / step)["cost"]["num_tokens"] for step in ("sft/train", "round-1/samples", "rft/train")
    )
    page = (folder / "report.html").read_text()
    assert "gold solutions, as many steps as RFT" in page and "at equal steps" in page


def test_each_problems_gold_row_comes_first(whole: tuple[Path, str]) -> None:
    rows = [json.loads(line) for line in (whole[0] / "tiny/round-1/training/training.jsonl").read_text().splitlines()]
    seen: set[str] = set()
    for row in rows:
        assert (row["source"] == "gold") == (row["problem_id"] not in seen)
        seen.add(row["problem_id"])
    assert len(seen) == 24


def test_a_second_run_does_nothing(whole: tuple[Path, str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in (whole[0] / "store").rglob("*")}
    printed = run(TINY, whole[0])
    assert "steps are done: nothing to do." in printed
    assert before == {path: path.stat().st_mtime_ns for path in (whole[0] / "store").rglob("*")}


def test_another_k_reuses_what_is_equal(whole: tuple[Path, str]) -> None:
    recipe = load(TINY, [*SMALL, "sample.num_samples=9"])
    there = {path.name for path in (whole[0] / "store").iterdir()}
    steps = plan(recipe, BUILTIN["tiny-base"])
    missing = [step.path for step in steps if f"{step.stage}-{step.digest}" not in there]
    assert missing[0] == "round-1/samples" and "sft/train" not in missing and "rft/train" in missing


def copy(whole: tuple[Path, str], place: Path) -> Path:
    return Path(shutil.copytree(whole[0], place / "runs", symlinks=True))


def test_verify_names_what_is_damaged_and_run_makes_it_again(whole: tuple[Path, str], tmp_path: Path) -> None:
    out = copy(whole, tmp_path)
    words = [sys.executable, "-m", "qrft", "verify", str(out / "tiny")]
    done = run_process(words)
    assert re.fullmatch(r"23 artifacts undamaged, [\d.]+ MiB\n", done.stdout)
    damage.flip_bit(out / "tiny/sft/gguf/adapter.gguf", random.Random(0))
    shutil.rmtree((out / "tiny/evaluation").resolve())
    done = run_process(words, 1)
    assert "sft/gguf: " in done.stdout and "adapter.gguf: has other contents than its manifest says." in done.stdout
    assert "evaluation: " in done.stdout and "21 artifacts undamaged" in done.stdout
    assert "Error: 2 of 23 artifacts in " in done.stderr and "Run the same `qrft run` again" in done.stderr
    assert set(json.loads(run_process([*words, "--json"], 1).stdout)["damaged"]) == {"sft/gguf", "evaluation"}
    run(TINY, out)
    run_process(words)
    assert contents(out) == contents(whole[0])
    message = run_process([*words[:-1], str(out / "tiny/sft/train/adapter")], 2).stderr
    assert "adapter: holds no artifacts. Expected a run folder" in message


def test_other_commands_do_not_read_damaged_artifacts(whole: tuple[Path, str], tmp_path: Path) -> None:
    """24 of 150 flipped bits in evaluation.parquet gave other figures in silence."""
    out = copy(whole, tmp_path)
    folder = out / "tiny"
    problems = folder / "problems/train/problems.parquet"
    adapter, others = folder / "sft/train/adapter", ["--problems", "x", "-k", 1, "-o", tmp_path / "samples"]
    commands = {
        "evaluation/evaluation.parquet": ["evaluate", folder, folder],
        "round-1/samples/samples.parquet": ["evaluate", folder / "round-1/samples", "--problems", problems],
        "problems/train/problems.parquet": ["evaluate", RECIPES, "--problems", problems],
        "sft/train/adapter/adapter_config.json": ["sample", "tiny-base", "--adapter", adapter, *others],
    }
    for name, words in commands.items():
        damage.flip_bit(folder / name, random.Random(1))
        message = fails(1, *words)
        assert re.match(rf"\S+/{Path(name).name}: has other contents than its manifest says. Run the recipe", message)


def test_a_shard_that_is_there_is_not_sampled_again(
    whole: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample, "SampleSpec", partial(SampleSpec, samples_per_shard=64))
    folder = whole[0] / "tiny"
    inputs = {
        "model": BUILTIN["tiny-base"],
        "problems": folder / "problems/train",
        "base": folder / "base/gguf",
        "adapter": folder / "sft/gguf",
    }
    values = store.manifest(folder / "round-1/samples")["config"]
    settings = sample.Settings.model_validate_json(json.dumps(values))
    (tmp_path / "partial").mkdir()
    sample.run(inputs, tmp_path, settings, Job())
    first = pq.read_table(tmp_path / "samples.parquet")
    shards = sorted((tmp_path / "partial").glob("shard-*.parquet"))
    assert len(shards) == 3
    stamps = [path.stat().st_mtime_ns for path in shards]
    shards[1].unlink()
    sample.run(inputs, tmp_path, settings, Job())
    assert pq.read_table(tmp_path / "samples.parquet").equals(first)
    assert [path.stat().st_mtime_ns == stamp for path, stamp in zip(shards, stamps, strict=True)] == [True, False, True]
    draw = random.Random(0)
    for happens in (damage.cut_tail, damage.empty, *[damage.flip_bit] * 4):
        happens(shards[2], draw)
        sample.run(inputs, tmp_path, settings, Job())
        assert pq.read_table(tmp_path / "samples.parquet").equals(first)
    whole_shard = pq.read_table(shards[2])
    pq.write_table(whole_shard.rename_columns(["problem_id", "modem", *whole_shard.column_names[2:]]), shards[2])
    sample.run(inputs, tmp_path, settings, Job())
    assert pq.read_table(tmp_path / "samples.parquet").equals(first)


@pytest.mark.slow
def test_the_loop_runs_on_merged_files_and_on_a_ready_one(whole: tuple[Path, str], tmp_path: Path) -> None:
    """Beside the undisturbed run, so that what is equal is there already: SFT itself is."""
    ready = tmp_path / "ready.gguf"
    export_base(BUILTIN["tiny-base"], ready, "q8_0")
    for name, changes in {
        "merged": ["gguf.quant=q8_0", "gguf.merge=true"],
        "small": ["gguf.quant=q4_k_m"],
        "ready": [f"gguf.file={ready}"],
    }.items():
        run(TINY, whole[0], *changes, f"name={name}")
        folder = whole[0] / name
        summary = json.loads((folder / "summary.json").read_text())
        assert 0 < summary["parity_kl"] < 0.05 and summary["parity_top1"] > 0.9
        assert (folder / "sft/gguf/base.gguf").exists() == (name == "merged")
        assert (folder / "sft/gguf/adapter.gguf").exists() == (name != "merged")
        assert (folder / "base/gguf/base.gguf").exists() == (name != "ready")
        undisturbed = json.loads((whole[0] / "tiny/summary.json").read_text())
        assert abs(summary["sft"]["accuracy"] - undisturbed["sft"]["accuracy"]) < 0.3


def test_gsm8k_as_published_goes_through(tmp_path: Path) -> None:
    data = published("gsm8k")
    sets = [f"problems.train={data / 'train.jsonl'}", f"problems.test={data / 'test.jsonl'}"]
    smaller = ["problems.num_train=16", "problems.num_test=16", "train.num_epochs=1", "sample.max_new_tokens=32"]
    printed = run(RECIPES / "gsm8k-smoke.yaml", tmp_path, *sets, *smaller, "evaluate.max_new_tokens=32", changes=[])
    summary = json.loads((tmp_path / "gsm8k-smoke" / "summary.json").read_text())
    assert summary["num_test"] == 16
    assert summary["explained"] and all(line[:40] in printed for line in summary["explained"])
