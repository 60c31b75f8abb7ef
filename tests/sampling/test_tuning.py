"""The measurement that chooses a context's settings, with the real llama.cpp."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.models import make_adapter

from qrft.errors import SamplerError
from qrft.models.find import BUILTIN
from qrft.models.gguf.adapter import export_adapter
from qrft.models.gguf.base import export_base
from qrft.sampling.api import Request, SamplingParams, Work
from qrft.sampling.backends.llama_cpp.process import LlamaProcess
from qrft.sampling.backends.llama_cpp.tuning import merged_speedup, tuned
from qrft.sampling.requests import work_of

WORK = Work(num_prompt=16, num_new=16, num_samples=8)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tuning") / "base.gguf"
    export_base(BUILTIN["tiny-base"], path)
    return path


def test_the_fastest_is_measured_once_and_kept(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    settings = tuned(base, None, WORK, n_threads=1)
    kept = tmp_path / "qrft" / "sampling.json"
    (entry,) = json.loads(kept.read_bytes()).values()
    speeds = entry["tokens_per_second"]
    best = f"{settings['n_seq_max']} {'unified' if settings['kv_unified'] else 'split'}"
    assert speeds[best] == max(speeds.values()) > 0
    assert {"16 split", "16 unified", "32 split", "32 unified"} <= set(speeds)
    with LlamaProcess(base, n_threads=1, **settings) as process:
        assert len(list(process.generate([Request("a", [5, 6], 3)], SamplingParams(max_new_tokens=4), []))) == 3

    entry["settings"] = {"n_seq_max": 7, "kv_unified": True}  # none that a measurement would give
    kept.write_text(json.dumps({next(iter(json.loads(kept.read_bytes()))): entry}))
    assert tuned(base, None, WORK, n_threads=1) == entry["settings"]


def test_a_file_that_is_broken_is_measured_anew(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kept = tmp_path / "qrft" / "sampling.json"
    kept.parent.mkdir()
    kept.write_text('{"half')
    assert tuned(base, None, replace(WORK, num_samples=1), n_threads=1)["kv_unified"] is False
    assert len(json.loads(kept.read_bytes())) == 1


def test_a_model_that_can_not_be_sampled_is_the_samplers_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF but no more")
    with pytest.raises(SamplerError, match=r"broken\.gguf"):
        tuned(path, None, WORK, n_threads=1)
    assert not (tmp_path / "qrft" / "sampling.json").exists()


def test_like_work_is_measured_once() -> None:
    requests = [Request(str(i), [5] * length, 1) for i, length in enumerate((90, 100, 300))]
    assert work_of(requests, 100, 512) == Work(128, 256, 128) == work_of(requests[:2], 70, 400)
    assert work_of([], 1, 1) == Work(1, 1, 1)


def test_what_merging_the_adapter_would_gain_is_measured_and_kept(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    export_adapter(
        make_adapter(tmp_path / "adapter", BUILTIN["tiny-base"]), BUILTIN["tiny-base"], tmp_path / "adapter.gguf"
    )
    arguments = (base, tmp_path / "adapter.gguf", WORK, 1)
    gain = merged_speedup(*arguments)
    (entry,) = json.loads((tmp_path / "qrft" / "sampling.json").read_bytes()).values()
    speeds = entry["tokens_per_second"]
    assert gain == speeds.pop("without the adapter") / max(speeds.values()) > 0
    assert tuned(*arguments) == entry["settings"]
