"""What the tiny base model reads in pre-training: arithmetic, and story problems told and solved in another style.

It holds the marker tokens (<<, >>, ####) and every word of the solutions, since LoRA can't teach a token that
pre-training never saw; it holds no question of the train or test split (see tiny_math.SPLITS), and no solution in the
form that fine-tuning teaches.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice

from qrft.data.problems import tiny_math

# Enters the digest of a base: raise it when the same seed would give another corpus.
TINY_CORPUS_VERSION = 1

ARITHMETIC_SHARE = 0.4  # of the documents; the rest are stories
LINES_PER_DOCUMENT = 6
NUM_HELD_OUT = 2000


def _arithmetic(r: random.Random) -> tuple[str, int]:
    """Draw an expression and its value, over the range of numbers that the stories use."""
    sign = r.choice("+-*/")
    if sign == "+":
        a, b = r.randint(1, 120), r.randint(1, 80)
    elif sign == "-":
        b = r.randint(1, 80)
        a = b + r.randint(1, 120)
    elif sign == "*":
        a, b = r.randint(2, 24), r.randint(2, 9)
        a, b = r.choice(((a, b), (b, a)))
    else:
        b = r.randint(2, 9)
        a = b * r.randint(2, 24)
    return f"{a}{sign}{b}", tiny_math.OPERATIONS[sign](a, b)


def _drill(r: random.Random, labels: list[str]) -> str:
    """Write sums without a story, all lines of a document in one of four styles."""
    style = r.randrange(4)
    lines = []
    for _ in range(LINES_PER_DOCUMENT):
        left, value = _arithmetic(r)
        lines.append(
            (
                f"{left}={value}",
                f"{left}=<<{left}={value}>>{value}.",
                f"{left}={value}\n#### {value}",
                f"{r.choice(labels).capitalize()}: {left}={value}.",
            )[style]
        )
    return "\n".join(lines)


def _retell(r: random.Random, story: tiny_math.Story) -> str:
    """Tell the question first and the facts after it, or the facts as a riddle; then the answer in one sentence."""
    work = ", then ".join(f"{found} is {left}={value}" for found, left, value in r.choice(story.paths))
    told = f"{story.ask} if {story.facts}? Well" if r.random() < 0.5 else f"{story.facts}. Riddle: {story.ask}?\nHere"
    return f"{told}, {work}. So the answer is {story.answer}."


def held_out() -> list[str]:
    """Return documents of the same kind that no base is trained on, whatever its seed: to measure its loss.

    They tell stories of the test split; drills of six random sums do not repeat.
    """
    return list(islice(documents(0, "test"), NUM_HELD_OUT))


def documents(seed: int, split: str = "pretrain") -> Iterator[str]:
    """Yield endless documents of the corpus."""
    name = f"tiny-corpus {TINY_CORPUS_VERSION} {seed}"
    r = random.Random(name if split == "pretrain" else f"{name} {split}")
    labels = sorted(
        {part.split(" = ")[0] for kind in tiny_math.KINDS.values() for path in kind.paths for part in path.split("; ")}
    )
    stories = tiny_math.stories(split, seed)
    while True:
        yield _drill(r, labels) if r.random() < ARITHMETIC_SHARE else _retell(r, next(stories))
