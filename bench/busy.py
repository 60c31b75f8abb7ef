"""The tiny world beside other busy programs: training on threads and on processes, sampling, and the whole demo.

    python bench/busy.py [--rounds 3] [--steps 40] [--demo]

A busy program is an endless loop of Python. Speeds are medians of real tokens per second, the sides in turns; what
differs from run to run is the number of busy programs, so nothing else may run. Writes busy.json into bench/results.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import machine

RECIPE = Path(__file__).parents[1] / "recipes" / "tiny.yaml"
LOOP = "while True: sum(i * i for i in range(10_000))"
TRAINING = ("threads", "one thread", "processes")
SIDES = (*(f"training on {kind}" for kind in TRAINING), "sampling")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--demo", action="store_true", help="Time the whole demo as well: 10 to 20 minutes.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "busy.json")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(sample() if options.side == "sampling" else train(options.side, options.steps))
        return
    figures: dict[str, Any] = {}
    for number in (0, 1, 2):
        with busy_programs(number):
            figures[f"{number} busy programs"] = measure(options)
        print(json.dumps(figures), file=sys.stderr, flush=True)
    options.out.write_text(json.dumps({"machine": machine.describe(), "figures": figures}, indent=1) + "\n")


@contextmanager
def busy_programs(number: int) -> Iterator[None]:
    programs = [subprocess.Popen([sys.executable, "-c", LOOP]) for _ in range(number)]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def measure(options: argparse.Namespace) -> dict[str, Any]:
    speeds: dict[str, list[float]] = {side: [] for side in SIDES}
    for _ in range(options.rounds):
        for side, measured in speeds.items():
            measured.append(speed(side, options.steps))
    figures: dict[str, Any] = {f"{side}, tokens/s": round(statistics.median(each)) for side, each in speeds.items()}
    if options.demo:
        figures["demo, seconds"] = round(demo())
    return figures


def speed(side: str, steps: int) -> float:
    """Measure in a process of its own: torch keeps the threads that it has once started."""
    command = [sys.executable, __file__, "--side", side, "--steps", str(steps)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1])


def train(side: str, steps: int) -> float:
    import torch

    from qrft.config.load import load
    from qrft.config.training import Training
    from qrft.data.problems.tiny_math import problems
    from qrft.models.find import find_model
    from qrft.models.prompts import example, load_tokenizer
    from qrft.training import memory, replicas, trainer

    base = find_model("tiny-base")
    once = {"checkpoint_minutes": 1e6, "num_epochs": 1.0, "prompt": "plain"}
    settings = memory.fit_here(Training.model_validate(load(RECIPE).train.model_dump() | once), base)
    tokenizer, number = load_tokenizer(base), steps * settings.batch_size
    rows = [example(tokenizer, row["question"], row["solution"], "plain") for row in problems("train", 0, number)]
    processes = replicas.num_processes(settings.batch_size, None) if side.endswith("processes") else 1
    if side.endswith("one thread"):
        torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        places = Path(folder) / "out", Path(folder) / "work"
        facts = trainer.train(base, rows, tokenizer, settings, *places, lambda *_: None, None, processes)
    return float(facts["tokens_per_second"])


def sample() -> float:
    from qrft.data.problems.tiny_math import problems
    from qrft.models.find import find_model
    from qrft.models.gguf.prepare import prepare_base
    from qrft.models.prompts import load_tokenizer
    from qrft.sampling.api import Request, SamplingParams
    from qrft.sampling.backends.llama_cpp.pool import open_sampler

    tokenizer = load_tokenizer(find_model("tiny-base"))
    texts = [row["question"] + "\n" for row in problems("train", 0, 60)]
    requests = [Request(str(i), tokenizer.encode(text), num_samples=30) for i, text in enumerate(texts)]
    with open_sampler(prepare_base("tiny-base", quant="f32")) as sampler:
        start = time.perf_counter()
        for _ in sampler.generate(requests, SamplingParams(max_new_tokens=96), [tokenizer.eos_token_id]):
            pass
        return sampler.stats.num_tokens / (time.perf_counter() - start)


def demo() -> float:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "qrft", "run", str(RECIPE)]
        start = time.perf_counter()
        subprocess.run(
            command, check=True, capture_output=True, cwd=folder, env={**os.environ, "XDG_CACHE_HOME": folder}
        )
        return time.perf_counter() - start


if __name__ == "__main__":
    main()
