"""The sampler: right distribution, samples that depend on nothing but themselves, and a process that dies cleanly."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.commands import python, run_process, start_process
from helpers.distribution import chi_square, exact
from helpers.models import VOCAB, make_adapter, make_gguf_files, make_model
from helpers.processes import has_ended, running

from qrft.errors import SamplerError
from qrft.models.gguf.adapter import export_adapter
from qrft.models.gguf.base import export_base
from qrft.sampling.api import Completion, Request, SamplingParams
from qrft.sampling.backends.llama_cpp.pool import LlamaPool, open_sampler
from qrft.sampling.backends.llama_cpp.process import LlamaProcess
from qrft.sampling.backends.llama_cpp.shares import unfinished
from qrft.sampling.backends.streams import sample_key, uniforms

REQUESTS = [Request(f"p{i}", [0, *range(3 + i, 20 + 3 * i)], 5) for i in range(9)]
PARAMS = SamplingParams(temperature=0.8, max_new_tokens=20)
# How far two computations of a sample's log-probability may be apart. A logit of about 10 comes from some 1,200 float32
# additions (two layers of width 64 to 96, up to 60 positions), whose roundings of 2^-24 of it add up as a random walk
# does: to 10 * 2^-24 * sqrt(1200) = 2e-5 for a token and 1e-4 for 20 of them. Ten times that.
LOGPROB_OFF = 1e-3
Samples = dict[tuple[str, int], Completion]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_gguf_files(tmp_path_factory.mktemp("gguf"))


@pytest.fixture(scope="module")
def process(files: tuple[Path, Path]) -> Iterator[LlamaProcess]:
    with LlamaProcess(*files, n_threads=1, n_seq_max=8, cache_type="f32") as process:
        yield process


def sample(process: LlamaProcess, requests: list[Request], params: SamplingParams = PARAMS) -> Samples:
    return {(done.problem_id, done.sample_index): done for done in process.generate(requests, params, [1])}


# -------------------------------------------------------------------------------------------- random numbers


def test_streams_are_uniform_and_independent() -> None:
    keys = np.array([sample_key(0, f"p{i}", j) for i in range(100) for j in range(10)], np.uint64)
    numbers = np.stack([uniforms(keys, np.full(len(keys), position)) for position in range(100)])
    assert numbers.min() >= 0 and numbers.max() < 1
    counts = np.histogram(numbers, 100, (0, 1))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 160  # chi-square, 99 degrees: p = 1e-4
    for shifted in (numbers[1:] * numbers[:-1], numbers[:, 1:] * numbers[:, :-1]):
        assert abs(shifted.mean() - 0.25) < 0.004
    assert sample_key(0, "p", 0) != sample_key(1, "p", 0) != sample_key(0, "p", 1)


def test_streams_never_change() -> None:
    """Samples on disk are continued by the same numbers: these are part of the format."""
    key = np.array([sample_key(3, "gsm8k-17", 2)], np.uint64)
    found = uniforms(key, np.array([5]))[0]
    assert sample_key(3, "gsm8k-17", 2) == 6449616041950487353 and found == pytest.approx(0.7846394449324049, abs=1e-15)


# ---------------------------------------------------------------------------------------------- the sampler


def test_every_sample_comes_once_and_is_whole(process: LlamaProcess) -> None:
    samples = list(process.generate(REQUESTS, PARAMS, [1]))
    assert sorted((s.problem_id, s.sample_index) for s in samples) == [
        (r.problem_id, i) for r in REQUESTS for i in range(5)
    ]
    for found in samples:
        assert (found.token_ids[-1] == 1) == (found.finish_reason == "stop") and 1 not in found.token_ids[:-1]
        assert len(found.token_ids) == 20 or found.finish_reason == "stop"
    assert process.stats.num_tokens == sum(len(s.token_ids) for s in samples)
    assert process.stats.decode_seconds + process.stats.pick_seconds <= process.stats.total_seconds


def test_first_tokens_and_logprobs_are_the_models_own(process: LlamaProcess) -> None:
    """The tokens' log-probabilities, from the logits of prompt and sample decoded as one text."""
    samples = sample(process, REQUESTS[:2])
    for (problem, _), found in samples.items():
        prompt = REQUESTS[int(problem[1:])].prompt_ids
        logits = process.logits([prompt + found.token_ids])[0][len(prompt) - 1 : -1].astype(np.float64)
        logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        expected = logprobs[np.arange(len(found.token_ids)), found.token_ids].sum()
        assert found.logprob == pytest.approx(expected, abs=LOGPROB_OFF)


