"""Picking tokens against llama.cpp's own sampler chains, in the same process, on one thread; and on all cores.

    python bench/picking.py [--rows 32] [--vocabulary 151936] [--rounds 7]

Both see the same logits, in turns. The figures are medians of the thread's own seconds, so that another program on the
core counts little. llama.cpp's array of candidates is filled before the clock starts, and qrft's log-probabilities,
which llama.cpp does not give, are within. Rows: normal logits of deviation 1 and 4, and the words of a language model's
shape, whose logits fall with the logarithm of the rank. All cores against one thread: wall time, in turns; on two idle
cores 1.8 times is to be reached.
Writes picking.json into bench/results.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as llama
import machine
import numpy as np

from qrft.sampling.api import SamplingParams
from qrft.sampling.backends.picking import Picker

CANDIDATE = np.dtype([("id", "<i4"), ("logit", "<f4"), ("p", "<f4")])
TEMPERATURE, TOP_P, TOP_K, MIN_P = 0.7, 0.95, 40, 0.05


def temp() -> Any:
    return llama.llama_sampler_init_temp(TEMPERATURE)


def top_p() -> Any:
    return llama.llama_sampler_init_top_p(TOP_P, 1)


# What qrft is asked for, and the chain that does the same. In the last, llama.cpp's usual order, top_p comes first.
PAIRS: dict[str, tuple[SamplingParams, list[Callable[[], Any]]]] = {
    "temperature": (SamplingParams(temperature=TEMPERATURE), [temp]),
    "top_p": (SamplingParams(temperature=TEMPERATURE, top_p=TOP_P), [temp, top_p]),
    "top_k": (
        SamplingParams(temperature=TEMPERATURE, top_k=TOP_K),
        [lambda: llama.llama_sampler_init_top_k(TOP_K), temp],
    ),
    "min_p": (
        SamplingParams(temperature=TEMPERATURE, min_p=MIN_P),
        [temp, lambda: llama.llama_sampler_init_min_p(MIN_P, 1)],
    ),
    "top_p before temperature": (SamplingParams(temperature=TEMPERATURE, top_p=TOP_P), [top_p, temp]),
}


def make_rows(rows: int, vocabulary: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    ranks = np.stack([rng.permutation(vocabulary) for _ in range(rows)]) + 1
    made = {
        "normal, 1": rng.normal(0, 1, (rows, vocabulary)),
        "normal, 4": rng.normal(0, 4, (rows, vocabulary)),
        "words": 20 - 1.5 * np.log(ranks) + rng.normal(0, 1, (rows, vocabulary)),
    }
    return {name: logits.astype(np.float32) for name, logits in made.items()}


def llama_seconds(chain: Any, logits: np.ndarray) -> float:
    """Return the seconds of applying the chain to each row; the tokens are thrown away."""
    seconds = 0.0
    candidates = np.zeros(logits.shape[1], CANDIDATE)
    data_type = type(llama.llama_token_data_array().data)
    for row in logits:
        candidates["id"], candidates["logit"] = np.arange(len(row)), row
        data = ctypes.cast(candidates.ctypes.data, data_type)
        array = llama.llama_token_data_array(data=data, size=len(row), selected=-1, sorted=False)
        start = time.thread_time()
        llama.llama_sampler_apply(chain, ctypes.byref(array))
        seconds += time.thread_time() - start
    return seconds


def measure(
    params: SamplingParams, parts: list[Callable[[], Any]], logits: np.ndarray, rounds: int
) -> dict[str, float]:
    """Return microseconds per row."""
    chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
    for part in (*parts, lambda: llama.llama_sampler_init_dist(1)):
        llama.llama_sampler_chain_add(chain, part())
    picker = Picker(params, *logits.shape)
    keys, positions = np.arange(len(logits), dtype=np.uint64), np.zeros(len(logits), np.int64)
    ours, theirs = [], []
    for _ in range(rounds + 1):
        theirs.append(llama_seconds(chain, logits))
        start = time.thread_time()
        picker.pick(logits, keys, positions)
        ours.append(time.thread_time() - start)
    llama.llama_sampler_free(chain)
    qrft_us, llama_us = (statistics.median(times[1:]) / len(logits) * 1e6 for times in (ours, theirs))
    return {"qrft": round(qrft_us, 1), "llama.cpp": round(llama_us, 1), "times": round(llama_us / qrft_us, 1)}


def tiny_call_microseconds() -> float:
    """Return the microseconds of one call over 16 rows of the tiny base's vocabulary, with Python's part."""
    logits = np.random.default_rng(0).normal(0, 2, (16, 1024)).astype(np.float32)
    picker = Picker(SamplingParams(temperature=TEMPERATURE), 16, 1024)
    keys, positions = np.arange(16, dtype=np.uint64), np.zeros(16, np.int64)
    times = []
    for _ in range(2000):
        start = time.thread_time()
        picker.pick(logits, keys, positions)
        times.append(time.thread_time() - start)
    return statistics.median(times) * 1e6


def all_cores(rows: int, vocabulary: int, rounds: int) -> dict[str, dict[str, float]]:
    """Return milliseconds a call of one thread and of one per core, by what is asked for."""
    logits, cores = make_rows(rows, vocabulary)["words"], len(os.sched_getaffinity(0))
    keys, positions = np.arange(rows, dtype=np.uint64), np.zeros(rows, np.int64)
    found = {}
    for name in ("temperature", "top_p"):
        pickers = {num: Picker(PAIRS[name][0], rows, vocabulary, num) for num in (1, cores)}
        times: dict[int, list[float]] = {num: [] for num in pickers}
        for _ in range(10 * rounds):
            for num, picker in pickers.items():
                start = time.perf_counter()
                picker.pick(logits, keys, positions)
                times[num].append(time.perf_counter() - start)
        one, all_ = (statistics.median(times[num]) * 1e3 for num in (1, cores))
        found[name] = {"1": round(one, 2), str(cores): round(all_, 2), "times": round(one / all_, 2)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--vocabulary", type=int, default=151_936)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    result: dict[str, Any] = {"machine": machine.describe(), "rows": args.rows, "vocabulary": args.vocabulary}
    for shape, logits in make_rows(args.rows, args.vocabulary).items():
        for name, (params, parts) in PAIRS.items():
            figures = measure(params, parts, logits, args.rounds)
            result.setdefault("microseconds_a_row", {}).setdefault(shape, {})[name] = figures
            print(f"{shape:10} {name:25} {figures}", flush=True)
    result["tiny_call_microseconds"] = round(tiny_call_microseconds(), 1)
    print(f"16 rows of 1,024, a call: {result['tiny_call_microseconds']} us")
    for rows in (args.rows, 2 * args.rows):
        result.setdefault("milliseconds_by_threads", {})[rows] = found = all_cores(rows, args.vocabulary, args.rounds)
        print(f"{rows} rows, a call by threads: {found}")
    Path(__file__).with_name("results").joinpath("picking.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
