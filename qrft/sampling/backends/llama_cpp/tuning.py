"""How many sequences live at once, in which of llama.cpp's caches: measured once for a model on a machine, and kept.

It takes 5% of the time that the work will take, or half a minute; work that is too small for that goes by the rules of
`sizing`. What is kept decides the make-up of batches, and with it the last bits of logits: a resumed run reads it
again, so it goes on as it began.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import platform
from dataclasses import astuple
from pathlib import Path
from typing import Any

from qrft.data.disk import cache_folder, write_atomic
from qrft.data.sealed import with_checksum, without_checksum
from qrft.sampling.api import Work
from qrft.sampling.backends.llama_cpp.process import LlamaProcess
from qrft.sampling.backends.llama_cpp.trials import Search, is_small

log = logging.getLogger(__name__)

_LAYOUT = 3  # of what is kept, and of how it was measured
_ALONE = "without the adapter"
_HEADER_BYTES = 2**20  # of a GGUF: names and shapes of its tensors; the speed does not depend on their values


def tune(process: LlamaProcess, work: Work) -> None:
    """Give a process the settings that are the fastest for the work: those kept in $XDG_CACHE_HOME/qrft/sampling.json,
    which may be removed, or else measured now. Work too small to measure for leaves the process as it is.

    Sets `merged_speedup` where it is known: how many times as fast the base alone is, which is what merging the adapter
    into it would give. Raises SamplerError when the model can't be sampled at all.
    """
    if is_small(work):
        return
    path, key = cache_folder() / "sampling.json", _key(process, work)
    kept = _read(path)
    if key not in kept:
        kept = {**_read(path), key: with_checksum(_measure(process, work))}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(kept, indent=1))
    process.configure(**kept[key]["settings"])
    speeds = dict(kept[key]["tokens_per_second"])
    alone = speeds.pop(_ALONE, None)
    process.merged_speedup = alone and alone / max(speeds.values())


def _measure(process: LlamaProcess, work: Work) -> dict[str, Any]:
    log.info("Measuring how many sequences to sample at once, which is kept for this model, machine and kind of work")
    before, search = process.options, Search(process, work)
    search.run()
    speeds = {str(trial): round(speed, 1) for trial, speed in search.speeds.items()}
    settings: dict[str, Any] = {}
    if search.speeds:
        best = search.best()
        settings = {"n_seq_max": best.live, "kv_unified": best.unified}
        if before.adapter_gguf is not None and (alone := search.speed(best, adapter_gguf=None)):
            speeds[_ALONE] = round(alone, 1)
        log.info("Sampling %s", best.in_words())
    process.configure(adapter_gguf=before.adapter_gguf, n_seq_max=before.n_seq_max, kv_unified=before.kv_unified)
    return {"settings": settings, "tokens_per_second": speeds}


def _read(path: Path) -> dict[str, Any]:
    """Return what is kept, but for what was measured in another way or is damaged."""
    try:
        kept = json.loads(path.read_bytes())
    except (OSError, ValueError):  # not there, or not ours: measured anew
        return {}
    entries = kept if isinstance(kept, dict) else {}
    return {key: entry for key, entry in entries.items() if key.startswith(f"{_LAYOUT} ") and _is_whole(entry)}


def _is_whole(entry: Any) -> bool:
    with contextlib.suppress(ValueError):
        return {"settings", "tokens_per_second"} <= without_checksum(entry).keys()
    return False


def _key(process: LlamaProcess, work: Work) -> str:
    options = process.options
    with open(options.base_gguf, "rb") as file:
        header = hashlib.blake2b(file.read(_HEADER_BYTES), digest_size=8).hexdigest()
    sizes = [Path(name).stat().st_size if name else 0 for name in (options.base_gguf, options.adapter_gguf)]
    device = process.info.gpu or _processor()
    parts = [_LAYOUT, header, *sizes, *astuple(work), options.cache_type, options.n_threads, device, process.info.build]
    return " ".join(map(str, parts))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
