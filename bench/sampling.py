"""The sampler against llama.cpp's own ceiling, against a loop over it, and against transformers.

    python bench/sampling.py --cache ~/.cache/qrft-bench [--threads 2] [--rounds 3] [--models tiny smol] [--out FILE]

Models: "tiny" is the tiny base with a random LoRA of rank 32; "smol" a random Llama of SmolLM-135M's shape in Q8_0. All
sides sample `ntg` tokens after a shared prompt of `npp`, never ending by themselves, T=0.7; one side after the other,
`--rounds` times, medians. The ceiling is the best of four settings of llama-batched-bench (unified or split cache,
flash attention on or off) with the same file, adapter, threads and number of sequences; it picks no tokens. `--cache`
keeps llama.cpp's program and the models. Run alone on the machine. Writes bench/results/sampling.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import batched_bench
import machine
import shapes

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from helpers.models import make_adapter, make_tokenizer

from qrft.cli.actions import quiet_libraries
from qrft.models.find import find_model
from qrft.models.gguf.adapter import export_adapter
from qrft.models.gguf.base import export_base
from qrft.sampling.api import Request, SamplingParams, Work
from qrft.sampling.backends.llama_cpp import amx
from qrft.sampling.backends.llama_cpp.pool import LlamaPool, open_sampler
from qrft.sampling.backends.llama_cpp.process import LlamaProcess

TEMPERATURE = 0.7
NUM_PROMPT = 64
BARS: dict[str, dict[str, float]] = {  # side -> model -> times its speed
    "batched-bench": {"tiny": 0.9, "smol": 0.9},
    "create_completion": {"tiny": 6.0, "smol": 3.0},
    "transformers": {"tiny": 1.5, "smol": 4.0},
    "merged: transformers": {"tiny": 1.5},
}


@dataclass(frozen=True)
class Model:
    name: str
    folder: Path
    base: Path
    adapter: Path | None  # as peft saves it
    adapter_gguf: Path | None
    merged: Path | None  # base and adapter as one GGUF
    num_new: int  # tokens of a sample
    num_prompts: int  # of one measurement of ours
    n_vocab: int


def tiny(cache: Path) -> Model:
    folder, root = find_model("tiny-base"), cache / "tiny"
    if not (root / "lora.gguf").exists():
        root.mkdir(parents=True, exist_ok=True)
        export_base(folder, root / "base.gguf")
        make_adapter(root / "adapter", folder, r=32, lora_alpha=32)
        export_base(folder, root / "merged.gguf", adapter_dir=root / "adapter")
        export_adapter(root / "adapter", folder, root / "lora.gguf")
    files = [root / name for name in ("base.gguf", "adapter", "lora.gguf", "merged.gguf")]
    return Model("tiny", folder, *files, num_new=128, num_prompts=8, n_vocab=896)


def smol(cache: Path) -> Model:
    root, n_vocab = cache / "smol", shapes.SMOL_VOCAB
    if not (root / "base.gguf").exists():
        root.mkdir(parents=True, exist_ok=True)
        shapes.save_smol(root / "model")
        make_tokenizer(root / "model")
        export_base(root / "model", root / "f16.gguf", "f16")
        _quantize(root / "f16.gguf", root / "base.gguf")
    base = root / "base.gguf"
    return Model("smol", root / "model", base, None, None, None, num_new=32, num_prompts=2, n_vocab=n_vocab)


def _quantize(source: Path, target: Path) -> None:
    import ctypes

    import llama_cpp.llama_cpp as lib

    params = lib.llama_model_quantize_default_params()
    params.ftype = lib.LLAMA_FTYPE_MOSTLY_Q8_0
    if lib.llama_model_quantize(os.fsencode(source), os.fsencode(target), ctypes.byref(params)) != 0:
        raise SystemExit(f"{source}: llama.cpp can't quantise it.")


MODELS = {"tiny": tiny, "smol": smol}


# ------------------------------------------------------------------------------------------------ the sides


def prompt(model: Model, index: int) -> list[int]:
    return [2 + (7 * i + index) % (min(model.n_vocab, 280) - 2) for i in range(NUM_PROMPT)]


class Ours:
    """Tokens a second of wall time, prompts and messages included; `details`: of the latest run."""

    def __init__(self, model: Model, k: int, threads: int, merged: bool = False, **settings: Any) -> None:
        self.model, self.k = model, k
        files = (model.merged, None) if merged and model.merged else (model.base, model.adapter_gguf)
        work = Work(NUM_PROMPT, model.num_new, k, num_requests=1000)
        self.sampler: LlamaProcess | LlamaPool = open_sampler(*files, n_threads=threads, work=work, **settings)
        self.details: dict[str, float] = {}

    def __call__(self) -> float:
        requests = [Request(str(i), prompt(self.model, i), self.k) for i in range(self.model.num_prompts)]
        params = SamplingParams(temperature=TEMPERATURE, max_new_tokens=self.model.num_new)
        start = time.perf_counter()
        num_tokens = sum(c.num_tokens for c in self.sampler.generate(requests, params, []))
        seconds = time.perf_counter() - start
        stats = self.sampler.stats
        self.details = {
            "decode_share": stats.decode_seconds / stats.total_seconds,
            "pick_share": stats.pick_seconds / stats.total_seconds,
            "steps": stats.num_steps,
        }
        return num_tokens / seconds


def ceiling(program: Path, model: Model, k: int, threads: int, unified: bool, flash: bool) -> Callable[[], float]:
    options = {"npp": NUM_PROMPT, "ntg": model.num_new, "npl": k, "threads": threads}
    return lambda: batched_bench.run(
        program, model.base, model.adapter_gguf, **options, unified=unified, flash_attention=flash
    )["speed_tg"]


def create_completion(model: Model, threads: int) -> Callable[[], float]:
    import llama_cpp.llama_cpp as llama_cpp
    from llama_cpp import Llama

    defaults = llama_cpp.llama_model_default_params
    if not amx.may_have_weights(str(model.base)):
        llama_cpp.llama_model_default_params = lambda: _without_repacking(defaults())
    adapter = str(model.adapter_gguf) if model.adapter_gguf else None
    llama = Llama(str(model.base), lora_path=adapter, n_ctx=512, n_threads=threads, verbose=False)
    llama_cpp.llama_model_default_params = defaults

    def measure() -> float:
        count, start = 0, time.perf_counter()
        for index in range(4):
            done: Any = llama.create_completion(
                prompt(model, index),
                max_tokens=model.num_new,
                temperature=TEMPERATURE,
                top_k=0,
                top_p=1.0,
                min_p=0.0,
            )
            count += done["usage"]["completion_tokens"]
        return count / (time.perf_counter() - start)

    return measure


def _without_repacking(params: Any) -> Any:
    params.use_extra_bufts = False
    return params


def transformers_generate(model: Model, threads: int, dtype: str, merged: bool = False) -> Callable[[], float]:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(threads)
    network: Any = AutoModelForCausalLM.from_pretrained(model.folder, dtype=getattr(torch, dtype))
    if model.adapter is not None:
        network = PeftModel.from_pretrained(network, model.adapter)
        network = network.merge_and_unload() if merged else network
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network.to(device).eval()
    ids = torch.tensor([prompt(model, 0)], device=device)
    settings = dict(do_sample=True, temperature=TEMPERATURE, top_k=0, num_return_sequences=64, eos_token_id=None)

    def measure() -> float:
        start = time.perf_counter()
        with torch.no_grad():
            out = network.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=model.num_new,
                pad_token_id=1,
                **settings,
            )
        return (out.shape[1] - NUM_PROMPT) * len(out) / (time.perf_counter() - start)

    return measure


# ------------------------------------------------------------------------------------------------ measuring


def sides(model: Model, k: int, options: argparse.Namespace, program: Path) -> dict[str, Callable[[], float]]:
    threads = options.threads
    found: dict[str, Callable[[], float]] = {
        "qrft unified": Ours(model, k, threads, n_seq_max=k, kv_unified=True),
        "qrft split": Ours(model, k, threads, n_seq_max=k, kv_unified=False),
        "qrft, its own choice": Ours(model, k, threads),
    }
    for unified, flash in itertools.product((True, False), (True, False)):
        name = f"batched-bench {'unified' if unified else 'split'} flash {'on' if flash else 'off'}"
        found[name] = ceiling(program, model, k, threads, unified, flash)
    if not options.ceiling_only:
        found["create_completion"] = create_completion(model, threads)
        for dtype in ("float32", "bfloat16"):
            found[f"transformers {dtype}"] = transformers_generate(model, threads, dtype)
            if model.merged is not None:
                found[f"merged: transformers {dtype}"] = transformers_generate(model, threads, dtype, merged=True)
    if model.merged is not None and not options.ceiling_only:
        found["merged: qrft, its own choice"] = Ours(model, k, threads, merged=True)
    return found


def measure(model: Model, k: int, options: argparse.Namespace, program: Path) -> dict[str, Any]:
    """Every side once a round, after a round that warms up. Speeds in tokens a second."""
    running = sides(model, k, options, program)
    speeds: dict[str, list[float]] = {name: [] for name in running}
    for round_ in range(options.rounds + 1):
        for name, run in running.items():
            speed = run()
            if round_:
                speeds[name].append(speed)
    medians = {name: statistics.median(found) for name, found in speeds.items()}
    shares = {name: run.details for name, run in running.items() if isinstance(run, Ours)}
    for run in running.values():
        if isinstance(run, Ours):
            run.sampler.close()
    against = ratios(model.name, medians)
    return {"model": model.name, "k": k, "tokens_per_second": medians, "shares": shares, "against": against} | {
        "all": speeds
    }


def ratios(model: str, medians: dict[str, float]) -> dict[str, Any]:
    """Ours in terms of the best of each side, and what is to be reached.

    Against llama-batched-bench the better of our caches with as many sequences; else as it comes.
    """
    found: dict[str, Any] = {}
    for side, bars in BARS.items():
        best = max((speed for name, speed in medians.items() if name.startswith(side)), default=0.0)
        if best:
            ours = medians["merged: qrft, its own choice" if side.startswith("merged") else "qrft, its own choice"]
            if side == "batched-bench":
                ours = max(medians["qrft unified"], medians["qrft split"])
            ratio = ours / best
            found[side] = {"ratio": round(ratio, 3), "bar": bars[model], "reached": ratio >= bars[model]}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", nargs="+", choices=sorted(MODELS), default=["tiny", "smol"])
    parser.add_argument("--num-samples", nargs="+", type=int, default=[32, 64])
    parser.add_argument("--ceiling-only", action="store_true", help="llama-batched-bench alone on the other side")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "sampling.json")
    options = parser.parse_args()
    quiet_libraries()
    program = batched_bench.build(options.cache)
    settings = {"temperature": TEMPERATURE, "prompt_tokens": NUM_PROMPT, "threads": options.threads}
    result: dict[str, Any] = {"machine": machine.describe(), **settings, "rounds": options.rounds, "figures": []}
    for name in options.models:
        model = MODELS[name](options.cache)
        result["settings_" + name] = {key: str(value) for key, value in asdict(model).items() if key != "folder"}
        for k in options.num_samples:
            figures = measure(model, k, options, program)
            result["figures"].append(figures)
            print(json.dumps({key: value for key, value in figures.items() if key != "all"}, indent=1), flush=True)
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
