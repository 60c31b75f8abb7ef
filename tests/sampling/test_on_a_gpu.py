"""Offloading: llama.cpp on a device that it takes for a GPU, lent by a process of the processor's (helpers.gpus)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.gpus import LentGpu, lent_gpu
from helpers.models import make_gguf_files, make_model

from qrft.errors import SamplerError
from qrft.models.gguf.base import export_base
from qrft.sampling.api import Completion, Request, SamplingParams
from qrft.sampling.backends.llama_cpp.pool import open_sampler
from qrft.sampling.backends.llama_cpp.process import LlamaProcess
from qrft.sampling.shards import Meter

MIB = 2**20
REQUESTS = [Request(f"p{i}", [0, *range(3 + i, 20 + 3 * i)], 20) for i in range(10)]
PARAMS = SamplingParams(temperature=0.8, max_new_tokens=20)
LONGER = SamplingParams(max_new_tokens=200)
LAYOUTS: dict[str, dict[str, Any]] = {
    "one cache": {"n_seq_max": 8, "kv_unified": True},
    "parts": {"n_seq_max": 7, "kv_unified": False},
}
EXACT: dict[str, Any] = {"cache_type": "f32", "flash_attention": False}
Tokens = dict[tuple[str, int], list[int]]

pytestmark = pytest.mark.lent_gpu


@pytest.fixture(scope="module")
def gpu() -> Iterator[LentGpu]:
    with lent_gpu(256 * MIB) as gpu:
        yield gpu


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_gguf_files(tmp_path_factory.mktemp("gguf"))


def sample(base: Path, adapter: Path | None, **settings: Any) -> Tokens:
    with LlamaProcess(base, adapter, n_threads=1, **settings) as process:
        return by_key(process.generate(REQUESTS, PARAMS, [1]))


def by_key(samples: Iterable[Completion]) -> Tokens:
    return {(done.problem_id, done.sample_index): done.token_ids for done in samples}


def count_same(left: Tokens, right: Tokens) -> int:
    assert left.keys() == right.keys() and len(left) == 200
    return sum(left[key] == right[key] for key in left)


@pytest.mark.parametrize("with_adapter", [False, True])
def test_samples_are_the_processors_own(gpu: LentGpu, files: tuple[Path, Path], with_adapter: bool) -> None:
    """As many as are equal between two make-ups of batches on the processor, in both caches, an adapter on or off."""
    base, adapter = files[0], files[1] if with_adapter else None
    there = {name: sample(base, adapter, **EXACT, **layout) for name, layout in LAYOUTS.items()}
    usual = count_same(*there.values())
    assert usual >= 194
    with gpu.used():
        for name, layout in LAYOUTS.items():
            assert count_same(sample(base, adapter, **EXACT, **layout), there[name]) >= usual, name
    if adapter:
        assert count_same(there["parts"], sample(base, None, **EXACT, **LAYOUTS["parts"])) < 20


def test_samples_with_what_llama_cpp_chooses_on_a_gpu(gpu: LentGpu, files: tuple[Path, Path]) -> None:
    """It turns flash attention on, which rounds to f16; the processor, told to do so too, gives the same samples."""
    for layout in LAYOUTS.values():
        there = sample(*files, **layout, flash_attention=True)
        assert count_same(there, sample(*files, **layout)) < 194  # it does make a difference
        with gpu.used():
            assert count_same(sample(*files, **layout), there) >= 194, layout


def test_a_tiny_model_is_one_process_there(gpu: LentGpu, files: tuple[Path, Path]) -> None:
    """One per core would hold a context of the GPU each."""
    with gpu.used(), open_sampler(*files, n_threads=2) as sampler:
        assert isinstance(sampler, LlamaProcess)
        assert len(list(sampler.generate(REQUESTS[:1], PARAMS, [1]))) == 20


def test_logits_are_the_processors_own(gpu: LentGpu, files: tuple[Path, Path]) -> None:
    prompts = [request.prompt_ids for request in REQUESTS]
    with LlamaProcess(*files, n_threads=1, is_exact=True) as process:
        expected = process.logits(prompts)
    with gpu.used(), LlamaProcess(*files, n_threads=1, is_exact=True) as process:
        found = process.logits(prompts)
    for left, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(left, right, atol=1e-4)


def test_a_model_larger_than_the_gpus_memory_is_not_loaded(gpu: LentGpu, tmp_path: Path) -> None:
    """Main memory would hold it."""
    with (tmp_path / "large.gguf").open("wb") as file:
        file.truncate(300 * MIB)
    with gpu.used(), pytest.raises(SamplerError, match=r"needs 0.29 GiB.* 0.25 GiB of memory are free .on the GPU"):
        LlamaProcess(tmp_path / "large.gguf")


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 4.4 MiB with a cache of 16 KiB a token."""
    root = tmp_path_factory.mktemp("wide")
    shape = {"head_dim": 256, "num_key_value_heads": 4, "num_hidden_layers": 4, "max_position_embeddings": 4096}
    export_base(make_model(root / "model", "llama-head-dim", **shape), root / "base.gguf")
    return root / "base.gguf"


