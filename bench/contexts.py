"""The ways of using llama.cpp's contexts, each against the others in one run.

    python bench/contexts.py BASE.gguf [--adapter LORA.gguf --merged MERGED.gguf] [--live 32 64 127 240]
        [--cache unified split] [--overlap off on] [--threads 1 16] [--new 64] [--rounds 3] [--out FILE]

Rows: so many live sequences; one cache or a part for each; the adapter at run time or merged; two contexts in turns or
one; so many threads, which decode on a processor and pick tokens everywhere. Samples of `--new` tokens, 8 of a prompt
of 64, that never end by themselves, as many as live. Medians of rounds, all rows once a round, after one that warms up.
Run alone on the machine. Writes bench/results/contexts.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import machine

from qrft.errors import SamplerError
from qrft.sampling.api import Request, SamplingParams
from qrft.sampling.backends.llama_cpp.process import LlamaProcess

NUM_PROMPT, SAMPLES_OF_A_PROMPT = 64, 8


@dataclass(frozen=True)
class Row:
    """A way of using contexts. `is_merged`: None where there is no adapter."""

    live: int
    is_unified: bool
    is_merged: bool | None
    overlap: bool
    threads: int

    def __str__(self) -> str:
        adapter = {None: "", False: "LoRA, ", True: "merged, "}[self.is_merged]
        contexts = "two contexts" if self.overlap else "one context"
        cache = "unified" if self.is_unified else "split"
        return f"{self.live} live, {cache}, {adapter}{contexts}, {self.threads} threads"


@dataclass(frozen=True)
class Files:
    base: Path
    adapter: Path | None = None
    merged: Path | None = None

    def of(self, row: Row) -> tuple[Path, Path | None]:
        if row.is_merged:
            assert self.merged is not None
            return self.merged, None
        return self.base, None if row.is_merged is None else self.adapter


def open_row(files: Files, row: Row) -> LlamaProcess:
    settings = dict(n_seq_max=row.live, kv_unified=row.is_unified, overlap=row.overlap, n_threads=row.threads)
    return LlamaProcess(*files.of(row), **settings)


def measure(process: LlamaProcess, row: Row, num_new: int) -> dict[str, float]:
    """Sample once. Return tokens a second of wall time, prompts included, and milliseconds a step of each kind.

    With two contexts a step goes over half of the sequences. The rest of a step's time is Python's.
    """
    num_prompts = -(-row.live // SAMPLES_OF_A_PROMPT)
    requests = [Request(str(i), _prompt(process, i), SAMPLES_OF_A_PROMPT) for i in range(num_prompts)]
    params = SamplingParams(temperature=0.7, max_new_tokens=num_new)
    start = time.perf_counter()
    num_tokens = sum(done.num_tokens for done in process.generate(requests, params, []))
    seconds, stats = time.perf_counter() - start, process.stats
    milliseconds = {"decode": stats.decode_seconds, "pick": stats.pick_seconds, "all": stats.total_seconds}
    return {"tokens_per_second": num_tokens / seconds} | {
        f"{kind}_ms": 1e3 * spent / stats.num_steps for kind, spent in milliseconds.items()
    }


def _prompt(process: LlamaProcess, index: int) -> list[int]:
    return [3 + (7 * i + index) % (min(process.n_vocab, 280) - 3) for i in range(NUM_PROMPT)]


def compare(files: Files, rows: Sequence[Row], num_new: int, rounds: int) -> list[dict[str, Any]]:
    """Return the medians of each row. One that llama.cpp can't run, for want of memory, has the reason instead."""
    found: dict[Row, list[dict[str, float]]] = {row: [] for row in rows}
    faults: dict[Row, str] = {}
    for number, row in itertools.product(range(rounds + 1), rows):
        if row in faults:
            continue
        try:
            with open_row(files, row) as process:
                figures = measure(process, row, num_new)
        except SamplerError as error:
            faults[row] = str(error)
            continue
        if number:
            found[row].append(figures)
    return [asdict(row) | ({"fault": faults[row]} if row in faults else _medians(found[row])) for row in rows]


def _medians(figures: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: round(statistics.median(each[name] for each in figures), 2) for name in figures[0]}


def rows_of(
    files: Files, live: Sequence[int], caches: Sequence[bool], overlaps: Sequence[bool], threads: Sequence[int]
) -> list[Row]:
    """Return every combination of what is given."""
    merged: list[bool | None] = [None] if files.adapter is None else [False]
    if files.merged is not None:
        merged = [*merged, True]
    return [Row(*values) for values in itertools.product(live, caches, merged, overlaps, threads)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("--adapter", type=Path)
    parser.add_argument("--merged", type=Path)
    parser.add_argument("--live", nargs="+", type=int, default=[32, 64, 127, 240])
    parser.add_argument("--cache", nargs="+", choices=["unified", "split"], default=["unified", "split"])
    parser.add_argument("--overlap", nargs="+", choices=["on", "off"], default=["off", "on"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "contexts.json")
    options = parser.parse_args()
    files = Files(options.base, options.adapter, options.merged)
    caches, overlaps = (
        [name == first for name in names] for names, first in ((options.cache, "unified"), (options.overlap, "on"))
    )
    rows = rows_of(files, options.live, caches, overlaps, options.threads)
    figures = compare(files, rows, options.new, options.rounds)
    for row, values in zip(rows, figures, strict=True):
        print(f"{row}: {values.get('fault') or {k: v for k, v in values.items() if k not in asdict(row)}}", flush=True)
    result = {"machine": machine.describe(), "base": options.base.name, "figures": figures}
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
