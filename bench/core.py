"""The C core against its limits: the paper's public script, and the memory.

    python bench/core.py --data ../shared/data --samples samples.jsonl [--script collect_rejection_sampling.py]

`--samples` are solutions of GSM8K's training set: problem_id (the row number), sample_index, completion. The script
takes all problems, at least 7,001, and a few samples of each; it needs a minute for 150,000. Run alone on the machine.
Writes core.json into bench/results.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine
import paper_script
import pyarrow as pa
import pyarrow.parquet as pq

from qrft import grading

ROUNDS = 7


def seconds(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Return the median of several, after one that warms up."""
    work()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def once(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def memory_passes(column: pa.Array) -> dict[str, float]:
    """Return the GB/s of the passes in memory_pass.c over the column's bytes."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "memory_pass.so"
        source = Path(__file__).with_name("memory_pass.c")
        subprocess.run(["cc", "-O3", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
        functions = ctypes.CDLL(str(library))
    data = column.buffers()[2]
    arguments = (ctypes.c_void_p(data.address), ctypes.c_int64(data.size))
    return {
        name: data.size / seconds(lambda name=name: getattr(functions, name)(*arguments)) / 1e9
        for name in ("count_newlines", "find_nothing")
    }


def in_memory(samples: pa.Table, gold: list[str], script: Path | None) -> dict[str, Any]:
    """Measure grading a column in memory: per text, against the passes, and against the script's functions."""
    texts = pa.chunked_array([samples["completion"].combine_chunks().cast(pa.large_string())])
    ids = samples["problem_id"].combine_chunks().cast(pa.int32())
    golds = pa.chunked_array([pa.DictionaryArray.from_arrays(ids, pa.array(gold))])
    num_bytes = texts.chunk(0).buffers()[2].size
    one, two = (seconds(lambda n=n: grading.grade(texts, golds, num_threads=n)) for n in (1, 2))
    result = {
        "num_texts": len(texts),
        "megabytes": num_bytes / 1e6,
        "ns_per_text": one / len(texts) * 1e9,
        "gb_per_second": num_bytes / one / 1e9,
        "two_threads_times": one / two,
        **{f"{name}_gb_per_second": value for name, value in memory_passes(texts.chunk(0)).items()},
    }
    if script:
        module, strings = paper_script.load(script), texts.to_pylist()
        result["script_ns_per_text"] = once(lambda: paper_script.grade(module, strings)) / len(texts) * 1e9
        result["script_times"] = result["script_ns_per_text"] / result["ns_per_text"]
    return result


def curate(samples: Path, problems: Path, out: Path, mode: str = "default") -> float:
    """Return the seconds of the whole process, on two threads."""
    qrft = [sys.executable, "-c", "from qrft.cli.main import main; main()", "curate"]
    command = [*qrft, str(samples), "--problems", str(problems), "-o", str(out), "--mode", mode, "--threads", "2"]
    return once(lambda: subprocess.run([*command, "--json"], check=True, capture_output=True))


def whole(
    samples: pa.Table, jsonl: Path, problems_file: Path, problems: list[Any], script: Path | None
) -> dict[str, Any]:
    """Measure from a file to training.jsonl, and the script from its own files to its own; compare what both keep."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parquet, out = folder / "samples.parquet", folder / "training.jsonl"
        pq.write_table(samples, parquet)
        result: dict[str, Any] = {"num_samples": samples.num_rows}
        for kind, path in (("parquet", parquet), ("jsonl", jsonl)):
            result[f"{kind}_seconds"] = statistics.median(curate(path, problems_file, out) for _ in range(4))
        if script:
            module = paper_script.load(script)
            columns = (samples[name].to_pylist() for name in ("problem_id", "sample_index", "completion"))
            num_files = paper_script.write_inputs(folder, problems, zip(*columns, strict=True))
            result["script_seconds"] = once(lambda: paper_script.collect(module, folder, num_files))
            for kind in ("parquet", "jsonl"):
                result[f"{kind}_times"] = result["script_seconds"] / result[f"{kind}_seconds"]
            result["paper_mode_seconds"] = curate(parquet, problems_file, out, "paper")
            result.update(agreement(list(paper_script.kept(folder, num_files)), out))
        return result


def agreement(theirs: list[tuple[str, str]], out: Path) -> dict[str, Any]:
    """Count the rows of the two training sets that are the same, place by place."""
    with out.open(encoding="utf-8") as file:
        ours = [(row["question"].strip(), row["completion"].strip()) for row in map(json.loads, file)]
    same = sum((q.strip(), text.strip()) == row for (q, text), row in zip(theirs, ours, strict=False))
    return {"script_rows": len(theirs), "paper_mode_rows": len(ours), "same_rows": same}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="The folder that holds gsm8k/train.jsonl.")
    parser.add_argument("--samples", type=Path, required=True)
    parser.add_argument("--script", type=Path)
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    parser.add_argument("--name", default="core")
    args = parser.parse_args()
    problems_file = args.data / "gsm8k" / "train.jsonl"
    problems = [json.loads(line) for line in problems_file.read_text(encoding="utf-8").splitlines()]
    gold = [problem["answer"].rpartition("####")[2].strip() for problem in problems]
    with args.samples.open(encoding="utf-8") as file:
        samples = pa.Table.from_pylist([json.loads(line) for line in file])
    result = {
        "grade": in_memory(samples, gold, args.script),
        "curate": whole(samples, args.samples, problems_file, problems, args.script),
        "machine": machine.describe(),
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / f"{args.name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
