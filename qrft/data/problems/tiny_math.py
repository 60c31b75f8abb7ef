r"""tiny-math: story problems in GSM8K's form, drawn from a seed, any number of them.

A row in its form:

    {"problem_id": "0", "question": "Ida has 8 pens. Leo has 5 more than Ida. How many pens do they have together?",
     "solution": "Other: 8+5=<<8+5=13>>13.\nTotal: 8+13=<<8+13=21>>21.\n#### 21", "answer": "21"}

A kind of story is data: how its numbers are drawn, how it is worded, and two or more genuinely different ways to solve
it. A story belongs to exactly one split by a hash of its facts, so train, test and the pre-training corpus never share
a story, whatever the seeds and sizes.
"""

from __future__ import annotations

import hashlib
import operator
import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

from qrft.data.problems.problem_set import ProblemSet

# Enters the digest of every set drawn: raise it when the same seed would give other problems.
TINY_MATH_VERSION = 1

# fmt: off
NAMES = [
    "Ana", "Ben", "Cora", "Dan", "Eva", "Finn", "Gia", "Hugo", "Ida", "Jon",
    "Kira", "Leo", "Mia", "Noah", "Olga", "Paul", "Rosa", "Sam", "Tina", "Zoe",
]
THINGS = [
    "apples", "beads", "books", "cards", "coins", "cups", "eggs", "kites",
    "marbles", "nuts", "pens", "pins", "shells", "stamps", "stones", "toys",
]
# fmt: on
OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.floordiv,
}
# Which of the hash's 8 buckets belong to which split. The corpus needs the most.
SPLITS = {"train": (0, 1), "test": (2, 3), "pretrain": (4, 5, 6, 7)}

Numbers = dict[str, int]
Step = tuple[str, str, int]  # what is found, the expression, its value


class Kind(NamedTuple):
    draw: Callable[[random.Random], Numbers]
    wordings: tuple[tuple[str, str], ...]  # (facts, question)
    paths: tuple[str, ...]  # "found = left op right; ...", the last one found is the answer


class Story(NamedTuple):
    facts: str
    ask: str
    paths: list[list[Step]]
    wording: str  # its kind and the number of its wording, such as ages-1

    @property
    def question(self) -> str:
        return f"{self.facts}. {self.ask}?"

    @property
    def answer(self) -> int:
        return self.paths[0][-1][2]


def _two_sorts(r: random.Random) -> Numbers:
    return {"a": r.randint(2, 9), "c": r.randint(2, 9), "b": r.randint(2, 9)}


def _give_and_find(r: random.Random) -> Numbers:
    return {"a": r.randint(20, 80), "b": r.randint(2, 19), "c": r.randint(2, 40)}


def _lose_twice(r: random.Random) -> Numbers:
    b, c = r.randint(2, 30), r.randint(2, 30)
    return {"a": b + c + r.randint(2, 40), "b": b, "c": c}


def _some_more(r: random.Random) -> Numbers:
    return {"a": r.randint(3, 40), "b": r.randint(2, 30)}


def _share_then_add(r: random.Random) -> Numbers:
    d, each = r.randint(2, 9), r.randint(2, 9)
    return {"a": d * each, "d": d, "c": r.randint(2, 9)}


def _earn_and_spend(r: random.Random) -> Numbers:
    s = r.randint(2, 9)
    return {"p": s + r.randint(2, 9), "s": s, "d": r.randint(2, 9)}


def _times_as_many(r: random.Random) -> Numbers:
    return {"a": r.randint(3, 18), "t": r.randint(3, 8)}


def _packs_shared(r: random.Random) -> Numbers:
    f = r.randint(2, 6)
    return {"p": r.randint(2, 9), "s": f * r.randint(2, 4), "f": f}


def _ages(r: random.Random) -> Numbers:
    return {"a": r.randint(4, 40), "b": r.randint(4, 40), "y": r.randint(2, 15)}


def _change(r: random.Random) -> Numbers:
    a, p, b, q = r.randint(2, 6), r.randint(2, 9), r.randint(2, 6), r.randint(2, 9)
    return {"a": a, "p": p, "b": b, "q": q, "t": a * p + b * q + r.randint(2, 40)}


def _rows(r: random.Random) -> Numbers:
    c = r.randint(2, 8)
    return {"a": c + r.randint(2, 9), "c": c, "b": r.randint(2, 9)}


def _teams(r: random.Random) -> Numbers:
    t = r.randint(2, 6)
    return {"a": t * r.randint(2, 9), "b": t * r.randint(2, 9), "t": t}


def _trips(r: random.Random) -> Numbers:
    return {"a": r.randint(3, 30), "b": r.randint(3, 30), "d": r.randint(2, 3)}


