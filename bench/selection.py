"""The selection of paths: its time, and its distances against RapidFuzz's on the pairs that the paper's rule compares.

    python bench/selection.py SAMPLES.jsonl GSM8K_TRAIN.jsonl [--repeats 5] [--out bench/results/selection.json]

One thread; processor seconds, so that other work on the machine counts little. SAMPLES: problem_id (the line of the
problems file), completion. RapidFuzz is measured twice: `cdist` of a row against the kept paths, called where the rule
needs it, and `cpdist` over all pairs in one call. The core's time is that of the whole choice, less that of
keep="first", which does the same without distances; where a bound decides, it does without the exact number.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
from machine import describe
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist, cpdist

from qrft import grading
from qrft.grading.rules import Keep, Selection


def read(samples: Path, problems: Path) -> tuple[list[str], list[int], pa.Table]:
    golds = [json.loads(line)["answer"].split("####")[1] for line in problems.open(encoding="utf-8")]
    rows = [json.loads(line) for line in samples.open(encoding="utf-8")]
    texts, ids = [row["completion"] for row in rows], [row["problem_id"] for row in rows]
    return texts, ids, grading.grade(texts, [golds[number] for number in ids])


def eligible_by_problem(ids: list[int], graded: pa.Table) -> list[list[int]]:
    found: dict[int, list[int]] = {}
    statuses, correct = graded["equations_status"].to_pylist(), graded["is_correct"].to_pylist()
    for row, number in enumerate(ids):
        if correct[row] and statuses[row] == "ok":
            found.setdefault(number, []).append(row)
    return list(found.values())


class Replay:
    """The paper's rule in Python over RapidFuzz: the kept rows, the pairs compared, and the seconds inside cdist."""

    def __init__(self, texts: list[str], problems: list[list[int]], keys: list[bytes]) -> None:
        self.texts, self.seconds = texts, 0.0
        self.left: list[str] = []
        self.right: list[str] = []
        self.kept = sorted(row for rows in problems for row in self.choose(rows, keys))

    def total(self, row: int, others: list[int]) -> int:
        queries, choices = [self.texts[row]], [self.texts[other] for other in others]
        start = time.process_time()
        distances = cdist(queries, choices, scorer=Levenshtein.distance, workers=1, dtype=np.int64)
        self.seconds += time.process_time() - start
        self.left += queries * len(choices)
        self.right += choices
        return int(distances.sum())

    def choose(self, rows: list[int], keys: list[bytes]) -> list[int]:
        kept: dict[bytes, int] = {}
        sums: dict[bytes, int] = {}  # of the kept rows, as long as nothing changes
        for row in rows:
            key = keys[row]
            others = [other for other_key, other in kept.items() if other_key != key]
            if key not in kept:
                kept[key], sums = row, {}
            elif others and self.texts[row] != self.texts[kept[key]]:
                if key not in sums:
                    sums[key] = self.total(kept[key], others)
                if self.total(row, others) > sums[key]:
                    kept[key], sums = row, {}
        return list(kept.values())


def seconds_of(work: Callable[[], object], repeats: int) -> float:
    """Return the median, after one run that warms up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("samples", type=Path)
    parser.add_argument("problems", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("bench/results/selection.json"))
    args = parser.parse_args()
    result = measure(args.samples, args.problems, args.repeats)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


def measure(samples: Path, problems: Path, repeats: int) -> dict[str, object]:
    texts, ids, graded = read(samples, problems)
    column, numbers = pa.array(texts, pa.large_string()), pa.array(ids)

    def choose(keep: Keep) -> Callable[[], object]:
        return lambda: grading.curate(column, numbers, graded, selection=Selection(keep=keep), num_threads=1)

    whole, without = seconds_of(choose("farthest"), repeats), seconds_of(choose("first"), repeats)
    replays = [Replay(texts, eligible_by_problem(ids, graded), graded["equation_key"].to_pylist()) for _ in range(2)]
    replay = replays[1]
    if grading.curate(column, numbers, graded).tolist() != replay.kept:
        raise SystemExit("the core and the rule over RapidFuzz keep different rows")

    def pairwise() -> object:
        return cpdist(replay.left, replay.right, scorer=Levenshtein.distance, workers=1)

    paired = seconds_of(pairwise, repeats)
    return {
        "num_samples": len(texts),
        "num_problems": len(set(ids)),
        "num_kept": len(replay.kept),
        "num_pairs": len(replay.left),
        "core_selection_seconds": round(whole, 4),
        "core_selection_without_distances_seconds": round(without, 4),
        "rapidfuzz_cdist_seconds": round(replay.seconds, 4),
        "rapidfuzz_cpdist_seconds": round(paired, 4),
        "times_faster_than_cdist": round(replay.seconds / (whole - without), 2),
        "times_faster_than_cpdist": round(paired / (whole - without), 2),
        "repeats": repeats,
        "machine": {**describe(), "rapidfuzz": version("rapidfuzz")},
    }


if __name__ == "__main__":
    main()
