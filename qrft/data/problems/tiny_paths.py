r"""tiny-paths: story problems that have many right paths, all of which are known, drawn from a seed.

A row in its form:

    {"problem_id": "0", "cluster": "gets colours", "question": "Ida gets 30 pens. Ida buys 4 old and 2 new bags. Each
     bag holds 7 pens. How many pens does Ida have at the end?", "solution": "4+2=<<4+2=6>>6.\n6*7=<<6*7=42>>42.\n30+42=
     <<30+42=72>>72.\n#### 72", "answer": "72"}

A story is a row of parts, each of which adds to what someone has, or takes from it; its structure is the parts' names.
A model that learnt from few problems knows all parts, but not most of the rows in which a test puts them. The gold
solution is one of the paths (tiny_algebra), by chance. Structure and numbers put a story into exactly one split.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, islice, permutations, product
from typing import NamedTuple

from qrft.data.problems.problem_set import ProblemSet
from qrft.data.problems.tiny_algebra import Expression, Path, Product, Sum, magnitude, paths, times, total, value
from qrft.data.problems.tiny_math import NAMES, THINGS

# Enters the digest of every set drawn: raise it when the same seed would give other problems.
TINY_PATHS_VERSION = 1

# Which of the hash's 8 buckets belong to which split.
SPLITS = {"train": (0, 1), "validation": (2, 3), "test": (4, 5, 6, 7)}
LARGEST = 99  # no number of any path is above
NUM_PATHS = range(6, 31)  # of a problem
MIN_STEPS = 3

EQUATION = re.compile(r"<<([^<>]*)>>")

LARGE, SMALL, EACH = range(5, 40), range(2, 8), range(3, 10)


class Part(NamedTuple):
    sign: int
    ranges: tuple[range, ...]
    expression: Callable[..., Expression]  # of a number from each range
    wordings: tuple[str, ...]


PARTS = {
    "gets": Part(
        1,
        (LARGE,),
        lambda a: a,
        (
            "{n} gets {a} {things}",
            "{m} gives {n} {a} {things}",
            "{n} buys {a} new {things}",
        ),
    ),
    "loses": Part(
        -1,
        (LARGE,),
        lambda a: a,
        (
            "{n} loses {a} {things}",
            "{n} gives {a} {things} to {m}",
            "{n} sells {a} of the {things}",
        ),
    ),
    "packs": Part(
        1,
        (SMALL, EACH),
        lambda a, b: Product((a, b)),
        (
            "{n} buys {a} boxes of {b} {things}",
            "{n} gets {a} bags with {b} {things} in each",
            "{n} makes {b} {things} a day for {a} days",
        ),
    ),
    "shares": Part(
        -1,
        (SMALL, EACH),
        lambda a, b: Product((a, b)),
        (
            "{n} gives {b} {things} to each of {a} friends",
            "{n} sells {a} bags with {b} {things} in each",
            "{n} loses {b} {things} a day for {a} days",
        ),
    ),
    "shelves": Part(
        1,
        (SMALL, SMALL, SMALL),
        lambda a, b, c: Product((a, b, c)),
        (
            "{n} makes {a} rows of {b} boxes with {c} {things} in each box",
            "{n} buys {a} packs of {b} bags. Each bag holds {c} {things}",
            "{n} makes {b} boxes of {c} {things} a day for {a} days",
        ),
    ),
    "colours": Part(
        1,
        (SMALL, SMALL, EACH),
        lambda a, b, c: Product((Sum(((1, a), (1, b))), c)),
        (
            "{n} gets {a} boxes in the morning and {b} boxes in the evening, with {c} {things} in each box",
            "{n} buys {a} old and {b} new bags. Each bag holds {c} {things}",
            "{n} makes {c} {things} a day for {a} days and then for {b} more days",
        ),
    ),
    "sales": Part(
        -1,
        (SMALL, SMALL, EACH),
        lambda a, b, c: Product((Sum(((1, a), (1, b))), c)),
        (
            "{n} sells {a} packs in the morning and {b} packs in the evening, with {c} {things} in each pack",
            "{n} gives {c} {things} to each of {a} boys and {b} girls",
            "{n} loses {c} {things} a day for {a} days and then for {b} more days",
        ),
    ),
    "empties": Part(
        1,
        (SMALL, SMALL, EACH),
        lambda a, b, c: Product((Sum(((1, a), (-1, b))), c)),
        (
            "{n} buys {a} boxes of {c} {things} and then loses {b} of the boxes",
            "{n} gets {a} bags with {c} {things} in each and gives {b} of the bags back",
            "{n} makes {a} rows with {c} {things} in each. Then {m} gets {b} of the rows",
        ),
    ),
    "times": Part(
        1,
        (LARGE, SMALL),
        lambda a, b: Product((a, Sum(((1, 1), (1, b))))),
        (
            "{n} makes {a} {things} in the morning and {b} times as many in the evening",
            "{n} gets {a} {things} and then {b} times as many more",
            "{m} gives {n} {a} {things} and then {b} times as many",
        ),
    ),
}
AGAIN = "again"  # in a structure: the whole story repeats
REPEATS = range(2, 6)
REPEATED = (
    "{n} does all of that {a} times",
    "{n} does that for {a} days",
    "Each day {n} does all of that, for {a} days",
)

# The parts of a letter, and the rows of letters whose stories have NUM_PATHS paths. An "x" repeats the whole.
LETTERS = {
    "n": ("gets", "loses"),
    "p": ("packs", "shares"),
    "s": ("shelves",),
    "c": ("colours", "sales", "empties"),
    "t": ("times",),
}
SHAPES = ("nnnn", "nnnp", "npp", "ppp", "nc", "pc", "pt", "ps", "nns", "npx", "tx")


def structures(shape: str) -> Iterator[tuple[str, ...]]:
    """Yield the rows of parts of a shape, in any order; something must be there before it can be taken."""
    end = (AGAIN,) if shape.endswith("x") else ()
    for order in permutations(shape.removesuffix("x")):
        for parts in product(*(LETTERS[letter] for letter in order)):
            if PARTS[parts[0]].sign > 0:
                yield (*parts, *end)


STRUCTURES = sorted({structure for shape in SHAPES for structure in structures(shape)})


class Story(NamedTuple):
    structure: tuple[str, ...]
    numbers: tuple[int, ...]
    expression: Expression
    question: str

    @property
    def answer(self) -> int:
        return value(self.expression)


def split_of(structure: tuple[str, ...], numbers: Sequence[int]) -> str:
    """Return the one split that a story belongs to, however it is worded."""
    facts = f"{' '.join(structure)} {' '.join(map(str, numbers))}"
    bucket = hashlib.blake2b(facts.encode(), digest_size=1).digest()[0] % 8
    return next(split for split, buckets in SPLITS.items() if bucket in buckets)


def draw_story(r: random.Random, structures: Sequence[tuple[str, ...]], split: str) -> Story:
    """Draw a story of the split in one of these structures."""
    structure = r.choice(structures)
    parts = [PARTS[name] for name in structure if name != AGAIN]
    spans = [span for part in parts for span in part.ranges] + [REPEATS] * (AGAIN in structure)
    while True:
        numbers = [r.choice(span) for span in spans]
        if split_of(structure, numbers) == split and (expression := _expression(parts, numbers)):
            return Story(structure, tuple(numbers), expression, _word(r, parts, numbers))


def _expression(parts: Sequence[Part], numbers: Sequence[int]) -> Expression | None:
    """Return what a story comes to. None if numbers repeat, grow too large, or nothing is left after a part of it."""
    rest = iter(numbers)
    terms = [(part.sign, part.expression(*islice(rest, len(part.ranges)))) for part in parts]
    left = accumulate(sign * value(term) for sign, term in terms)
    is_possible = min(left) > 0 and all(value(term) > 0 for _, term in terms) and len({*numbers}) == len(numbers)
    expression = times([total(terms), *rest])
    return expression if is_possible and magnitude(expression) <= LARGEST else None


def _word(r: random.Random, parts: Sequence[Part], numbers: Sequence[int]) -> str:
    """Tell the story, each part in one of its wordings."""
    words, rest = _draw_words(r), iter(numbers)
    sentences = [_tell(r, part, list(islice(rest, len(part.ranges))), words) for part in parts]
    sentences += [r.choice(REPEATED).format(**words, a=times) for times in rest]
    return ". ".join([*sentences, "How many {things} does {n} have at the end?".format(**words)])


def _draw_words(r: random.Random) -> dict[str, str]:
    n, m = r.sample(NAMES, 2)
    return {"n": n, "m": m, "things": r.choice(THINGS)}


def _tell(r: random.Random, part: Part, given: list[int], words: dict[str, str]) -> str:
    return r.choice(part.wordings).format(**words, **dict(zip("abc", given, strict=False)))


def stories(split: str, seed: int) -> Iterator[Story]:
    """Yield endless different stories of a split, each with as many paths as a problem should have."""
    r = random.Random(f"tiny-paths {TINY_PATHS_VERSION} {split} {seed}")
    seen = set()
    while True:
        story = draw_story(r, STRUCTURES, split)
        facts = (story.structure, story.numbers)
        if facts not in seen and _has_many_paths(story):
            seen.add(facts)
            yield story


def _has_many_paths(story: Story) -> bool:
    """Return whether it has NUM_PATHS paths: where numbers meet by chance, some are equal, shorter or lead to zero."""
    found = paths(story.expression)
    different = {canonical(write_solution(path)) for path in found}
    return (
        len(different) == len(found)
        and len(found) in NUM_PATHS
        and all(len(path) >= MIN_STEPS and all(step.value > 0 for step in path) for path in found)
    )


def write_solution(path: Path) -> str:
    """Return a path in GSM8K's form: a line per step with its <<equation>>, then "#### answer"."""
    lines = [f"{step.expression}=<<{step}>>{step.value}." for step in path]
    return "\n".join([*lines, f"#### {path[-1].value}"])


