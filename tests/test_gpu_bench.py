"""bench/gpu.py, which will have ten minutes of a GPU: all of it runs on small shapes, and no part outruns its time."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.paths import ROOT
from helpers.processes import has_ended

BENCH = ROOT / "bench"
MISSING = ("not installed", "not built", "needs a CUDA device", "which fails here", "no GPU")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCH))
    import gpu

    return gpu


@pytest.mark.slow
def test_all_of_it_runs_without_a_gpu(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    command = [sys.executable, str(BENCH / "gpu.py"), "--rehearse", "--cache", str(tmp_path), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if not torch.cuda.is_available():
        assert done.stdout.startswith("no GPU: rehearsal on small shapes.")
    found = json.loads(out.read_text())
    failed = [row for row in found["rows"] if "failed" in row["words"] and not any(m in row["words"] for m in MISSING)]
    assert not failed and found["rehearsal"] and sum(found["seconds"].values()) < 300
    assert {row["part"] for row in found["rows"]} == set(found["seconds"])
    assert len(found["rows"]) == sum(line.startswith("| ") for line in done.stdout.splitlines()) - 2


def test_without_a_gpu_it_says_how_to_rehearse() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = subprocess.run([sys.executable, str(BENCH / "gpu.py")], capture_output=True, text=True)
    assert done.returncode == 2 and "there is no GPU here" in done.stderr and "--rehearse" in done.stderr


SLOW = """
import json, os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(json.dumps({"what": "first", "words": str(child.pid), "figures": {}}), flush=True)
time.sleep(60)
"""


def test_a_part_that_outruns_its_time_is_ended_with_what_it_started(
    gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gpu_parts.py").write_text(SLOW)
    monkeypatch.setattr(gpu, "HERE", tmp_path)
    monkeypatch.setitem(gpu.SECONDS, "loss", 2)
    start = time.monotonic()
    rows = list(gpu.run("loss", Namespace(cache=tmp_path, rehearse=True, batched_bench=None)))
    assert time.monotonic() - start < 20
    assert [row["what"] for row in rows] == ["first", "-"] and rows[1]["words"] == "ended after its 2 s"
    assert has_ended(int(rows[0]["words"]))


def test_a_part_that_fails_says_why_and_keeps_its_rows(
    gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = json.dumps({"what": "first", "words": "1 ms", "figures": {}})
    (tmp_path / "gpu_parts.py").write_text(f"print({line!r})\nraise ValueError('the driver is too old')\n")
    monkeypatch.setattr(gpu, "HERE", tmp_path)
    rows = list(gpu.run("loss", Namespace(cache=tmp_path, rehearse=False, batched_bench=None)))
    assert [row["words"] for row in rows] == ["1 ms", "the part failed: ValueError: the driver is too old"]


def test_every_part_has_a_time_and_all_have_ten_minutes(gpu: Any) -> None:
    import gpu_parts

    assert list(gpu.SECONDS) == list(gpu_parts.PARTS) and sum(gpu.SECONDS.values()) <= 600


def test_the_table_tells_speeds_in_terms_of_the_first_of_their_kind(gpu: Any) -> None:
    rows = [
        {"part": "training", "what": "qrft", "words": "100 tokens/s", "figures": {"tokens_per_second": 100.0}},
        {"part": "training", "what": "TRL", "words": "not installed", "figures": {}},
        {"part": "segments", "what": "qrft", "words": "80 tokens/s", "figures": {"tokens_per_second": 80.0}},
    ]
    lines = gpu.table(rows).splitlines()
    assert [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]] == [
        ["training", "qrft", "1.00", "100 tokens/s"],
        ["training", "TRL", "", "not installed"],
        ["segments", "qrft", "0.80", "80 tokens/s"],
    ]
