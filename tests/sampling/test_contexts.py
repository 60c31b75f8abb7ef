"""How contexts are filled and used: samples without gaps between them, many at once, two contexts in turns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.commands import python, run_process
from helpers.gpus import lent_gpu
from helpers.models import make_model

from qrft.models.gguf.base import export_base
from qrft.sampling.api import Completion, Request, SamplingParams
from qrft.sampling.backends.llama_cpp.process import LlamaProcess

REQUESTS = [Request(f"p{i}", [0, *range(3 + i, 20 + 3 * i)], 5) for i in range(9)]
PARAMS = SamplingParams(temperature=0.8, max_new_tokens=20)
MANY_ENDS = list(range(1, 12))  # tokens that end a sample, so that samples end at any time
Samples = dict[tuple[str, int], Completion]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("gguf")
    export_base(make_model(root / "model", "qwen3"), root / "base.gguf")
    return root / "base.gguf"


def sample(process: LlamaProcess, requests: list[Request], params: SamplingParams = PARAMS) -> Samples:
    return {(done.problem_id, done.sample_index): done for done in process.generate(requests, params, MANY_ENDS)}


def opened(base: Path, **settings: Any) -> LlamaProcess:
    return LlamaProcess(base, n_threads=1, **{"cache_type": "f32", "n_seq_max": 8, **settings})


def same_tokens(left: Samples, right: Samples) -> float:
    assert left.keys() == right.keys()
    return float(np.mean([left[key].token_ids == right[key].token_ids for key in left]))


@pytest.fixture(scope="module")
def usual(base: Path) -> Samples:
    with opened(base) as process:
        return sample(process, REQUESTS)


# ------------------------------------------------------------------------------------------------------- gaps

COUNT_PASSES = """
    import ctypes
    import llama_cpp.llama_cpp as lib
    from qrft.sampling.api import EngineOptions, Request, SamplingParams, Stats
    from qrft.sampling.backends.llama_cpp import engine, loop

    name_of = lib._lib.ggml_get_name
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.c_void_p]
    num_passes = 0

    @lib.ggml_backend_sched_eval_callback
    def count(tensor, is_question, _):  # llama.cpp asks which tensors we want to see; the logits come once a pass
        global num_passes
        num_passes += not is_question
        return not is_question or name_of(tensor) == b"result_output"

    params_of = engine._context_params
    def watched(*arguments):
        params = params_of(*arguments)
        params.cb_eval = count
        return params
    engine._context_params = watched
    engine.set_log()
    opened = engine.load(EngineOptions({base!r}, n_threads=1, n_seq_max=32, cache_type="f32", kv_unified={unified}))
    requests = [Request(str(i), [0, *range(3 + i, 40 + i)], {num_samples}) for i in range({num_prompts})]
    params, stats = SamplingParams(temperature=0.8, max_new_tokens=60), Stats()
    done = [c for found in loop.generate(opened, requests, params, {ends}, stats) for c in found]
    print(len(done), stats.num_steps, num_passes)
"""


@pytest.mark.parametrize("unified", [False, True])
@pytest.mark.parametrize(("num_prompts", "num_samples"), [(1, 64), (20, 5), (40, 1)])
def test_samples_that_end_anywhere_leave_no_gaps(base: Path, num_prompts: int, num_samples: int, unified: bool) -> None:
    """All samples go through the layers in one pass, also those left at the end; a prompt beside them takes its own."""
    values = dict(base=str(base), num_prompts=num_prompts, num_samples=num_samples, unified=unified, ends=MANY_ENDS)
    done = run_process(python(COUNT_PASSES.format(**values)))
    num_done, num_steps, num_passes = map(int, done.stdout.split())
    assert num_done == num_prompts * num_samples
    assert num_steps <= num_passes <= num_steps + num_prompts


# ------------------------------------------------------------------------------------------------------- many


@pytest.mark.parametrize("kv_unified", [True, False])
@pytest.mark.parametrize(("num_prompts", "num_samples"), [(5, 60), (300, 1)])
def test_many_live_at_once(base: Path, kv_unified: bool, num_prompts: int, num_samples: int) -> None:
    """240 of llama.cpp's 256 sequences are samples, though each has a prompt of its own."""
    requests = [Request(f"p{i}", [0, *range(3 + i % 90, 8 + i % 90)], num_samples) for i in range(num_prompts)]
    short = PARAMS.model_copy(update={"max_new_tokens": 12})
    with opened(base) as process:
        few = sample(process, requests, short)
    with opened(base, n_seq_max=250, kv_unified=kv_unified) as process:
        live = [process.stats.num_live]
        many: Samples = {}
        for done in process.generate(requests, short, MANY_ENDS):
            many[done.problem_id, done.sample_index] = done
            live.append(process.stats.num_live)
    assert same_tokens(few, many) >= 0.97
    assert max(live) > 127


# ------------------------------------------------------------------------------------------------ two contexts


@pytest.mark.parametrize(
    "settings",
    [{"kv_unified": True}, {"kv_unified": False}, {"kv_unified": True, "n_ctx": 150}, {"n_seq_max": 3}],
    ids=str,
)
def test_two_contexts_in_turns_give_the_same_samples(base: Path, usual: Samples, settings: dict[str, Any]) -> None:
    with opened(base, overlap=True, **settings) as process:
        first = list(process.generate(REQUESTS, PARAMS, MANY_ENDS))
        assert (process.stats.num_parked > 0) == ("n_ctx" in settings) and process.stats.num_live == 0
        assert list(process.generate(REQUESTS, PARAMS, MANY_ENDS)) == first  # in the same order, too
    assert same_tokens({(c.problem_id, c.sample_index): c for c in first}, usual) >= 0.97


def test_two_contexts_share_what_one_prompt_has_waiting(base: Path) -> None:
    request = Request("p", REQUESTS[0].prompt_ids, 40)
    with opened(base, overlap=True) as two, opened(base) as one:
        assert same_tokens(sample(two, [request]), sample(one, [request])) >= 0.97
        assert two.stats.num_prompt_tokens >= 2 * one.stats.num_prompt_tokens
        assert len(sample(two, [Request("p", [0, 5, 6])])) == 1


def test_no_room_for_two_contexts_means_one(base: Path, usual: Samples) -> None:
    """The longest prompt and its sample take 61 cells of 70."""
    with opened(base, overlap=True, kv_unified=True, n_ctx=70) as process:
        assert same_tokens(sample(process, REQUESTS), usual) >= 0.97


@pytest.mark.lent_gpu
def test_two_contexts_on_a_gpu(base: Path, usual: Samples) -> None:
    with lent_gpu(256 * 2**20) as gpu, gpu.used():
        for kv_unified in (True, False):
            settings = {"kv_unified": kv_unified, "flash_attention": False}
            with opened(base, overlap=True, **settings) as process:
                assert same_tokens(sample(process, REQUESTS), usual) >= 0.97, kv_unified
