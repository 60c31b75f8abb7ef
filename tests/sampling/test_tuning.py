"""The measurement that chooses a context's settings, with the real llama.cpp."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.models import make_adapter

from qrft.data.sealed import with_checksum, without_checksum
from qrft.models.find import BUILTIN
from qrft.models.gguf.adapter import export_adapter
from qrft.models.gguf.base import export_base
from qrft.sampling.api import Request, SamplingParams, Work
from qrft.sampling.backends.llama_cpp import trials
from qrft.sampling.backends.llama_cpp.process import LlamaProcess
from qrft.sampling.backends.llama_cpp.trials import Trial, allowance, credible, tokens_per_second
from qrft.sampling.backends.llama_cpp.tuning import tune
from qrft.sampling.requests import work_of

WORK = Work(num_prompt=16, num_new=16, num_samples=8, num_requests=1000)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tuning") / "base.gguf"
    export_base(BUILTIN["tiny-base"], path)
    return path


@pytest.fixture
def process(base: Path) -> Iterator[LlamaProcess]:
    with LlamaProcess(base, n_threads=1) as process:
        yield process


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(trials, "_MORE", (64,))  # enough to choose from
    return tmp_path / "qrft" / "sampling.json"


def the_entry(kept: Path) -> Any:
    (entry,) = json.loads(kept.read_bytes()).values()
    return without_checksum(entry)


def settings(process: LlamaProcess) -> dict[str, Any]:
    return {"n_seq_max": process.options.n_seq_max, "kv_unified": process.options.kv_unified}


def test_the_fastest_is_measured_once_and_kept(
    process: LlamaProcess, base: Path, kept: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    tune(process, WORK)
    entry = the_entry(kept)
    speeds = entry["tokens_per_second"]
    assert {"32 split", "32 unified"} < set(speeds) and min(speeds.values()) > 0
    assert settings(process) == entry["settings"]
    best = f"{process.options.n_seq_max} {'unified' if process.options.kv_unified else 'split'}"
    assert speeds[best] == max(speeds.values())
    assert len(list(process.generate([Request("a", [5, 6], 3)], SamplingParams(max_new_tokens=4), []))) == 3
    assert caplog.messages[0].startswith("Measuring how many sequences") and len(caplog.messages) == len(speeds) + 2
    assert "32 sequences at once in one cache" in caplog.text

    entry["settings"] = {"n_seq_max": 7, "kv_unified": True}  # none that a measurement would give
    (key,) = json.loads(kept.read_bytes())
    for is_sealed in (True, False):  # another way of decoding gives other samples: a damaged one is measured anew
        kept.write_text(json.dumps({key: with_checksum(entry) if is_sealed else {**entry, "checksum": "damaged"}}))
        with LlamaProcess(base, n_threads=1) as again:
            tune(again, WORK)
            assert (settings(again) == entry["settings"]) == is_sealed


def test_the_key_names_device_and_build(process: LlamaProcess, kept: Path) -> None:
    """So that another GPU, processor, release or build measures anew."""
    tune(process, WORK)
    (key,) = json.loads(kept.read_bytes())
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    assert model in key and process.info.build in key and "llama-cpp-python" in process.info.build


def test_a_small_job_is_not_measured(process: LlamaProcess, kept: Path) -> None:
    for few in (replace(WORK, num_requests=1, num_samples=4), replace(WORK, num_requests=4, num_samples=64)):
        tune(process, few)
        assert not kept.exists() and settings(process) == {"n_seq_max": None, "kv_unified": None}


def test_a_measurement_takes_a_share_of_the_jobs_time() -> None:
    job = Work(num_prompt=128, num_new=128, num_samples=100, num_requests=1000)  # 12.8 million tokens
    assert allowance(job, 1000) == 0.05 * 12_800
    assert allowance(job, 1e6) == 30


def test_a_measurement_ends_when_its_time_is_up(process: LlamaProcess) -> None:
    begun = time.monotonic()
    steps = process.pace([Request("a", [5, 6], 10_000)], SamplingParams(max_new_tokens=60), 10**9, 0.5)
    assert time.monotonic() - begun < 60, "all samples would take minutes"
    assert len(steps) > 1 and all(seconds > 0 and tokens > 0 for seconds, tokens in steps)
    assert process.pace([Request("a", [5, 6], 9)], SamplingParams(max_new_tokens=60), 3, 60) != steps


def test_greedy_work_tries_both_caches(process: LlamaProcess, kept: Path) -> None:
    tune(process, replace(WORK, num_samples=1, num_requests=8000))
    assert {"32 split", "32 unified"} < set(the_entry(kept)["tokens_per_second"])


OLDER = '{"2 0a1b2c3d of an older layout": {"settings": {"n_seq_max": 1}}}'


@pytest.mark.parametrize("content", ['{"half', "[1, 2]", OLDER])
def test_a_file_that_is_not_ours_is_measured_anew(process: LlamaProcess, kept: Path, content: str) -> None:
    kept.parent.mkdir()
    kept.write_text(content)
    tune(process, WORK)
    assert settings(process) == the_entry(kept)["settings"]


def test_like_work_is_measured_once() -> None:
    requests = [Request(str(i), [5] * length, 1) for i, length in enumerate((90, 100, 300))]
    assert work_of(requests, 100, 512) == Work(128, 256, 128, 4) == work_of([*requests, requests[0]], 70, 400)
    assert work_of([], 1, 1) == Work(1, 1, 1, 1)


def test_what_merging_the_adapter_would_gain_is_measured_and_kept(base: Path, kept: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter.gguf"
    export_adapter(make_adapter(tmp_path / "adapter", BUILTIN["tiny-base"]), BUILTIN["tiny-base"], adapter)
    with LlamaProcess(base, adapter, n_threads=1) as process:
        request, params = [Request("a", [5, 6, 7], 20)], SamplingParams(max_new_tokens=20)
        before = {done.sample_index: done.token_ids for done in process.generate(request, params, [])}
        tune(process, WORK)
        speeds = the_entry(kept)["tokens_per_second"]
        assert process.merged_speedup == speeds.pop("without the adapter") / max(speeds.values()) > 0
        after = {done.sample_index: done.token_ids for done in process.generate(request, params, [])}
        assert sum(before[i] == after[i] for i in before) >= 18  # the adapter is on again
    with LlamaProcess(base, n_threads=1) as process:
        tune(process, WORK)
        assert process.merged_speedup is None


# --------------------------------------------------------------------------------------------- what can't be


def test_speed_is_the_median_of_steps_after_the_warm_up() -> None:
    start = [(30.0, 16)] + 3 * [(1.0, 16)]  # the GPU starts, the weights are read
    assert tokens_per_second([*start, *8 * [(0.01, 16)]]) == 1600
    assert tokens_per_second([*start, *5 * [(0.01, 16)], *4 * [(5.0, 16)]]) == 1600  # another program ran meanwhile
    assert tokens_per_second([*start, *6 * [(0.01, 16)], *5 * [(-0.2, 16)], (0.0, 16), (0.1, 0)]) == 1600
    assert tokens_per_second([*start, *8 * [(-0.2, 16)]]) is None
    assert tokens_per_second(start) is tokens_per_second([]) is None


SEEN = {"16 split": 902.0, "16 unified": 1130.0, "32 split": 1400.0, "32 unified": 1310.0}


@pytest.mark.parametrize(
    "impossible", [{"64 split": 1.024e12}, {"64 split": 1.024e12, "64 unified": 2.56e11}, {"64 split": -5.0}]
)
def test_speeds_that_can_not_be_do_not_win(impossible: dict[str, float]) -> None:
    """1.024e12 tokens/s won on a busy processor once, and was kept."""
    speeds = {Trial(int(name.split()[0]), name.endswith("unified")): s for name, s in {**SEEN, **impossible}.items()}
    assert {str(trial): speed for trial, speed in credible(speeds).items()} == SEEN
    assert credible(dict(reversed(speeds.items()))) == credible(speeds)


def test_speeds_that_can_be_stay() -> None:
    """More sequences make a step up to as many times faster, a cache of the wrong kind several times slower."""
    for last in ({"64 split": 5500.0}, {"127 split": 11_000.0}, {"64 unified": 200.0}):
        speeds = {Trial(int(name.split()[0]), name.endswith("unified")): s for name, s in {**SEEN, **last}.items()}
        assert credible(speeds) == speeds
