"""`qrft ls`, `show` and `gc`: runs in order, what each did, and what no run stands on; nothing else is ever removed."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from helpers.commands import command_line, facts_of, fails, fails_at_once, run_qrft, start_process

from qrft.data import disk
from qrft.pipeline.store import Store

FACTS = {"config": {}, "seconds": 2.5, "peak_memory_bytes": 1, "report": {}}
ACCURACY = {"base": 0.1, "sft": 0.5, "rft": 0.6}
SUMMARY = {
    **{name: dict.fromkeys(("accuracy", "low", "high"), share) for name, share in ACCURACY.items()},
    **{"gain": 0.1, "gain_low": 0.05, "gain_high": 0.15, "p_value": 0.01, "gain_over": "sft", "num_gold": 9},
    **{"num_clusters": None, "paths_per_problem": 1.5, "explained": ["RFT gains."], "seconds": {"sft/train": 2.5}},
}  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    return tmp_path


def artifact(stage: str, number: int, inputs: dict[str, str] | None = None, **files: str) -> Path:
    store = Store(Path("runs/store"))
    work = store.begin(stage, f"{number:020x}")
    for name, text in (files or {"data": stage * 100}).items():
        (work / name).write_text(text)
    return store.commit(work, {**FACTS, "inputs": inputs or {}})


def run(name: str, steps: dict[str, Path], summary: Any = SUMMARY) -> Path:
    """A run as `execute` leaves it: the recipe first, then a link to each step."""
    place = Path("runs") / name
    place.mkdir(parents=True)
    (place / "recipe.yaml").write_text("base_model: tiny-base\nproblems: {train: gsm8k/train, test: {path: t.csv}}\n")
    for step, made in steps.items():
        disk.link(made, place / step)
    if summary:
        report = artifact("report", hash(name) % 10**6 + 100, **{"summary.json": json.dumps(summary)})
        disk.link(report, place / "report")
        disk.link(report / "summary.json", place / "summary.json")
    return place


def two_runs() -> dict[str, Path]:
    """A run that is done, and one that was stopped, which share their problems."""
    problems, train = artifact("problems", 1), artifact("train", 2, {"problems": f"problems-{1:020x}"})
    run("done", {"problems/train": problems, "sft/train": train})
    samples = artifact("sample", 3)
    run("stopped", {"problems/train": problems, "round-1/samples": samples}, None)
    return {"problems": problems, "train": train, "samples": samples}


def tree() -> list[str]:
    return sorted(str(path) for path in Path("runs").rglob("*"))


def test_runs_are_listed_with_their_figures() -> None:
    two_runs()
    stopped, done = sorted(facts_of("ls")["runs"], key=lambda row: str(row["state"]), reverse=True)
    assert (done["name"], done["state"], stopped["state"]) == ("done", "done", "not finished")
    assert done["accuracy"] == {"base": 0.1, "sft": 0.5, "rft": 0.6} and done["gain"] == 0.1
    assert done["base_models"] == ["tiny-base"] and done["problems"] == {"train": "gsm8k/train", "test": "t.csv"}
    assert done["seconds"] == 7.5
    assert stopped["num_bytes"] == len("problems" * 100) + len("sample" * 100)
    assert stopped["num_bytes_alone"] == len("sample" * 100), "what both stand on counts for none"
    shown = run_qrft("ls").output
    assert "done" in shown and "+10.0" in shown and max(map(len, shown.splitlines())) <= 80


def test_a_run_that_is_begun_again_is_not_done() -> None:
    two_runs()
    os.utime("runs/done/recipe.yaml", ns=(time.time_ns(), time.time_ns() + 10**9))
    assert {row["state"] for row in facts_of("ls")["runs"]} == {"not finished"}


def test_a_run_is_shown_by_its_folder_or_its_name() -> None:
    two_runs()
    facts = facts_of("show", "runs/done")
    assert facts_of("show", "done") == {**facts}
    assert facts["results"]["gain"] == 0.1 and {row["step"] for row in facts["steps"]} >= {
        "sft/train",
        "problems/train",
    }
    shown = run_qrft("show", "done").output
    assert "tiny-base; trained on gsm8k/train, measured on t.csv" in shown and "- RFT gains." in shown
    stopped = run_qrft("show", "stopped").output
    assert "It goes on from here with: qrft run runs/stopped/recipe.yaml -o runs" in stopped


def test_figures_of_another_version_are_left_to_the_report() -> None:
    run("old", {}, {"rft": {"accuracy": 0.5}, "gain": 0.1})
    assert (
        "Its figures were written by another version of qrft: see runs/old/report.html."
        in run_qrft("show", "old").output
    )
    assert "50.0%" in run_qrft("ls").output


def test_a_sweep_is_shown_by_its_rows() -> None:
    row = {"variant": "seed=1", "model": "tiny-base", "rft.accuracy": 0.5}
    table = artifact("sweep", 7, **{"sweep.jsonl": json.dumps(row) + "\n"})
    run("swept", {"sweep": table}, None)
    facts = facts_of("show", "swept")
    assert facts["state"] == "done" and facts["results"] == {"rows": [row]}
    assert "seed=1" in run_qrft("show", "swept").output


def test_a_damaged_or_lost_step_is_told() -> None:
    made = two_runs()
    (made["train"] / "manifest.json").write_text("{}")
    assert facts_of("show", "done")["lost"] == ["sft/train"]
    assert "Gone or damaged: sft/train." in run_qrft("show", "done").output
    (Path("runs/done/summary.json").resolve()).write_text("{}")
    assert "has 2 bytes, but its manifest says" in fails(1, "show", "done")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["show", "nothing"], "nothing: no such run; looked at "),
        (["show", "runs/nothing"], "runs/nothing: no such run; looked at "),
        (["show", "runs/done/recipe.yaml"], "runs/done/recipe.yaml: is a file; a run is a folder. "),
        (["show", "runs/done/sft/train"], "runs/done/sft/train: is a step of a run. "),
        (["show", "runs/store"], "runs/store: is the store of several runs. "),
        (["show", "runs"], "runs: is no run: it has no recipe.yaml. Name a run's folder, such as runs/tiny; `qrft ls`"),
        (["ls", "-o", "nowhere"], "nowhere: no such folder. Name the folder that holds the runs"),
        (["gc", "-o", "nowhere"], "nowhere: no such folder. Name the folder that holds the runs"),
    ],
)
def test_what_is_no_run(words: list[str], message: str) -> None:
    two_runs()
    found = fails_at_once(2, *words)
    assert found.startswith(message)
    assert "show" not in words or found.endswith("There are done, stopped.")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read any folder")
def test_a_folder_that_may_not_be_read() -> None:
    two_runs()
    os.chmod("runs", 0)
    try:
        assert "can't be read (Permission denied)" in fails(1, "ls")
    finally:
        os.chmod("runs", 0o755)


def test_an_empty_folder() -> None:
    assert run_qrft("ls").output == "No runs in runs. Start one: qrft run RECIPE -o runs\n"
    assert facts_of("gc")["things"] == []


# ----------------------------------------------------------------------------------------------------------------- gc


def test_nothing_is_removed_that_a_run_stands_on() -> None:
    two_runs()
    artifact("train", 9)  # stands on nothing, and nothing on it
    before = tree()
    assert run_qrft("gc").output.count("no run stands on it") == 1, "it only tells"
    assert tree() == before
    facts = facts_of("gc", "--yes")
    assert facts["removed"] and [Path(thing["path"]).name for thing in facts["things"]] == [f"train-{9:020x}"]
    assert facts["num_bytes"] > len("train" * 100)
    gone = {path for path in before if f"train-{9:020x}" in path}
    assert tree() == [path for path in before if path not in gone]
    assert facts_of("gc")["things"] == []


def test_what_a_kept_step_was_made_from_is_kept() -> None:
    """Though no link leads to it."""
    problems = artifact("problems", 1)
    run("done", {"sft/train": artifact("train", 2, {"problems": problems.name})})
    assert facts_of("gc", "--yes")["things"] == []


def test_a_deleted_run_frees_what_it_alone_stood_on() -> None:
    made = two_runs()
    disk.remove(Path("runs/stopped"))
    assert [thing["path"] for thing in facts_of("gc", "--yes")["things"]] == [str(made["samples"])]
    assert made["problems"].is_dir() and not made["samples"].exists()


@pytest.mark.parametrize(("answer", "is_there"), [("n\n", True), ("y\n", False)])
def test_it_asks_first(answer: str, is_there: bool) -> None:
    made = artifact("train", 9)
    parent, child = os.openpty()
    with os.fdopen(child) as terminal:
        process = start_process(command_line("gc"), stdin=terminal, stdout=subprocess.PIPE)
        os.write(parent, answer.encode())
        shown, _ = process.communicate(timeout=60)
    os.close(parent)
    assert "1 folder, " in shown and "Remove all of it? [y/N]: " in shown
    assert made.exists() is is_there


def test_what_qrft_did_not_make_stays(folder: Path) -> None:
    run("done", {})
    ours, strange, other = artifact("train", 9), artifact("train", 10), artifact("train", 11)
    (strange / "notes.txt").write_text("mine")
    (other / "manifest.json").write_text("{}")
    mine = folder / "mine"
    mine.mkdir()
    (mine / "file").write_text("mine")
    Path(f"runs/store/train-{12:020x}").symlink_to(mine)
    (ours / "link").symlink_to(mine)
    Path("runs/store/notes").mkdir()
    Path("runs/store/damaged").mkdir()
    before = [path for path in tree() if "train-" in path]
    facts = facts_of("gc", "--yes")
    assert facts["things"] == [] and [path for path in tree() if "train-" in path] == before
    assert sorted(facts["left"].values()) == [
        "has no readable manifest",
        "holds link, which qrft did not write",
        "holds notes.txt, which qrft did not write",
        "is a link",
    ]
    assert (mine / "file").read_text() == "mine"
    assert run_qrft("gc").output.count("Left: ") == 4


def test_the_work_of_a_stopped_step_goes_when_every_run_is_done() -> None:
    two_runs()
    store = Store(Path("runs/store"))
    work = store.begin("train", f"{20:020x}")
    (work / "partial" / "checkpoint").write_text("x" * 50)
    assert list(facts_of("gc")["left"].values()) == ["is being made"]
    del store  # as when the process ends
    assert list(facts_of("gc", "--yes")["left"].values()) == ["a run that is not finished may go on from it"]
    disk.remove(Path("runs/stopped"))
    facts = facts_of("gc", "--yes")
    assert str(work) in [thing["path"] for thing in facts["things"]] and not work.exists()
    assert not work.with_name(f"{work.name}.lock").exists()


def test_half_made_outputs_bear_a_marker() -> None:
    disk.own_folder(Path("runs/base.partial"), "qrft pretrain")
    Path("runs/base.partial/weights").write_text("x")
    Path("runs/other").mkdir()
    Path("runs/other/.qrft-work").write_text("something else\n")
    assert sorted(facts_of("gc", "--yes")["left"].values()) == [
        "bears the marker of another program",
        "was changed within the last hour, so it may still be made",
    ]
    for path in ("runs/base.partial", *map(str, Path("runs/base.partial").iterdir())):
        os.utime(path, (0, 0))
    assert [thing["reason"] for thing in facts_of("gc", "--yes")["things"]] == ["left by `qrft pretrain`"]
    assert not Path("runs/base.partial").exists() and Path("runs/other").is_dir()


def test_nothing_is_collected_while_a_run_is_at_work() -> None:
    place = two_runs() and Path("runs/done")
    with disk.lock(place):
        assert {row["state"] for row in facts_of("ls")["runs"]} == {"running", "not finished"}
        assert fails(1, "gc", "--yes").startswith("runs/done: is being run. Wait until it is done")