def _half(r: random.Random) -> Numbers:
    return {"a": 2 * r.randint(3, 40), "c": r.randint(2, 40)}


KINDS: dict[str, Kind] = {
    "two-sorts": Kind(
        _two_sorts,
        (
            (
                "{n} has {a} boxes of {things} and {c} boxes of {others}, with {b} in each box",
                "How many things are in the boxes",
            ),
            (
                "{n} packs {a} bags of {things} and {c} bags of {others}. Each bag holds {b}",
                "How many things does {n} pack",
            ),
        ),
        ("first = a*b; second = c*b; total = first+second", "boxes = a+c; total = boxes*b"),
    ),
    "give-and-find": Kind(
        _give_and_find,
        (
            (
                "{n} had {a} {things}. {n} gave {b} to {m} and then found {c} more",
                "How many {things} does {n} have now",
            ),
            (
                "{n} owns {a} {things}, loses {b} of them and buys {c} new ones",
                "How many {things} does {n} own at the end",
            ),
        ),
        ("left = a-b; now = left+c", "all = a+c; now = all-b"),
    ),
    "lose-twice": Kind(
        _lose_twice,
        (
            ("{n} had {a} {things}. {n} sold {b} in the morning and {c} in the evening", "How many {things} are left"),
            ("{n} made {a} {things} and gave {b} to {m} and {c} to a friend", "How many {things} did {n} keep"),
        ),
        ("left = a-b; kept = left-c", "gone = b+c; kept = a-gone"),
    ),
    "some-more": Kind(
        _some_more,
        (
            ("{n} has {a} {things}. {m} has {b} more than {n}", "How many {things} do they have together"),
            ("{n} found {a} {things} and {m} found {b} more than that", "How many {things} did they find in all"),
        ),
        ("other = a+b; total = a+other", "double = 2*a; total = double+b"),
    ),
    "share-then-add": Kind(
        _share_then_add,
        (
            (
                "{n} puts {a} {things} equally into {d} bags and then adds {c} to each bag",
                "How many {things} are in each bag",
            ),
            (
                "{n} shares {a} {things} equally among {d} friends. {m} gives each friend {c} more",
                "How many {things} does each friend get",
            ),
        ),
        ("share = a/d; each = share+c", "added = d*c; all = a+added; each = all/d"),
    ),
    "earn-and-spend": Kind(
        _earn_and_spend,
        (
            ("{n} earns {p} dollars a day and spends {s} dollars a day", "How many dollars does {n} save in {d} days"),
            (
                "{n} sells {things} for {p} dollars each that cost {s} dollars each",
                "How many dollars does {n} gain with {d} of them",
            ),
        ),
        ("each = p-s; gain = each*d", "in = p*d; out = s*d; gain = in-out"),
    ),
    "times-as-many": Kind(
        _times_as_many,
        (
            ("{n} has {a} {things} and {m} has {t} times as many", "How many {things} do they have together"),
            ("{n} read {a} pages. {m} read {t} times as many pages as {n}", "How many pages did both read"),
        ),
        ("other = t*a; total = a+other", "parts = t+1; total = parts*a"),
    ),
    "how-many-more": Kind(
        _times_as_many,
        (
            ("{n} has {a} {things} and {m} has {t} times as many", "How many more {things} does {m} have than {n}"),
            ("{n} ran {a} miles. {m} ran {t} times as many miles", "How many more miles than {n} did {m} run"),
        ),
        ("other = t*a; more = other-a", "parts = t-1; more = parts*a"),
    ),
    "packs-shared": Kind(
        _packs_shared,
        (
            (
                "{n} buys {p} packs with {s} {things} each and shares them equally among {f} friends",
                "How many {things} does each friend get",
            ),
            (
                "{n} has {p} boxes of {s} {things} each and puts them equally into {f} bags",
                "How many {things} are in each bag",
            ),
        ),
        ("all = p*s; each = all/f", "part = s/f; each = part*p"),
    ),
    "ages": Kind(
        _ages,
        (
            ("{n} is {a} years old and {m} is {b} years old", "How old will they be together in {y} years"),
            ("{n} has {a} {things} and {m} has {b}. Each of them gets {y} more", "How many {things} do both have then"),
        ),
        ("first = a+y; second = b+y; total = first+second", "now = a+b; added = 2*y; total = now+added"),
    ),
    "change": Kind(
        _change,
        (
            (
                "{n} buys {a} {things} for {p} dollars each and {b} {others} for {q} dollars each "
                "and pays with {t} dollars",
                "How many dollars does {n} get back",
            ),
            (
                "{n} has {t} dollars. {n} buys {a} {things} at {p} dollars each and {b} {others} at {q} dollars each",
                "How many dollars are left",
            ),
        ),
        (
            "first = a*p; second = b*q; both = first+second; left = t-both",
            "first = a*p; rest = t-first; second = b*q; left = rest-second",
        ),
    ),
    "rows": Kind(
        _rows,
        (
            ("{n} plants {a} rows of {b} trees. Then {c} rows die", "How many trees are left"),
            (
                "{n} has {a} boxes with {b} {things} in each and gives {c} boxes to {m}",
                "How many {things} does {n} still have",
            ),
        ),
        ("rows = a-c; left = rows*b", "all = a*b; gone = c*b; left = all-gone"),
    ),
    "teams": Kind(
        _teams,
        (
            ("{n} splits {a} boys and {b} girls into {t} equal teams", "How many children are in each team"),
            ("{n} puts {a} {things} and {b} {others} equally into {t} bags", "How many things are in each bag"),
        ),
        ("all = a+b; each = all/t", "first = a/t; second = b/t; each = first+second"),
    ),
    "trips": Kind(
        _trips,
        (
            (
                "{n} runs {a} miles in the morning and {b} miles in the evening for {d} days",
                "How many miles does {n} run",
            ),
            ("{n} makes {a} {things} and {m} makes {b} {things} a day", "How many {things} do they make in {d} days"),
        ),
        ("day = a+b; total = day*d", "first = a*d; second = b*d; total = first+second"),
    ),
    "half": Kind(
        _half,
        (
            (
                "{n} had {a} {things}, gave half of them to {m} and then got {c} more",
                "How many {things} does {n} have now",
            ),
            ("{n} sold half of {a} {things} and then made {c} more", "How many {things} does {n} have at the end"),
        ),
        ("half = a/2; now = half+c", "all = a+c; half = a/2; now = all-half"),
    ),
}


