"""All that has to be measured on a GPU, by one command: one table, ten minutes, each part within its own time.

    python bench/gpu.py [--parts checks training ...] [--cache FOLDER] [--batched-bench PROGRAM] [--out FILE]
    python bench/gpu.py --rehearse

In order of risk: what is installed and sees the GPU; llama.cpp's logits against transformers'; tests, resuming and
memory after trainings; training of a 1.5B by each way of attention and optimizer, beside a padded Trainer, TRL and
Unsloth; the loss in chunks; a 7B in 8 GiB; sampling of the 1.5B by each way of using llama.cpp, beside
llama-batched-bench, transformers.generate and vLLM; a 7B in q8_0. What is not installed is told. Weights are random,
made on the GPU. A part that outruns its time is ended, with all that it started; its rows so far stay.

--rehearse runs the same code on small shapes, without a GPU too. Needed besides qrft: pytest for the tests, and 15 GB
in the cache. Run alone on the machine. Writes bench/results/gpu.json row by row, and prints the table.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import machine

SECONDS = {  # of each part; together ten minutes
    "machine": 45,
    "parity": 60,
    "checks": 60,
    "training": 120,
    "segments": 30,
    "loss": 25,
    "memory": 60,
    "sampling": 100,
    "others": 50,
    "large": 50,
}
BESIDE = {"segments": "training", "others": "sampling"}  # whose first row theirs are measured by
HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=SECONDS, default=list(SECONDS))
    parser.add_argument("--rehearse", action="store_true", help="Run it all on small shapes; a GPU is not needed.")
    parser.add_argument(
        "--cache", type=Path, default=Path(tempfile.gettempdir()) / "qrft-gpu", help="Keeps the models."
    )
    parser.add_argument("--batched-bench", type=Path, help="llama-batched-bench, built from the installed release.")
    parser.add_argument("--out", type=Path, help="By default gpu.json, or gpu-rehearsal.json, in bench/results.")
    options = parser.parse_args()
    gpu = machine.gpu()
    if gpu == "none" and not options.rehearse:
        parser.error("there is no GPU here (no nvidia-smi); give --rehearse to run it all on small shapes")
    out = options.out or HERE / "results" / f"gpu{'-rehearsal' if options.rehearse else ''}.json"
    result: dict[str, Any] = {"machine": machine.describe(), "rehearsal": options.rehearse, "rows": [], "seconds": {}}
    print(heading(gpu, options.rehearse), flush=True)
    for part in options.parts:
        start = time.monotonic()
        for row in run(part, options):
            result["rows"].append({"part": part, **row})
            print(f"  {part}: {row['what']}: {row['words']}", file=sys.stderr, flush=True)
            write(out, result)
        result["seconds"][part] = round(time.monotonic() - start, 1)
        write(out, result)
    print(table(result["rows"]))
    print(f"\n{sum(result['seconds'].values()):.0f} s. {machine.in_words()}")


def heading(gpu: str, is_rehearsal: bool) -> str:
    if not is_rehearsal:
        return gpu
    where = "no GPU" if gpu == "none" else gpu
    return f"{where}: rehearsal on small shapes. The figures say that the code runs, and nothing of speed."


def write(out: Path, result: dict[str, Any]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def run(part: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the rows of a part as its process prints them, and one that says so when it fails or outruns its time."""
    command = [sys.executable, str(HERE / "gpu_parts.py"), part, "--cache", str(options.cache)]
    command += ["--rehearse"] if options.rehearse else []
    command += ["--batched-bench", str(options.batched_bench)] if options.batched_bench else []
    lines: queue.Queue[str | None] = queue.Queue()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True)
        reader = threading.Thread(target=_read, args=(process, lines))
        reader.start()
        try:
            yield from _rows(lines, time.monotonic() + SECONDS[part])
            if process.wait(timeout=10):
                errors.seek(0)
                said = errors.read().strip().splitlines() or [""]
                yield {"what": "-", "words": f"the part failed: {said[-1][:200]}", "figures": {"stderr": said[-20:]}}
        except (TimeoutError, subprocess.TimeoutExpired):
            yield {"what": "-", "words": f"ended after its {SECONDS[part]} s", "figures": {}}
        finally:
            _end(process)
            reader.join()


def _read(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            lines.put(line)
    lines.put(None)


def _rows(lines: queue.Queue[str | None], deadline: float) -> Iterator[dict[str, Any]]:
    """Yield what is printed until the end. Raises TimeoutError at the deadline."""
    while True:
        try:
            line = lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise TimeoutError from None
        if line is None:
            return
        if line.startswith('{"what"'):
            yield json.loads(line)


def _end(process: subprocess.Popen[str]) -> None:
    """End what is left of the part, and what it started: they are a session of their own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def table(rows: list[dict[str, Any]]) -> str:
    """Lay the rows out in Markdown; speeds are told in terms of the first of their kind too."""
    firsts: dict[str, float] = {}
    cells = [("part", "what", "times the first", "measured"), ("---",) * 4]
    for row in rows:
        kind, speed = BESIDE.get(row["part"], row["part"]), row["figures"].get("tokens_per_second")
        times = f"{speed / firsts.setdefault(kind, speed):.2f}" if speed else ""
        cells.append((row["part"], row["what"], times, row["words"]))
    widths = [max(len(row[i]) for row in cells) for i in range(3)]
    return "\n".join("| " + " | ".join([*map(str.ljust, row[:3], widths), row[3]]) + " |" for row in cells)


if __name__ == "__main__":
    main()
