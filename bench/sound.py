"""What is called a sound path: worked solutions, which are right, and the same ones broken. And what judging costs.

    python bench/sound.py --data ../shared/data [--samples samples.jsonl]

`--data` holds gsm8k/train.jsonl. Each solution is broken in three ways: a line with a step is left out (*dropped*), or
stands there a second time (*repeated*), or one number of an equation is another one and its result follows (*replaced*;
half of the time the other number is one of the question's). Everything else stays as it is, the answer too. Only
solutions called sound are broken, and what is called unsound then is caught. `--samples` (problem_id, the row number,
and completion) are graded with soundness and without, in turns, in memory and as `qrft grade` does it, its start aside.
Writes sound.json into bench/results.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine
import pyarrow as pa
import pyarrow.parquet as pq

from qrft import grading
from qrft.commands import grade as grade_files
from qrft.commands.grading import Task
from qrft.grading.reference.equations import EquationReader, check_equation

EQUATION = re.compile(r"<<([^<>=]*)=([\d.]+)>>")
NUMBER = re.compile(r"\d+\.?\d*|\.\d+")
PLAIN = re.compile(r"[\d.+*/() -]+")
ROUNDS = 9

Row = dict[str, str]
Break = Callable[[list[str], str, random.Random], list[str] | None]


def has_step(line: str) -> bool:
    return "<<" in line


def drop(lines: list[str], question: str, rng: random.Random) -> list[str] | None:
    steps = [number for number, line in enumerate(lines) if has_step(line)]
    if len(steps) < 2:
        return None
    dropped = rng.choice(steps)
    return [line for number, line in enumerate(lines) if number != dropped]


def repeat(lines: list[str], question: str, rng: random.Random) -> list[str] | None:
    steps = [number for number, line in enumerate(lines) if has_step(line)]
    if not steps:
        return None
    repeated = rng.choice(steps)
    place = rng.randint(repeated + 1, len(lines))
    return [*lines[:place], lines[repeated], *lines[place:]]


def replace(lines: list[str], question: str, rng: random.Random) -> list[str] | None:
    """Give an equation another operand, and the result that follows from it, there and directly behind."""
    found = [(number, match) for number, line in enumerate(lines) for match in EQUATION.finditer(line)]
    rng.shuffle(found)
    for number, match in found:
        if changed := changed_equation(match[1], match[2], question, rng):
            line, (left, result) = lines[number], changed
            behind = line[match.end() :]
            behind = result + behind.removeprefix(match[2]) if behind.startswith(match[2]) else behind
            return [*lines[:number], f"{line[: match.start()]}<<{left}={result}>>{behind}", *lines[number + 1 :]]
    return None


def changed_equation(left: str, right: str, question: str, rng: random.Random) -> tuple[str, str] | None:
    operands = list(NUMBER.finditer(left))
    if not PLAIN.fullmatch(left) or len(operands) < 2:
        return None
    old = rng.choice(operands)
    others = [
        text for text in NUMBER.findall(question.replace(",", "")) if text.isdigit() and float(text) != float(old[0])
    ]
    new = rng.choice(others) if others and rng.random() < 0.5 else str(rng.randint(2, 60))
    changed = left[: old.start()] + str(int(new)) + left[old.end() :]
    reader = EquationReader(changed.encode())
    value = reader.read_sum()
    result = f"{float(value):.2f}".rstrip("0").rstrip(".")
    is_right = check_equation(f"{changed}={result}") == "ok"
    return (changed, result) if value >= 0 and is_right and float(result) != float(right) else None


KINDS: dict[str, Break] = {"dropped": drop, "repeated": repeat, "replaced": replace}


def statuses(rows: list[Row], texts: list[str]) -> list[str]:
    golds, questions = [gold_of(row) for row in rows], [row["question"] for row in rows]
    found: list[str] = grading.grade(texts, golds, questions=questions)["soundness"].to_pylist()
    return found


def gold_of(row: Row) -> str:
    return row["answer"].rpartition("####")[2].strip()


def on_gold(rows: list[Row]) -> tuple[dict[str, Any], list[Row]]:
    """Return the shares of the worked solutions by status, and those called sound."""
    found = statuses(rows, [row["answer"] for row in rows])
    counts = Counter(found)
    shares = {status: count / len(rows) for status, count in counts.most_common()}
    facts = {"num_solutions": len(rows), "wrongly_unsound": 1 - shares["sound"], "shares": shares}
    return facts, [row for row, status in zip(rows, found, strict=True) if status == "sound"]


def on_broken(rows: list[Row], kind: str, seed: int) -> dict[str, Any]:
    """Return how many broken paths of a kind are caught."""
    rng, broken = random.Random(seed), []
    for row in rows:
        body, _, answer = row["answer"].rpartition("\n####")
        if lines := KINDS[kind](body.split("\n"), row["question"], rng):
            broken.append((row, "\n".join(lines) + "\n####" + answer))
    found = Counter(statuses([row for row, _ in broken], [text for _, text in broken]))
    assert not found["not_judged"]  # the answer and the equations are right
    return {"num_paths": len(broken), "caught": 1 - found["sound"] / len(broken), "counts": dict(found.most_common())}


# ---------------------------------------------------------------------------------------------------------- cost ----


def ratio(without: Callable[[], object], with_it: Callable[[], object], rounds: int = ROUNDS) -> dict[str, float]:
    """Return the seconds of both, and the median of the ratios of runs side by side."""
    times = [(seconds(without), seconds(with_it)) for _ in range(rounds)]
    before, after = (statistics.median(column) for column in zip(*times, strict=True))
    return {"seconds": before, "with_soundness": after, "ratio": statistics.median(b / a for a, b in times)}


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def cost(rows: list[Row], samples: pa.Table, problems: Path) -> dict[str, Any]:
    texts, ids = samples["completion"].cast(pa.large_string()), samples["problem_id"].combine_chunks().cast(pa.int32())
    golds, questions = (
        pa.chunked_array([pa.DictionaryArray.from_arrays(ids, pa.array(values))])
        for values in ([gold_of(row) for row in rows], [row["question"] for row in rows])
    )
    in_memory = ratio(
        lambda: grading.grade(texts, golds, num_threads=1),
        lambda: grading.grade(texts, golds, questions=questions, num_threads=1),
    )
    with tempfile.TemporaryDirectory() as name:
        file, out = Path(name) / "samples.parquet", Path(name) / "graded.parquet"
        pq.write_table(samples, file)
        command = ratio(
            lambda: grade_files.run(Task([file], str(problems)), out),
            lambda: grade_files.run(Task([file], str(problems), judges_paths=True), out),
        )
    judged = Counter(grading.grade(texts, golds, questions=questions)["soundness"].to_pylist())
    return {
        "num_samples": len(texts),
        "statuses": dict(judged.most_common()),
        "in_memory": in_memory,
        "qrft_grade": command,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--samples", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    args = parser.parse_args()
    problems = args.data / "gsm8k" / "train.jsonl"
    rows = [json.loads(line) for line in problems.read_text(encoding="utf-8").splitlines()]
    gold, sound = on_gold(rows)
    result: dict[str, Any] = {"gold": gold, "broken": {kind: on_broken(sound, kind, args.seed) for kind in KINDS}}
    kinds = result["broken"].values()
    num_caught = sum(kind["caught"] * kind["num_paths"] for kind in kinds)
    result["caught"] = num_caught / sum(kind["num_paths"] for kind in kinds)
    if args.samples:
        with args.samples.open(encoding="utf-8") as file:
            samples = pa.Table.from_pylist([json.loads(line) for line in file])
        result["cost"] = cost(rows, samples, problems)
    result["machine"] = machine.describe()
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "sound.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