def _solve(path: str, numbers: Numbers) -> list[Step]:
    """Return the steps of a path such as "all = a+c; now = all-b", with the numbers put in."""
    known = dict(numbers)
    steps = []
    for part in path.split("; "):
        found, expression = part.split(" = ")
        sign = next(character for character in expression if character in OPERATIONS)
        left, right = (known[term] if term in known else int(term) for term in expression.split(sign))
        known[found] = OPERATIONS[sign](left, right)
        steps.append((found, f"{left}{sign}{right}", known[found]))
    return steps


def _draw_story(r: random.Random) -> Story:
    name = r.choice(tuple(KINDS))
    kind = KINDS[name]
    numbers = kind.draw(r)
    n, m = r.sample(NAMES, 2)
    things, others = r.sample(THINGS, 2)
    number, wording = r.choice(list(enumerate(kind.wordings)))
    facts, ask = (text.format(n=n, m=m, things=things, others=others, **numbers) for text in wording)
    return Story(facts, ask, [_solve(path, numbers) for path in kind.paths], f"{name}-{number}")


def split_of(facts: str) -> str:
    """Return the one split that a story belongs to, whatever is asked of it and however it is told."""
    bucket = hashlib.blake2b(facts.encode(), digest_size=1).digest()[0] % 8
    return next(split for split, buckets in SPLITS.items() if bucket in buckets)


def stories(split: str, seed: int) -> Iterator[Story]:
    """Yield endless different stories of a split."""
    r = random.Random(f"tiny-math {TINY_MATH_VERSION} {split} {seed}")
    seen = set()
    while True:
        story = _draw_story(r)
        if split_of(story.facts) == split and story.question not in seen:
            seen.add(story.question)
            yield story


def write_solution(path: list[Step]) -> str:
    """Return a path in GSM8K's form: a line per step with its <<equation>>, then "#### answer"."""
    lines = [f"{found.capitalize()}: {left}=<<{left}={value}>>{value}." for found, left, value in path]
    return "\n".join([*lines, f"#### {path[-1][2]}"])


def problems(split: str, seed: int, num_problems: int) -> Iterator[dict[str, str]]:
    """Yield rows of schema.PROBLEMS with their wordings as clusters; the gold solution is one of the story's paths, by
    chance."""
    choose = random.Random(f"tiny-math gold {TINY_MATH_VERSION} {split} {seed}")
    for index, story in zip(range(num_problems), stories(split, seed), strict=False):
        yield {
            "problem_id": str(index),
            "question": story.question,
            "solution": write_solution(choose.choice(story.paths)),
            "answer": str(story.answer),
            "cluster": story.wording,
        }


SET = ProblemSet(splits=("train", "test"), draw=problems)
