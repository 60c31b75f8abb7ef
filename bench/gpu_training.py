"""The parts of bench/gpu.py that train."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

import gpu_models
import trainers
import training_gpu
from gpu_models import LORA_RANK, SEQUENCE_LEN, Scale
from gpu_rows import Row, device_name, has_gpu, row, tried
from training_cases import SETTINGS

from qrft.config.training import Training

GIB = 2**30


def settings_of(**changes: Any) -> Training:
    shared = {"lora_r": LORA_RANK, "lora_alpha": LORA_RANK, "sequence_len": SEQUENCE_LEN, "micro_batch_size": 16}
    return SETTINGS.model_copy(update={**shared, **changes})


def training_part(scale: Scale, options: argparse.Namespace) -> Iterator[Row]:
    """The 1.5B, QLoRA, GSM8K's lengths: each way of attention and each optimizer, beside the other trainers."""
    folder, vocab_size = gpu_models.qwen(scale), gpu_models.qwen_config(scale).vocab_size
    settings = settings_of(micro_batch_size=scale.size(16, 4))
    examples = gpu_models.examples(scale.size(15, 3) * settings.batch_size, vocab_size)

    def ours(what: str, around: Any = nullcontext, **changes: Any) -> Row:
        with around():
            return _trained(what, trainers.qrft, folder, examples, settings.model_copy(update=changes))

    yield tried("qrft", lambda: ours("qrft"))
    what = "attention sdpa, as torch chooses"
    yield tried(what, lambda: ours(what, _with_cudnn, attention="sdpa"))
    for value in ("sdpa", "varlen"):
        yield tried(f"attention {value}", lambda v=value: ours(f"attention {v}", attention=v))
    yield from _other_trainers(folder, examples, settings)
    for value in ("adamw", "paged_adamw_8bit"):
        yield tried(f"optimizer {value}", lambda v=value: ours(f"optimizer {v}", optimizer=v))
    for value in ("flash_attention_2", "flash_attention_3"):
        yield tried(f"attention {value}", lambda v=value: ours(f"attention {v}", attention=v))
    yield tried("precision float32", lambda: ours("precision float32", precision="float32"))


def _other_trainers(folder: Path, examples: Any, settings: Training) -> Iterator[Row]:
    sides: dict[str, Any] = {"a padded Trainer": ("transformers", trainers.padded)}
    sides |= {f"TRL, {mode}": ("trl", trainers.trl(mode)) for mode in ("packed, row by row", "padding-free")}
    sides |= {"Unsloth, padded": ("unsloth", trainers.unsloth)}
    for what, (package, train) in sides.items():
        if find_spec(package) is None:
            yield row(what, "not installed")
        else:
            yield tried(what, lambda w=what, t=train: _trained(w, t, folder, examples, settings))


@contextmanager
def _with_cudnn() -> Iterator[None]:
    from qrft.training import attention

    with mock.patch.object(attention, "without_cudnn", nullcontext):
        yield


def _trained(what: str, train: Any, folder: Path, examples: Any, settings: Training) -> Row:
    import torch

    from qrft.models.any_shape import read_shape
    from qrft.training import memory

    if has_gpu():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    done = train(folder, examples, settings)
    words = f"{done.tokens_per_second:,.0f} tokens/s, last loss {done.losses[-1]:.4f}"
    figures: dict[str, Any] = {"tokens_per_second": done.tokens_per_second, "losses": done.losses}
    if has_gpu():
        reserved = torch.cuda.max_memory_reserved() + memory.CUDA_CONTEXT + done.paged
        allocated = torch.cuda.max_memory_allocated() + memory.CUDA_CONTEXT + done.paged
        longest = sum(sorted(len(each.token_ids) for each in examples)[-settings.micro_batch_size :])
        estimate = sum(memory.estimate(read_shape(folder), settings, tokens=longest).values())
        words += f"; {reserved / GIB:.2f} GiB reserved, {allocated / GIB:.2f} used, {estimate / GIB:.2f} estimated"
        figures |= {"reserved": reserved, "allocated": allocated, "estimate": estimate}
    return row(what, words, **figures)


def segments_part(scale: Scale, options: argparse.Namespace) -> Iterator[Row]:
    """The same training with torch's own segments of memory, which do not grow."""
    folder, vocab_size = gpu_models.qwen(scale), gpu_models.qwen_config(scale).vocab_size
    settings = settings_of(micro_batch_size=scale.size(16, 4))
    examples = gpu_models.examples(scale.size(15, 3) * settings.batch_size, vocab_size)
    what = "qrft, segments that do not grow"
    yield tried(what, lambda: _trained(what, trainers.qrft, folder, examples, settings))


def loss_part(scale: Scale, options: argparse.Namespace) -> Iterator[Row]:
    """Head and cross-entropy of 4,096 tokens, forward and backward: the chunks, and Liger's kernel."""
    import torch

    from qrft.training import loss

    device, dtype, num_rows = device_name(), torch.bfloat16, scale.size(4096, 64)
    for width, vocabulary in scale.size(((1536, 151_936), (4096, 32_000)), ((64, 1000),)):
        hidden = torch.randn(num_rows, width, device=device, dtype=dtype, requires_grad=True)
        weight = torch.randn(vocabulary, width, device=device, dtype=dtype) * 0.02
        targets = torch.randint(0, vocabulary, (num_rows,), device=device)
        ours = loss._chunked_cross_entropy().apply
        for power in scale.size((22, 24, 26, 28), (12, 14)):
            size = max(1, 2**power // vocabulary)
            work = partial(ours, hidden, weight, targets, size)
            yield tried(*_timed(f"{width} x {vocabulary:,}, chunks of 2^{power}", work, hidden))
        what = f"{width} x {vocabulary:,}, Liger"
        if loss._liger() is None or device == "cpu":
            yield row(what, "not installed" if device == "cuda" else "no GPU")
        else:
            yield tried(*_timed(what, partial(loss.liger_cross_entropy_sum, hidden, weight, targets, 2**26), hidden))


def _timed(what: str, work: Callable[[], Any], hidden: Any) -> tuple[str, Callable[[], Row]]:
    """Return what `tried` takes: the best of five after one that warms up."""

    def measure() -> Row:
        import torch

        times = []
        for _ in range(6):
            start = time.perf_counter()
            work().backward()
            if has_gpu():
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
            hidden.grad = None
        milliseconds = 1e3 * min(times[1:])
        return row(what, f"{milliseconds:.2f} ms", milliseconds=milliseconds)

    return what, measure


def memory_part(scale: Scale, options: argparse.Namespace) -> Iterator[Row]:
    """The 7B with `train.vram: 8`, on a GPU that has no more than 8 GiB."""
    training_gpu.accept_nf4()
    folder = gpu_models.llama_nf4(scale)

    def capped() -> Row:
        found = training_gpu.memory(folder, 8)
        peaks = f"peak {found['peak']:.2f} GiB (estimate {found['estimate']:.2f}), reserved {found['reserved']:.2f}"
        speed = f"{found['tokens_per_second']:,.0f} tokens/s"
        return row("vram 8", f"{peaks}; {speed}; {found['chosen']}", **found)

    def without() -> Row:
        settings = settings_of(micro_batch_size=2, gradient_checkpointing=True, precision="bfloat16")  # as they are
        return _trained("vram 8", trainers.qrft, folder, gpu_models.examples(6, 1000), settings)

    yield tried("vram 8", capped if has_gpu() else without)