def test_samples_of_a_prompt_follow_its_distribution(process: LlamaProcess) -> None:
    logits = process.logits([REQUESTS[0].prompt_ids])[0][-1]
    request = Request("p", REQUESTS[0].prompt_ids, 3000)
    params = SamplingParams(temperature=0.8, max_new_tokens=1)
    counts = np.bincount([s.token_ids[0] for s in sample(process, [request], params).values()], minlength=VOCAB)
    assert chi_square(counts, exact(logits, params)) < 4


def test_the_same_call_gives_the_same_samples_in_the_same_order(
    process: LlamaProcess, files: tuple[Path, Path]
) -> None:
    first = list(process.generate(REQUESTS, PARAMS, [1]))
    assert list(process.generate(REQUESTS, PARAMS, [1])) == first
    with LlamaProcess(*files, n_threads=1, n_seq_max=8, cache_type="f32") as other:
        assert list(other.generate(REQUESTS, PARAMS, [1])) == first
    changed = sample(process, REQUESTS, SamplingParams(temperature=0.8, max_new_tokens=20, seed=1))
    assert sum(changed[s.problem_id, s.sample_index].token_ids == s.token_ids for s in first) < len(first) / 10


def same_tokens(left: Samples, right: Samples) -> float:
    return float(np.mean([left[key].token_ids == right[key].token_ids for key in left]))


def test_more_samples_keep_those_already_there(process: LlamaProcess) -> None:
    few = sample(process, REQUESTS)
    more = sample(process, [Request(r.problem_id, r.prompt_ids, 11) for r in REQUESTS])
    # Logits of another batch may differ in the last bit, and a sample that sits on an edge with them.
    assert same_tokens(few, more) >= 0.97


def test_neighbours_and_shared_prompts_change_nothing(process: LlamaProcess, files: tuple[Path, Path]) -> None:
    together = sample(process, REQUESTS)
    alone: Samples = {}
    for request in REQUESTS[:3]:
        alone.update(sample(process, [request]))
    assert same_tokens(alone, together) >= 0.97
    for settings in ({"n_seq_max": 1}, {"n_seq_max": 7, "kv_unified": False}, {"n_seq_max": 64}):
        with LlamaProcess(*files, n_threads=1, cache_type="f32", **settings) as other:
            assert same_tokens(sample(other, REQUESTS), together) >= 0.97, settings


