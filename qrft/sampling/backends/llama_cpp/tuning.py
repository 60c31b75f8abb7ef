"""How many sequences live at once, in which of llama.cpp's caches: measured once for a model on a machine, and kept.

What is kept decides the make-up of batches, and with it the last bits of logits: a resumed run reads it again, so it
goes on as it began. Tiny models go by a rule (`sizing`): they are sampled in the time that a measurement takes.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterator
from dataclasses import astuple
from importlib.metadata import version
from pathlib import Path
from typing import Any

from qrft.data.disk import cache_folder, write_atomic
from qrft.errors import SamplerError
from qrft.sampling.api import Request, SamplingParams, Work
from qrft.sampling.backends.llama_cpp.process import LlamaProcess

Settings = dict[str, Any]  # of LlamaProcess

_LIVE = (16, 32, 64, 127)
_LAYOUT = 2  # of what is kept
_ALONE = "without the adapter"
_STEPS = 16  # measured, after the prompts
_HEADER_BYTES = 2**20  # of a GGUF: names and shapes of its tensors; the speed does not depend on their values


def tuned(base_gguf: Path, adapter_gguf: Path | None, work: Work, n_threads: int) -> Settings:
    """Return the fastest n_seq_max and kv_unified; kept in $XDG_CACHE_HOME/qrft/sampling.json, which may be removed.

    Raises SamplerError when the model can't be sampled at all.
    """
    return dict(_measured(base_gguf, adapter_gguf, work, n_threads)["settings"])


def merged_speedup(base_gguf: Path, adapter_gguf: Path, work: Work, n_threads: int) -> float:
    """Return how many times as fast the base alone is, which is what merging the adapter into it would give.

    Measured with the settings of `tuned`, and kept with them. Raises SamplerError like it.
    """
    speeds = _measured(base_gguf, adapter_gguf, work, n_threads)["tokens_per_second"]
    alone: float = speeds.pop(_ALONE)
    return float(alone / max(speeds.values()))


def _measured(base_gguf: Path, adapter_gguf: Path | None, work: Work, n_threads: int) -> dict[str, Any]:
    path = cache_folder() / "sampling.json"
    kept, key = _read(path), _key(base_gguf, adapter_gguf, work, n_threads)
    if key not in kept:
        settings, speeds = _fastest(base_gguf, adapter_gguf, work, n_threads)
        kept = {**_read(path), key: {"settings": settings, "tokens_per_second": speeds}}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(kept, indent=1))
    return dict(kept[key])


def _read(path: Path) -> dict[str, Any]:
    try:
        kept = json.loads(path.read_bytes())
    except (OSError, ValueError):  # not there, or not ours: measured anew
        return {}
    return kept if isinstance(kept, dict) else {}


def _key(base_gguf: Path, adapter_gguf: Path | None, work: Work, n_threads: int) -> str:
    with base_gguf.open("rb") as file:
        header = hashlib.blake2b(file.read(_HEADER_BYTES), digest_size=8).hexdigest()
    sizes = [path.stat().st_size if path else 0 for path in (base_gguf, adapter_gguf)]
    parts = [_LAYOUT, header, *sizes, *astuple(work), n_threads, _processor(), version("llama-cpp-python")]
    return " ".join(map(str, parts))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


# ------------------------------------------------------------------------------------------------------- measure ----


def _fastest(
    base_gguf: Path, adapter_gguf: Path | None, work: Work, n_threads: int
) -> tuple[Settings, dict[str, float]]:
    """Try more and more sequences until they are no faster."""
    best, best_speed, speeds = Settings(), 0.0, dict[str, float]()
    for live in _LIVE:
        before = best_speed
        for settings in _caches(live, work):
            try:
                with LlamaProcess(base_gguf, adapter_gguf, n_threads=n_threads, **settings) as process:
                    speed = _tokens_per_second(process, live, work)
            except SamplerError:
                if not speeds:  # not even the smallest works: that is the caller's to know
                    raise
                continue
            speeds[f"{live} {'unified' if settings['kv_unified'] else 'split'}"] = round(speed, 1)
            if speed > best_speed:
                best, best_speed = settings, speed
        if best_speed == before:
            break
    if adapter_gguf is not None:
        with LlamaProcess(base_gguf, n_threads=n_threads, **best) as process:
            speeds[_ALONE] = round(_tokens_per_second(process, best["n_seq_max"], work), 1)
    return best, speeds


def _caches(live: int, work: Work) -> Iterator[Settings]:
    """Yield the caches worth trying: one for all pays only where samples share prompts."""
    for unified in (False, True) if work.num_samples > 1 else (False,):
        yield {"n_seq_max": live, "kv_unified": unified}


def _tokens_per_second(process: LlamaProcess, live: int, work: Work) -> float:
    """Measure samples that are half grown: they have the prompt in common, and each its own first half."""
    room = process.n_ctx_train - _STEPS - 1
    num_own = min(max(1, work.num_new // 2), room - 1)
    prompt = _tokens(process, 0, max(1, min(work.num_prompt, room - num_own)))
    requests = [Request(str(i), prompt + _tokens(process, 1 + i, num_own)) for i in range(live)]
    begun, gone_on = (_seconds(process, requests, num_new) for num_new in (1, 1 + _STEPS))
    return live * _STEPS / max(1e-9, gone_on - begun)


def _tokens(process: LlamaProcess, start: int, count: int) -> list[int]:
    """Return some tokens: any will do but those of control, which come first."""
    return [3 + (start + 7 * i) % max(1, process.n_vocab - 3) for i in range(count)]


def _seconds(process: LlamaProcess, requests: list[Request], num_new: int) -> float:
    for _ in process.generate(requests, SamplingParams(max_new_tokens=num_new), []):
        pass
    return process.stats.decode_seconds + process.stats.pick_seconds
