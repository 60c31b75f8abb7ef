"""The parts of bench/gpu.py that sample."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING
from unittest import mock

import gpu_models
from gpu_models import Scale
from gpu_rows import Row, row, tried

if TYPE_CHECKING:  # they need llama.cpp, without which the other parts run
    import contexts
    import sampling


def sampling_part(scale: Scale, options: argparse.Namespace) -> Iterator[Row]:
    """The 1.5B in f16: live sequences, caches, adapters, contexts, threads and graphs, each against the first row."""
    import contexts

    model, cores = gpu_models.qwen_gguf(scale), len(os.sched_getaffinity(0))
    files = contexts.Files(model.base, model.adapter_gguf, model.merged)
    first = contexts.Row(scale.size(64, 4), is_unified=True, is_merged=True, overlap=True, threads=cores)
    live, unified, merged, overlap, threads = first.live, True, True, True, cores
    rows = [
        first,
        contexts.Row(live, unified, merged, False, threads),
        contexts.Row(live, False, merged, overlap, threads),
        contexts.Row(live, unified, False, overlap, threads),
        contexts.Row(live, unified, merged, overlap, 1),
        contexts.Row(scale.size(127, 8), unified, merged, overlap, threads),
        contexts.Row(scale.size(32, 2), unified, merged, overlap, threads),
        contexts.Row(scale.size(240, 12), unified, merged, overlap, threads),
        contexts.Row(scale.size(127, 8), False, merged, overlap, threads),
    ]
    for each in rows:
        yield tried(str(each), lambda e=each: _sampled(str(e), files, e, model.num_new))
    what = f"{first}, without CUDA graphs"
    with mock.patch.dict(os.environ, GGML_CUDA_DISABLE_GRAPHS="1"):
        yield tried(what, lambda: _sampled(what, files, first, model.num_new))
    yield tried("qrft, its own choice", lambda: _own_choice(model, live, cores))


def _sampled(what: str, files: contexts.Files, how: contexts.Row, num_new: int) -> Row:
    """Measure once, after a call that warms up, in one process."""
    import contexts

    with contexts.open_row(files, how) as process:
        contexts.measure(process, how, 4)
        found = contexts.measure(process, how, num_new)
    steps = ", ".join(f"{kind} {found[f'{kind}_ms']:.1f} ms" for kind in ("decode", "pick", "all"))
    return row(what, f"{found['tokens_per_second']:,.0f} tokens/s; a step: {steps}", **found)


def _own_choice(model: sampling.Model, k: int, threads: int) -> Row:
    """What `tuning` measures and then takes; the measurement's seconds are told apart."""
    import sampling

    start = time.perf_counter()
    ours = sampling.Ours(model, k, threads, merged=True)
    opened = time.perf_counter() - start
    ours()
    speed = ours()
    ours.sampler.close()
    words = f"{speed:,.0f} tokens/s; opened in {opened:.1f} s, tuning included"
    return row("qrft, its own choice", words, tokens_per_second=speed, opened=opened, **ours.details)


def others_part(scale: Scale, options: argparse.Namespace) -> Iterator[Row]:
    """The 1.5B in other samplers: llama.cpp's own ceiling, transformers, vLLM."""
    import sampling

    model, cores = gpu_models.qwen_gguf(scale), len(os.sched_getaffinity(0))
    for live in scale.size((64, 127), (4,)):
        what = f"llama-batched-bench, {live}"
        if options.batched_bench is None:
            yield row(what, "not built: name the program with --batched-bench")
            continue
        run = sampling.ceiling(options.batched_bench, model, live, cores, True, True)
        yield tried(what, lambda w=what, r=run: row(w, f"{(speed := r()):,.0f} tokens/s", tokens_per_second=speed))
    yield tried("transformers.generate, bfloat16, 64", lambda: _transformers(model, cores))
    if find_spec("vllm") is None:
        yield row("vLLM", "not installed")
    else:
        yield tried("vLLM", lambda: _vllm(model))


def _transformers(model: sampling.Model, cores: int) -> Row:
    import sampling

    measure = sampling.transformers_generate(model, cores, "bfloat16", merged=True)
    measure()
    speed = measure()
    return row("transformers.generate, bfloat16, 64", f"{speed:,.0f} tokens/s", tokens_per_second=speed)


def _vllm(model: sampling.Model) -> Row:
    """64 sequences, eight of a prompt, as the others have it."""
    import sampling
    from vllm import LLM, SamplingParams

    engine = LLM(str(model.folder), dtype="bfloat16", skip_tokenizer_init=True, max_model_len=512)
    params = SamplingParams(n=8, temperature=0.7, max_tokens=model.num_new, ignore_eos=True, detokenize=False)
    prompts = [{"prompt_token_ids": sampling.prompt(model, index)} for index in range(8)]
    engine.generate(prompts, params)
    start = time.perf_counter()
    found = engine.generate(prompts, params)
    num_tokens = sum(len(output.token_ids) for each in found for output in each.outputs)
    speed = num_tokens / (time.perf_counter() - start)
    return row("vLLM", f"{speed:,.0f} tokens/s", tokens_per_second=speed)


def large_part(scale: Scale, options: argparse.Namespace) -> Iterator[Row]:
    """The 7B in q8_0."""
    import contexts

    files, cores = contexts.Files(gpu_models.llama_gguf(scale)), len(os.sched_getaffinity(0))
    for live, overlap in scale.size(((64, True), (64, False), (127, True)), ((4, True),)):
        how = contexts.Row(live, is_unified=True, is_merged=None, overlap=overlap, threads=cores)
        yield tried(str(how), lambda h=how: _sampled(str(h), files, h, scale.size(48, 8)))
