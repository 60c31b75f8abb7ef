"""What the base of tiny-paths reads in pre-training: arithmetic, parts of stories, and short stories in another style.

It holds the marker tokens (<<, >>, ####) and every word of the stories, since LoRA can't teach a token that
pre-training never saw. A drill shows the form of a solution over sums that belong to no story.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice

from qrft.data.problems import tiny_algebra, tiny_paths
from qrft.data.problems.tiny_paths import LARGEST

# Enters the digest of a base: raise it when the same seed would give another corpus.
TINY_PATHS_CORPUS_VERSION = 1

DRILLS, PARTS, SHORT = 0.35, 0.25, 0.35  # shares of the documents; the rest are whole stories
LINES_PER_DOCUMENT = 6
NUM_HELD_OUT = 2000

# Rows of parts shorter than those of the problems, so that they show what a part means, and how two go together.
SHORT_STRUCTURES = sorted(
    {structure for shape in ("nn", "np", "nnn", "nnp", "nx", "px") for structure in tiny_paths.structures(shape)}
)


def _sum(r: random.Random) -> str:
    """Draw an equation over the numbers that the stories use."""
    sign = r.choice("+-*")
    if sign == "*":
        b = r.randint(2, 9)
        a = r.randint(2, LARGEST // b)
        a, b = r.choice(((a, b), (b, a)))
        return f"{a}*{b}={a * b}"
    total = r.randint(3, LARGEST)
    a = r.randint(1, total - 1)
    return f"{a}+{total - a}={total}" if sign == "+" else f"{total}-{a}={total - a}"


def _drill(r: random.Random) -> str:
    """Write sums without a story, all lines of a document in one of three styles."""
    style = r.randrange(3)
    lines = []
    for _ in range(LINES_PER_DOCUMENT):
        equation = _sum(r)
        result = equation.partition("=")[2]
        lines.append((equation, f"<<{equation}>>{result}", f"<<{equation}>>{result}\n#### {result}")[style])
    return "\n".join(lines)


def _work(expression: tiny_algebra.Expression, r: random.Random) -> str:
    return ", then ".join(map(str, tiny_algebra.walk(expression, r)))


def _tell(r: random.Random, split: str, structures: list[tuple[str, ...]]) -> str:
    """Tell a story of the split and solve it in one sentence."""
    story = tiny_paths.draw_story(r, structures, split)
    start = r.choice(("Well", "Riddle solved", "Look"))
    return f"{story.question} {start}: {_work(story.expression, r)}. So the answer is {story.answer}."


def _part(r: random.Random) -> str:
    """Tell one part, and what it comes to."""
    sentence, expression, things = tiny_paths.draw_part(r)
    if isinstance(expression, int):
        return f"{sentence}. That is {expression} {things}."
    return f"{sentence}. That is {_work(expression, r)} {things}."


def held_out() -> list[str]:
    """Return documents of the same kind that no base is trained on, whatever its seed: to measure its loss.

    Their stories are of the test split; drills of six random sums do not repeat.
    """
    return list(islice(documents(0, "test"), NUM_HELD_OUT))


def documents(seed: int, split: str = "pretrain") -> Iterator[str]:
    """Yield endless documents of the corpus."""
    r = random.Random(f"tiny-paths corpus {TINY_PATHS_CORPUS_VERSION} {seed} {split}")
    while True:
        kind = r.random()
        if kind < DRILLS:
            yield _drill(r)
        elif kind < DRILLS + PARTS:
            yield _part(r)
        elif kind < DRILLS + PARTS + SHORT:
            yield _tell(r, split, SHORT_STRUCTURES)
        else:
            yield _tell(r, split, tiny_paths.STRUCTURES)


def solutions(seed: int) -> Iterator[str]:
    """Yield endless stories with solutions in the taught form: only for the tokenizer, which learns their line ends."""
    r = random.Random(seed)
    for story in tiny_paths.stories("pretrain", seed):
        path = tiny_algebra.walk(story.expression, r)
        yield f"{story.question}\n{tiny_paths.write_solution(path)}"