def test_the_cache_is_sized_by_the_gpus_memory(wide: Path) -> None:
    settings: dict[str, Any] = {"n_threads": 1, "n_seq_max": 32, "kv_unified": True}
    with lent_gpu(80 * MIB) as small, small.used(), LlamaProcess(wide, **settings) as process:
        assert len(list(process.generate([Request("p", [0, 5, 6], 40)], LONGER, []))) == 40
        assert process.stats.num_parked > 0  # 32 would take 100 MiB
        with pytest.raises(SamplerError, match=r"of 4003 tokens is needed.*room for \d+ .0.07 GiB are free, .* 16 KiB"):
            list(process.generate([Request("p", [0, 5, 6])], SamplingParams(max_new_tokens=4000), []))


def test_greedy_samples_share_one_cache_where_parts_would_hold_few(gpu: LentGpu, files: tuple[Path, Path]) -> None:
    """A part is padded to 256 cells, though a sample takes 40: parts would hold 3 samples, beside their prompts."""
    requests = [Request(f"p{i}", [0, *range(3 + i, 13 + i)]) for i in range(60)]
    greedy = SamplingParams(temperature=0, max_new_tokens=20)

    def num_steps() -> int:
        with LlamaProcess(*files, n_threads=1, n_ctx=6 * 256) as process:
            assert len(list(process.generate(requests, greedy, []))) == 60
            return process.stats.num_steps

    assert num_steps() > 60 / 6 * 20
    with gpu.used():
        assert num_steps() < 60 / 20 * 20


def test_its_seconds_count_as_a_gpus(gpu: LentGpu, files: tuple[Path, Path]) -> None:
    for times, expected in ((nullcontext(), False), (gpu.used(), True)):
        with times, LlamaProcess(*files, n_threads=1) as process:
            assert process.is_on_gpu is expected
            meter = Meter(seconds=2.5, is_on_gpu=process.is_on_gpu)
            assert meter.facts().get("gpu_seconds") == (2.5 if expected else None)


def test_a_context_for_which_there_is_no_memory_is_halved(wide: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Sampling goes on with the same samples, and ends with one error where a single sample has no room."""
    settings: dict[str, Any] = {"n_threads": 1, "n_seq_max": 32, "kv_unified": True, **EXACT}
    requests = [Request(f"p{i}", [0, 5, 6 + i], 10) for i in range(3)]
    params = SamplingParams(max_new_tokens=60)
    with LlamaProcess(wide, **settings) as process:
        expected = by_key(process.generate(requests, params, []))
    with lent_gpu(512 * MIB) as gpu, gpu.used(), LlamaProcess(wide, **settings) as process:
        gpu.take(455 * MIB)  # a cell takes 32 KiB
        found = by_key(process.generate(requests, params, []))
        (warning,) = caplog.messages
        assert re.search(r"ran out of memory: a context of 9\d\d tokens from here on, not of 1,9\d\d", warning)
        assert found.keys() == expected.keys()
        assert sum(found[key] == expected[key] for key in found) >= 0.97 * len(found)
        assert len(list(process.generate(requests[:1], params, []))) == 10  # with what it has now
        assert len(caplog.messages) == 1
        gpu.take(505 * MIB)  # llama.cpp makes 256 cells at least
        message = r"a context of \d+ tokens. With half of it: a context of 63 tokens is needed .* room for \d+ "
        with pytest.raises(SamplerError, match="llama.cpp ran out of memory with " + message):
            list(process.generate(requests, params, []))


def test_a_plugin_that_can_not_be_loaded(files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GGML_BACKEND_PATH", "/nowhere/libggml-cuda.so")
    with pytest.raises(SamplerError, match=r"(?s)GGML_BACKEND_PATH names /nowhere/libggml-cuda.so.*Unset it"):
        LlamaProcess(files[0])
