"""The world of tiny-paths: its paths, how rarely a broken one ends in the answer, and how `sound` judges both.

    python bench/tiny_world.py [--problems 500] [--broken 40]

A genuine path is broken in one step, and the steps behind it follow: the step has another operation (*operation*), or
another known number (*operand*), or it is left out, and one of its numbers stands for its result (*dropped*). What is a
genuine path by chance does not count. Writes bench/results/tiny-world.json.
"""

from __future__ import annotations

import argparse
import json
import operator
import random
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import machine

from qrft import grading
from qrft.data.problems import tiny_paths
from qrft.data.problems.tiny_algebra import Path as Steps
from qrft.data.problems.tiny_algebra import Step, paths

OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul}
KINDS = ("operation", "operand", "dropped")


def broken(path: Steps, numbers: Sequence[int], kind: str, r: random.Random) -> list[Step] | None:
    """Return the path with a broken step; None where a number would not be positive, or nothing is left."""
    at = r.randrange(len(path))
    step, known = path[at], [*numbers, *(before.value for before in path[:at])]
    left, sign, right = step.left, step.sign, step.right
    if kind == "operation":
        sign = r.choice([other for other in OPERATIONS if other != sign])
    elif kind == "operand":
        left, right = r.choice(((left, r.choice(known)), (r.choice(known), right)))
    new = [] if kind == "dropped" else [Step(left, sign, right, OPERATIONS[sign](left, right))]
    stands_for = {step.value: new[0].value if new else r.choice((left, right))}
    for later in path[at + 1 :]:
        first, second = (stands_for.get(number, number) for number in (later.left, later.right))
        new.append(Step(first, later.sign, second, OPERATIONS[later.sign](first, second)))
        stands_for[later.value] = new[-1].value
    result = [*path[:at], *new]
    return result if result and all(step.value > 0 for step in result) else None


def measure(num_problems: int, num_broken: int, seed: int) -> dict[str, Any]:
    r = random.Random(seed)
    stories = list(islice(tiny_paths.stories("test", seed), num_problems))
    all_paths = [sorted(paths(story.expression)) for story in stories]
    counts = Counter[tuple[str, str]]()
    for story, genuine in zip(stories, all_paths, strict=True):
        keys = {tiny_paths.canonical(tiny_paths.write_solution(path)) for path in genuine}
        for kind in KINDS:
            tries = [broken(r.choice(genuine), story.numbers, kind, r) for _ in range(num_broken)]
            texts = [tiny_paths.write_solution(tuple(path)) for path in tries if path]
            texts = [text for text in texts if tiny_paths.canonical(text) not in keys]
            counts[kind, "paths"] += len(texts)
            lucky = [text for text in texts if text.endswith(f"#### {story.answer}")]
            counts[kind, "lucky"] += len(lucky)
            counts[kind, "lucky_sound"] += num_sound(story, lucky)
    return {
        "num_structures": len(tiny_paths.STRUCTURES),
        "num_paths": dict(sorted(Counter(map(len, all_paths)).items())),
        "num_steps": dict(sorted(Counter(len(path) for genuine in all_paths for path in genuine).items())),
        "genuine_called_sound": sum(
            num_sound(story, [tiny_paths.write_solution(path) for path in genuine])
            for story, genuine in zip(stories, all_paths, strict=True)
        )
        / sum(map(len, all_paths)),
        "broken": {kind: {name: counts[kind, name] for name in ("paths", "lucky", "lucky_sound")} for kind in KINDS},
        "lucky": sum(counts[kind, "lucky"] for kind in KINDS) / sum(counts[kind, "paths"] for kind in KINDS),
    }


def num_sound(story: tiny_paths.Story, texts: list[str]) -> int:
    if not texts:
        return 0
    graded = grading.grade(texts, [str(story.answer)] * len(texts), questions=[story.question] * len(texts))
    return graded["soundness"].to_pylist().count("sound")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=500)
    parser.add_argument("--broken", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    result = {**measure(args.problems, args.broken, args.seed), "machine": machine.describe()}
    (args.out / "tiny-world.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
