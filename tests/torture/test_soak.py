"""The loop again and again in one process, and very many samples: memory stays flat, and nothing stays open."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from helpers.commands import environment, python, run_process
from helpers.torture import RECIPE, Told, counts

from qrft.data.problems import registry
from qrft.data.schema import SAMPLES

LOOP = """
    import ctypes, gc, json, os, shutil, sys, threading
    from pathlib import Path
    from helpers.processes import children
    from qrft.cli import actions
    from qrft.cli.console import Terminal

    folder, trials = Path(sys.argv[1]), int(sys.argv[2])
    found = []
    for number in range(trials):
        out = folder / "out"
        actions.run(str(folder / "r.yaml"), [f"seed={number}"], out, Terminal())
        shutil.rmtree(out)
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        handles = len(os.listdir("/proc/self/fd"))
        found.append([resident, handles, threading.active_count(), len(children(os.getpid()))])
    print(json.dumps(found))
"""
MIB = 1 << 20


@counts(4, 50, is_slow=True)
def test_the_loop_again_and_again_in_one_process(trials: int, tmp_path: Path, told: Told) -> None:
    (tmp_path / "r.yaml").write_text(RECIPE)
    tests = str(Path(__file__).parents[1])
    variables = {"PYTHONPATH": f"{environment()['PYTHONPATH']}:{tests}", "OMP_NUM_THREADS": "1"}
    done = run_process(python(LOOP, tmp_path, trials), XDG_CACHE_HOME=str(tmp_path / "cache"), **variables)
    found = json.loads(done.stdout.splitlines()[-1])
    resident, handles, threads, processes = zip(*found, strict=True)
    assert max(resident[3:]) - resident[2] < 16 * MIB, [round(value / MIB) for value in resident]
    assert len(set(handles[2:])) == 1, handles
    assert max(threads[2:]) == threads[2] and set(processes) == {0}, (threads, processes)
    sizes = f"{resident[2] / MIB:.0f} MiB after the third round, {resident[-1] / MIB:.0f} after the last"
    told(trials, f"{sizes}; {handles[-1]} files open")


PROBLEMS = 1000
MEASURED = """
    import json, resource, sys
    from qrft.cli.main import main
    try:
        main(sys.argv[1:])
    finally:
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@counts(200_000, 20_000_000)
def test_very_many_samples_are_graded_and_curated(trials: int, tmp_path: Path, draw: random.Random, told: Told) -> None:
    """Memory grows by some bytes a sample (docs/commands.md), and not by the texts."""
    table = registry.draw("tiny-math/train", 1, PROBLEMS)
    pq.write_table(table, tmp_path / "problems.parquet")
    written(table, tmp_path / "samples.parquet", trials, draw)
    problems = ["--problems", tmp_path / "problems.parquet", "-o"]
    peaks = {}
    for command, output in (("grade", "graded.parquet"), ("curate", "training.parquet")):
        words = [command, tmp_path / "samples.parquet", *problems, tmp_path / output]
        done = run_process(python(MEASURED, *words))
        peaks[command] = int(done.stdout.split()[-1])
        bound = 1536 * MIB + 24 * trials
        assert peaks[command] < bound, f"{command}: {peaks[command] / MIB:.0f} MiB"
    assert pq.read_metadata(tmp_path / "graded.parquet").num_rows == trials
    told(trials, ", ".join(f"{command} in {peak / MIB:.0f} MiB" for command, peak in peaks.items()))


def written(problems: pa.Table, path: Path, number: int, draw: random.Random) -> None:
    """Write samples of all problems: the gold solution, right in other words, or wrong."""
    solutions = problems["solution"].to_pylist()
    per_problem = number // PROBLEMS
    with pq.ParquetWriter(path, SAMPLES) as writer:
        for first in range(0, per_problem, 100):
            size = min(100, per_problem - first)
            kinds = [(text, f"So: {text}", text.replace("1", "2")) for text in solutions]
            texts = [draw.choice(three) for three in kinds for _ in range(size)]
            rows = {
                "problem_id": [i for i in problems["problem_id"].to_pylist() for _ in range(size)],
                "model": ["m"] * len(texts),
                "sample_index": [*range(first, first + size)] * PROBLEMS,
                "completion": texts,
                "finish_reason": ["stop"] * len(texts),
                "num_tokens": [9] * len(texts),
                "logprob": [-1.0] * len(texts),
            }
            writer.write_table(pa.table(rows, schema=SAMPLES))