def canonical(text: str) -> tuple[str, ...]:
    """Return the equations of a solution with the operands of + and * in order: equal for equal paths."""
    found = []
    for equation in EQUATION.findall(text):
        left, _, right = equation.partition("=")
        for sign in "+*":
            left = sign.join(sorted(left.split(sign)))
        found.append(f"{left}={right}")
    return tuple(found)


def genuine_paths(split: str, seed: int, num_problems: int) -> list[list[Path]]:
    """Return all right paths of each of the problems that `problems` draws."""
    return [sorted(paths(story.expression)) for story in islice(stories(split, seed), num_problems)]


def problems(split: str, seed: int, num_problems: int) -> Iterator[dict[str, str]]:
    """Yield rows of schema.PROBLEMS by structure as the cluster; the gold solution is one of the paths, by chance."""
    choose = random.Random(f"tiny-paths gold {TINY_PATHS_VERSION} {split} {seed}")
    for index, story in enumerate(islice(stories(split, seed), num_problems)):
        yield {
            "problem_id": str(index),
            "question": story.question,
            "solution": write_solution(choose.choice(sorted(paths(story.expression)))),
            "answer": str(story.answer),
            "cluster": " ".join(story.structure),
        }


SET = ProblemSet(splits=("train", "validation", "test"), draw=problems)
