"""The parts of bench/gpu.py, each in a process of its own: prints a line of JSON for each row as it is measured.

python bench/gpu_parts.py PART --cache FOLDER [--rehearse] [--batched-bench PROGRAM]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gpu_models
import gpu_sampling
import gpu_training
import machine
import trainers
from gpu_models import Scale
from gpu_rows import Row, device_name, has_gpu, row, tried
from gpu_training import settings_of

from qrft.cli.actions import quiet_libraries
from qrft.machine import let_gpu_memory_grow
from qrft.models.find import find_model

# ------------------------------------------------------------------------------------------------ what is there


def machine_part(scale: Scale, options: argparse.Namespace) -> Iterator[Row]:
    """What is installed, and what sees the GPU."""
    import torch

    from qrft.training import attention

    facts = machine.describe()
    yield row("packages", ", ".join(f"{name} {facts[name]}" for name in machine.PACKAGES), **facts)
    yield row("torch", f"CUDA {torch.version.cuda}, sees {torch.cuda.get_device_name()}" if has_gpu() else "no GPU")
    yield tried("llama.cpp", _llama_cpp)
    for name in ("trl", "unsloth", "vllm", "liger_kernel", "flash_attn", "flash_attn_interface"):
        yield row(name, "installed" if find_spec(name) else "not installed")
    heads = attention.heads_of(gpu_models.qwen(scale))
    yield row("torch's varlen_attn", attention.varlen_fault(heads, device_name()) or "runs, and agrees with sdpa")


def _llama_cpp() -> Row:
    from qrft.sampling.backends.llama_cpp import devices

    devices.load_plugin()
    return row("llama.cpp", devices.in_words() or "no GPU", build=devices.build())


# ------------------------------------------------------------------------------------------------------- parity


def parity_part(scale: Scale, options: argparse.Namespace) -> Iterator[Row]:
    """Do llama.cpp's logits agree with transformers' here, for files of each precision of the tiny base."""
    from helpers.models import make_adapter

    from qrft.models.gguf.adapter import export_adapter
    from qrft.models.gguf.base import export_base
    from qrft.models.gguf.parity import check_parity

    tiny, root = find_model("tiny-base"), scale.folder("parity")
    root.mkdir(parents=True, exist_ok=True)
    make_adapter(root / "adapter", tiny, r=8)
    export_adapter(root / "adapter", tiny, root / "lora.gguf")
    prompts = [[2 + (7 * i + start) % 800 for i in range(60)] for start in range(8)]
    for quant in ("f32", "f16", "bf16", "q8_0"):
        base = root / f"{quant}.gguf"
        export_base(tiny, base, quant)

        def checked(base: Path = base, quant: str = quant) -> Row:
            found: Any = check_parity(tiny, base, root / "adapter", root / "lora.gguf", prompts)
            words = f"logits within {found['max_logit_difference']:.2g}, KL {found['mean_kl']:.1e}"
            return row(quant, f"{words}, of sampling {found['sampling_kl']:.1e}", **found)

        yield tried(quant, checked)


# ------------------------------------------------------------------------------------------------------- checks


def checks_part(scale: Scale, options: argparse.Namespace) -> Iterator[Row]:
    """Is what is computed here right: the tests that need a GPU, resuming, and memory after trainings."""
    yield tried("tests of attention", _tests)
    yield tried("resumed training", lambda: _resumed(scale))
    yield tried("paged states after two trainings", _paged)


def _tests() -> Row:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/training/test_packing.py"]
    done = subprocess.run([*command, "-k", "on_a_gpu"], cwd=Path(__file__).parents[1], capture_output=True, text=True)
    lines = done.stdout.strip().splitlines() or [done.stderr.strip()[-200:]]
    return row("tests of attention", lines[-1].strip("= "), output=done.stdout[-2000:])


class _Stopped(Exception):
    pass


def _resumed(scale: Scale) -> Row:
    """A training that is stopped at its seventh step of twelve and goes on, against one that is not stopped."""
    from qrft.training.trainer import train

    folder, settings = gpu_models.qwen(scale), settings_of(checkpoint_minutes=1e-9, micro_batch_size=4)
    examples = gpu_models.examples(12 * settings.batch_size, 1000)

    def run(out: Path, last: int = 0) -> list[float]:
        def progress(done: int, total: int, note: str) -> None:
            if done == last:
                raise _Stopped

        facts = train(folder, examples, None, settings, out / "adapter", out / "checkpoints", progress)
        return [each["loss"] for each in facts["losses"]]

    with tempfile.TemporaryDirectory() as name:
        whole, cut = Path(name, "whole"), Path(name, "cut")
        expected = run(whole)
        with suppress(_Stopped):
            run(cut, last=7)
        found = run(cut)
    difference = max(abs(a - b) for a, b in zip(expected, found, strict=True))
    return row("resumed training", f"losses within {difference:.1e} of an undisturbed one's", difference=difference)


def _paged() -> Row:
    """Every weight of the tiny base, with the paged optimizer."""
    tiny = find_model("tiny-base")
    settings = settings_of(adapter="none", quantization="none", optimizer="paged_adamw_8bit", micro_batch_size=4)
    free, paged = [], 0
    for _ in range(3):
        done = trainers.qrft(tiny, gpu_models.examples(8, 800), settings)
        paged = max(paged, done.paged)
        free.append(_free())
    words = f"{paged / 2**20:.1f} MiB paged during each; {trainers.paged_bytes()} bytes kept"
    words += f", {(free[0] - free[-1]) / 2**20:.0f} MiB less free" if has_gpu() else ""
    return row("paged states after two trainings", words, free=free, paged=paged)


def _free() -> int:
    import torch

    from qrft.machine import free_memory

    return int(torch.cuda.mem_get_info()[0]) if has_gpu() else free_memory()


PARTS: dict[str, Callable[[Scale, argparse.Namespace], Iterator[Row]]] = {
    "machine": machine_part,
    "parity": parity_part,
    "checks": checks_part,
    "training": gpu_training.training_part,
    "segments": gpu_training.segments_part,
    "loss": gpu_training.loss_part,
    "memory": gpu_training.memory_part,
    "sampling": gpu_sampling.sampling_part,
    "others": gpu_sampling.others_part,
    "large": gpu_sampling.large_part,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--batched-bench", type=Path)
    options = parser.parse_args()
    quiet_libraries()
    if options.part == "segments":
        os.environ["PYTORCH_ALLOC_CONF"] = "expandable_segments:False"
    let_gpu_memory_grow()
    scale = Scale(options.rehearse, options.cache)
    for what, words, figures in PARTS[options.part](scale, options):
        sys.stdout.write("\n" + json.dumps({"what": what, "words": words, "figures": figures}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