def test_a_prompt_longer_than_a_batch_and_uneven_numbers_of_samples(tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", max_position_embeddings=8192)
    export_base(model, tmp_path / "base.gguf")
    rng = np.random.default_rng(0)
    sizes = [(5000, 2), (10, 0), (10, 9), (700, 1), (3, 30)]
    requests = [Request(str(i), [0, *rng.integers(2, VOCAB, n).tolist()], k) for i, (n, k) in enumerate(sizes)]
    with LlamaProcess(tmp_path / "base.gguf", n_threads=1, n_seq_max=4, cache_type="f32") as process:
        samples = sample(process, requests, SamplingParams(temperature=0, max_new_tokens=3))
        assert len(samples) == 42
        logits = process.logits([requests[3].prompt_ids])[0]
    assert samples["3", 0].token_ids[0] == logits[-1].argmax()


def test_a_dropped_iterator_stops_and_the_process_goes_on(process: LlamaProcess) -> None:
    many = [Request("p", REQUESTS[0].prompt_ids, 100_000)]
    iterator = process.generate(many, PARAMS, [1])
    next(iterator)
    before = time.monotonic()
    iterator.close()  # type: ignore[attr-defined]
    assert time.monotonic() - before < 60, "all of its samples would take minutes"
    assert len(sample(process, REQUESTS[:1])) == 5


def test_a_pool_gives_the_same_samples(process: LlamaProcess, files: tuple[Path, Path]) -> None:
    alone = sample(process, REQUESTS)
    with open_sampler(*files, n_threads=2, n_seq_max=8, cache_type="f32") as pool:
        assert isinstance(pool, LlamaPool) and pool.n_vocab == VOCAB
        first = {(s.problem_id, s.sample_index): s for s in pool.generate(REQUESTS, PARAMS, [1])}
        assert pool.stats.num_tokens == sum(len(s.token_ids) for s in first.values())
        assert {(s.problem_id, s.sample_index): s for s in pool.generate(REQUESTS, PARAMS, [1])} == first
        with pytest.raises(SamplerError, match="problem 'none' is empty"):
            list(pool.generate([*REQUESTS, Request("none", [])], PARAMS, [1]))
        assert len(list(pool.generate(REQUESTS[:1], PARAMS, [1]))) == 5
    assert first.keys() == alone.keys() and same_tokens(first, alone) >= 0.97
    with open_sampler(*files, n_threads=1) as single:
        assert isinstance(single, LlamaProcess)


def test_stop_texts_end_a_sample_at_once(process: LlamaProcess, files: tuple[Path, Path]) -> None:
    """Also where a stop text lies across tokens; and what comes before it stays as it was."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(files[0].parent / "model")
    without = sample(process, REQUESTS)
    texts = {key: tokenizer.decode(found.token_ids, skip_special_tokens=True) for key, found in without.items()}
    stop = (next(text for text in texts.values() if len(text) > 8)[3:6], "\u20ac", "a", " 1")
    stopped = sample(process, REQUESTS, PARAMS.model_copy(update={"stop": stop}))
    assert process.stats.num_stop_text == sum(c.finish_reason == "stop_text" for c in stopped.values()) > 5
    assert sum(c.finish_reason != "stop_text" for c in stopped.values()) > 0
    for key, found in stopped.items():
        ids = without[key].token_ids
        ends = [i for i in range(len(ids)) if any(text in decoded(tokenizer, ids[: i + 1]) for text in stop)]
        assert found.token_ids == (ids[: ends[0] + 1] if ends else ids)
        assert (found.finish_reason == "stop_text") == bool(ends)


def decoded(tokenizer: Any, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=True))


def test_a_base_without_a_vocabulary_refuses_stop_texts(tmp_path: Path) -> None:
    model = make_model(tmp_path / "model")
    (model / "tokenizer.json").unlink()
    export_base(model, tmp_path / "base.gguf")
    with LlamaProcess(tmp_path / "base.gguf", n_threads=1) as process:
        with pytest.raises(SamplerError, match=r"base.gguf holds no vocabulary.*Leave the stop texts out"):
            sample(process, REQUESTS, PARAMS.model_copy(update={"stop": ("a",)}))
        assert len(sample(process, REQUESTS[:1])) == 5


@pytest.mark.parametrize("kv_unified", [True, False])
def test_a_shared_beginning_is_decoded_once(files: tuple[Path, Path], kv_unified: bool) -> None:
    shared = [0, *range(5, 100)]
    requests = [Request(f"p{i}", [*shared, *range(100 + i, 103 + 2 * i)], 3) for i in range(20)]
    settings: dict[str, Any] = {"n_threads": 1, "n_seq_max": 8, "cache_type": "f32", "kv_unified": kv_unified}
    with LlamaProcess(*files, **settings) as process:
        together = sample(process, requests)
        own = sum(len(request.prompt_ids) - len(shared) for request in requests)
        assert own + len(shared) - 1 <= process.stats.num_prompt_tokens <= own + len(shared)
        apart: Samples = {}
        for request in requests:
            apart.update(sample(process, [request]))
    assert same_tokens(apart, together) >= 0.97


@pytest.mark.parametrize("n_ctx", [60, 150, 200, 700])
def test_a_context_that_runs_full_parks_samples(process: LlamaProcess, files: tuple[Path, Path], n_ctx: int) -> None:
    """Room for one sample alone, for a few, for all."""
    roomy = sample(process, REQUESTS)
    with LlamaProcess(*files, n_threads=1, n_seq_max=8, cache_type="f32", kv_unified=True, n_ctx=n_ctx) as tight:
        found = sample(tight, REQUESTS)
        assert (tight.stats.num_parked > 0) == (n_ctx < 700)
        assert tight.stats.num_live == 0
        if n_ctx < 240:
            with pytest.raises(SamplerError, match=r"of 240 tokens is needed.*room for \d+ .n_ctx"):
                sample(tight, [Request("p", [0] * 140, 4)], SamplingParams(max_new_tokens=100))
    assert found.keys() == roomy.keys() and same_tokens(found, roomy) >= 0.97
    for key in roomy:
        is_same = found[key].token_ids == roomy[key].token_ids
        assert not is_same or found[key].logprob == pytest.approx(roomy[key].logprob, abs=LOGPROB_OFF)


def test_less_memory_means_fewer_sequences_in_a_cache_of_parts(process: LlamaProcess, files: tuple[Path, Path]) -> None:
    with LlamaProcess(*files, n_threads=1, n_seq_max=8, cache_type="f32", kv_unified=False, n_ctx=5 * 256) as tight:
        longer = PARAMS.model_copy(update={"max_new_tokens": 100})
        live = [tight.stats.num_live for _ in tight.generate(REQUESTS, longer, [])]
        assert len(live) == 45 and max(live) == 4  # and a prompt in the fifth part
        assert same_tokens(sample(tight, REQUESTS), sample(process, REQUESTS)) >= 0.97


def test_later_samples_continue_the_earlier(process: LlamaProcess) -> None:
    whole = sample(process, REQUESTS)
    later = sample(process, [replace(request, first_sample=3, num_samples=2) for request in REQUESTS])
    assert later.keys() == {key for key in whole if key[1] >= 3}
    assert same_tokens(later, whole) >= 0.97


def test_stats_while_it_runs(process: LlamaProcess) -> None:
    many = [Request(request.problem_id, request.prompt_ids, 100) for request in REQUESTS]
    live = []
    for _ in process.generate(many, PARAMS, [1]):
        live.append(process.stats.num_live)
    assert max(live) == 8
    stats = process.stats
    assert stats.num_stop + stats.num_length == 900 and stats.num_live == stats.num_parked == stats.num_stop_text == 0
    assert stats.num_prompt_tokens == sum(len(request.prompt_ids) for request in REQUESTS)


def test_nothing_to_do(process: LlamaProcess) -> None:
    assert sample(process, []) == {} and sample(process, [Request("p", [0], 0)]) == {}


# ---------------------------------------------------------------------------------------- refusals and deaths


@pytest.mark.parametrize(
    ("request_", "params", "message"),
    [
        (Request("long", [0] * 250), PARAMS, r"problem 'long' has 250 tokens.*max_new_tokens 20.*256"),
        (Request("none", []), PARAMS, "problem 'none' is empty"),
        (Request("alien", [0, 300]), PARAMS, r"token id 300, the model has ids 0 to 299"),
    ],
)
def test_requests_that_do_not_fit(
    process: LlamaProcess, request_: Request, params: SamplingParams, message: str
) -> None:
    with pytest.raises(SamplerError, match=message):
        sample(process, [request_], params)
    assert len(sample(process, REQUESTS[:1])) == 5  # the process goes on


def test_files_that_can_not_be_loaded(files: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(SamplerError, match=r"nothing.gguf: not found.*export the model"):
        LlamaProcess(tmp_path / "nothing.gguf")
    (tmp_path / "bad.gguf").write_bytes(files[0].read_bytes()[:5000])
    with pytest.raises(SamplerError, match=r"(?s)bad.gguf: llama.cpp can't load it.*Its last log lines:"):
        LlamaProcess(tmp_path / "bad.gguf")
    export_base(make_model(tmp_path / "model"), tmp_path / "other.gguf")
    with pytest.raises(SamplerError, match=r"(?s)lora.gguf: llama.cpp can't use it as an adapter of .*other.gguf"):
        LlamaProcess(tmp_path / "other.gguf", files[1])


def test_a_model_larger_than_the_memory_is_not_loaded(tmp_path: Path) -> None:
    with (tmp_path / "huge.gguf").open("wb") as file:
        file.truncate(2**43)  # a hole: takes no room on the disk
    expected = r"huge.gguf needs 8192.00 GiB.*GiB of memory are free .*[Uu]se a smaller quantisation"
    with pytest.raises(SamplerError, match=expected):
        LlamaProcess(tmp_path / "huge.gguf")


def test_a_model_of_another_kind(files: tuple[Path, Path], tmp_path: Path) -> None:
    data = files[0].read_bytes()
    assert data.count(b"qwen3") > 1
    (tmp_path / "other.gguf").write_bytes(data.replace(b"qwen3", b"qwenX"))
    with pytest.raises(SamplerError, match=r"(?s)other.gguf: llama.cpp can't load.*unknown model architecture"):
        LlamaProcess(tmp_path / "other.gguf")


def test_a_small_cache_gives_nearly_the_same(process: LlamaProcess, files: tuple[Path, Path]) -> None:
    greedy = PARAMS.model_copy(update={"temperature": 0.0, "max_new_tokens": 1})
    with LlamaProcess(*files, n_threads=1, n_seq_max=8, cache_type="q8_0") as small:
        found, expected = sample(small, REQUESTS, greedy), sample(process, REQUESTS, greedy)
        assert same_tokens(found, expected) >= 0.6  # random weights: logits lie close together


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama-tied", "mistral", "qwen2-tied", "qwen3"])
@pytest.mark.parametrize("with_adapter", [False, True])
def test_greedy_text_is_transformers_own(kind: str, with_adapter: bool, tmp_path: Path) -> None:
    """300 prompts: at least 99%, the rest where two tokens are equally likely but for rounding."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = make_model(tmp_path / "model", kind)
    export_base(model, tmp_path / "base.gguf")
    network: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    if with_adapter:
        adapter = make_adapter(tmp_path / "adapter", model)
        export_adapter(adapter, model, tmp_path / "lora.gguf")
        network = PeftModel.from_pretrained(network, adapter).eval()
    rng = np.random.default_rng(0)
    requests = [Request(f"p{i}", [0, *rng.integers(2, VOCAB, 20).tolist()]) for i in range(300)]
    lora = tmp_path / "lora.gguf" if with_adapter else None
    with LlamaProcess(tmp_path / "base.gguf", lora, n_threads=1, cache_type="f32") as process:
        found = sample(process, requests, SamplingParams(temperature=0, max_new_tokens=20))
    with torch.no_grad():  # prompts of one length: no padding is involved
        ids = torch.tensor([request.prompt_ids for request in requests])
        settings = {"do_sample": False, "eos_token_id": 1, "pad_token_id": 1, "attention_mask": torch.ones_like(ids)}
        out = network.generate(ids, max_new_tokens=20, **settings)[:, 21:].tolist()
    same = [row[: len(found[f"p{i}", 0].token_ids)] == found[f"p{i}", 0].token_ids for i, row in enumerate(out)]
    assert np.mean(same) >= 0.99


def test_a_killed_worker_is_one_error(files: tuple[Path, Path]) -> None:
    with LlamaProcess(*files, n_threads=1) as process:
        iterator = process.generate([Request("p", [0, 5, 6], 100_000)], PARAMS, [1])
        next(iterator)
        os.kill(process._process.pid, signal.SIGKILL)
        with pytest.raises(SamplerError, match=r"sampling process was ended by SIGKILL.*lower num_sequences"):
            list(iterator)
        with pytest.raises(SamplerError, match="SIGKILL"):
            sample(process, REQUESTS)
    with pytest.raises(SamplerError, match="closed"):
        sample(process, REQUESTS)


# As CUDA, cuBLAS and Vulkan say it inside llama.cpp, and C++ when main memory is full.
OUT_OF_MEMORY = [
    "CUDA error: out of memory",
    "CUDA error: the resource allocation failed",
    "terminate called after throwing an instance of 'vk::OutOfDeviceMemoryError'",
    "terminate called after throwing an instance of 'std::bad_alloc'",
]


@pytest.mark.parametrize("words", OUT_OF_MEMORY)
def test_an_abort_for_lack_of_memory_is_gone_on_from(
    files: tuple[Path, Path], process: LlamaProcess, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Finished samples are kept, the others are made in a new process with half the context."""
    requests = [Request("a", [0, 5, 6], 900), Request("b", [0, 7], 200, first_sample=50)]
    expected = list(process.generate(requests, PARAMS, [1]))
    with LlamaProcess(*files, n_threads=1, n_seq_max=8, cache_type="f32") as dying:
        iterator = dying.generate(requests, PARAMS, [1])
        found = [next(iterator) for _ in range(5)]
        dying._log.write(f"{words}\n".encode())
        dying._log.flush()
        os.kill(dying._process.pid, signal.SIGABRT)
        found += iterator
        assert len(found) == len(expected)  # none twice
        assert dying.stats.num_stop + dying.stats.num_length >= len(expected)
        assert "ran out of memory: a context of" in caplog.text
        os.kill(dying._process.pid, signal.SIGABRT)
        with pytest.raises(SamplerError, match="ended by SIGABRT"):
            sample(dying, REQUESTS)
    left, right = ({(c.problem_id, c.sample_index): c for c in samples} for samples in (found, expected))
    assert left.keys() == right.keys() and same_tokens(left, right) >= 0.97


def test_what_is_unfinished_is_asked_for_again() -> None:
    requests = [Request("a", [5], 6, first_sample=2), Request("b", [6], 2), Request("c", [7], 1)]
    finished = {("a", 2), ("a", 3), ("a", 5), ("b", 0), ("b", 1), ("z", 0)}
    left = [(asked.problem_id, asked.first_sample, asked.num_samples) for asked in unfinished(requests, finished)]
    assert left == [("a", 4, 4), ("c", 0, 1)]
    assert unfinished(requests, set()) == requests


def test_a_hanging_worker_is_one_error(files: tuple[Path, Path]) -> None:
    with LlamaProcess(*files, n_threads=1, hang_seconds=1.0) as process:
        iterator = process.generate([Request("p", [0, 5, 6], 100_000)], PARAMS, [1])
        next(iterator)
        os.kill(process._process.pid, signal.SIGSTOP)
        with pytest.raises(SamplerError, match=r"made no step for 1 s and was ended. Finished samples are kept"):
            list(iterator)


def test_an_abort_inside_the_worker_shows_its_log(files: tuple[Path, Path]) -> None:
    with LlamaProcess(*files, n_threads=1) as process:
        process.send("generate", "not a request")
        with pytest.raises(SamplerError, match=r"(?s)ValueError.*Its last log lines:.*Traceback"):
            process.receive()


def test_a_file_on_which_llama_cpp_aborts_is_named_and_not_to_be_tried_again(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    """It said "Run again; finished samples are kept", for a file that aborts every time."""
    data, key = bytearray(files[0].read_bytes()), b".block_count"
    place = data.index(key) + len(key) + 4  # after the type of the value
    data[place : place + 4] = bytes(4)
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(data)
    message = (
        rf"llama.cpp was ended by SIGABRT while it loaded {broken}: the file is broken, .* Make or download it again"
    )
    with pytest.raises(SamplerError, match=message):
        LlamaProcess(broken, n_threads=1)


def test_the_worker_dies_with_a_killed_parent(files: tuple[Path, Path]) -> None:
    script = f"""
        from pathlib import Path
        from qrft.sampling.api import Request, SamplingParams
        from qrft.sampling.backends.llama_cpp.process import LlamaProcess
        process = LlamaProcess(Path({str(files[0])!r}), n_threads=1)
        print(process._process.pid, flush=True)
        for _ in process.generate([Request("p", [0, 5, 6], 1_000_000)], SamplingParams(max_new_tokens=50), []):
            pass
    """
    with start_process(python(script), stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        time.sleep(0.3)
        assert worker in running()
        parent.kill()
        parent.wait()
        assert has_ended(worker, 60)


def test_the_worker_starts_without_the_heavy_packages() -> None:
    code = (
        "import sys, qrft.sampling.backends.llama_cpp.worker, qrft.sampling.backends.llama_cpp.loop;"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = run_process(python(code))
    assert done.stdout.strip() == "[]"
