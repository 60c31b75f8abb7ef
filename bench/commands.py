"""Whole-process times of `qrft curate` and `grade`: on 747,300 samples, and how they grow from 1 to 10 million.

    python bench/commands.py SAMPLES.jsonl PROBLEMS.jsonl [--threads 2] [--keep K] [--repeat 3] [--scale] [--out FILE]

SAMPLES: as many samples of GSM8K's training problems as are to be measured, with problem_id the row number. For
`--scale` they are repeated for copies of the problems up to 1 and 10 million rows: 4 GB in the temporary folder.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import machine
import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq

ROWS_OF = {"1 million": 1_000_000, "10 million": 10_000_000}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("samples", type=Path)
    parser.add_argument("problems", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--keep", default="farthest")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--scale", action="store_true")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "commands.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = dict(measure(options, Path(folder)))
    whole = {"machine": machine.describe(), "threads": options.threads, "keep": options.keep, "figures": figures}
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(whole, indent=1) + "\n")
    print(json.dumps(whole, indent=1))


def measure(options: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Any]]:
    parquet = folder / "samples.parquet"
    with pa.json.open_json(options.samples) as reader, pq.ParquetWriter(parquet, reader.schema) as writer:
        for batch in reader:  # a table of all would count as memory of the processes that are measured
            writer.write_batch(batch)
    for name, samples in (("JSONL", options.samples), ("Parquet", parquet)):
        for command, output in (("curate", "training.jsonl"), ("grade", "graded.parquet")):
            yield f"{command} {name}", best(options, command, samples, options.problems, folder / output)
    for name, num_rows in ROWS_OF.items() if options.scale else ():
        samples, problems = grown(options, num_rows, folder)
        yield f"curate JSONL, {name} rows", best(options, "curate", samples, problems, folder / "training.jsonl")
        samples.unlink()


def grown(options: argparse.Namespace, num_rows: int, folder: Path) -> tuple[Path, Path]:
    """The samples and their problems again and again, each copy with ids of its own, cut at `num_rows`."""
    samples, problems = folder / "grown.jsonl", folder / "problems.jsonl"
    texts = options.problems.read_bytes().splitlines(keepends=True)
    with samples.open("w", encoding="utf-8") as file:
        for copy, line in itertools.islice(repeated(options.samples), num_rows):
            row = json.loads(line)
            row["problem_id"] += copy * len(texts)
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    problems.write_bytes(b"".join(texts * (copy + 1)))
    return samples, problems


def repeated(path: Path) -> Iterator[tuple[int, str]]:
    """Its lines without end, each with how often it came before."""
    for copy in itertools.count():
        with path.open(encoding="utf-8") as file:
            for line in file:
                yield copy, line


def best(options: argparse.Namespace, command: str, samples: Path, problems: Path, output: Path) -> dict[str, Any]:
    """The fastest of the runs, each a process of its own."""
    words = [command, samples, "--problems", problems, "-o", output, "--threads", options.threads, "--json"]
    words += ["--keep", options.keep] if command == "curate" else []
    runs = [run([sys.executable, "-m", "qrft", *map(str, words)]) for _ in range(options.repeat)]
    fastest = min(runs, key=lambda figures: figures["seconds"])
    print(command, samples.name, fastest, file=sys.stderr)
    return fastest | {"runs": [figures["seconds"] for figures in runs]}


def run(words: list[str]) -> dict[str, Any]:
    start = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    printed = process.stdout.read()  # type: ignore[union-attr]
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(words)}: ended with {status}")
    facts = json.loads(printed)
    return {
        "seconds": round(time.perf_counter() - start, 2),
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_memory_mib": usage.ru_maxrss // 1024,
        "num_samples": facts["num_samples"],
        "num_kept": facts.get("num_kept"),
    }


if __name__ == "__main__":
    main()
