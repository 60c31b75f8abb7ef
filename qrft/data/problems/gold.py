"""What a text says of a problem's gold answer: a worked solution that ends in it, or the bare answer."""

from __future__ import annotations

from typing import NamedTuple

from qrft.grading.reference.answers import end_of_box
from qrft.grading.reference.opening import BOX_HERE

MARKER = "####"  # GSM8K's: what follows it is the answer
MATH_SIGNS = " \t\r\n$.()[]\\"  # what may surround a box without making it a solution


class Gold(NamedTuple):
    solution: str  # "" where the text is a bare answer
    answer: str


def read_gold(text: str) -> Gold:
    r"""Return the worked solution and its answer, or the bare answer.

    The answer stands after the last "####", or in the last \boxed{...}; in a box after the last "####" it is what the
    box holds. A text with neither is a bare answer, as is one that holds nothing else ("#### 72", "$\boxed{5}$").
    docs/semantics.md, "Gold answers". The answer is "" where nothing follows a "####" or stands in a box.
    """
    text = text.strip()
    before, marker, tail = text.rpartition(MARKER)
    box = last_box(tail)
    if box is None:
        is_worked = bool(marker and text.partition(MARKER)[0].strip())
        return Gold(text if is_worked else "", tail.strip())
    around = before + tail[: box.start] + tail[box.end :]
    return Gold(text if around.strip(MATH_SIGNS + "#") else "", box.content.strip())


class Box(NamedTuple):
    start: int  # where the command begins
    end: int  # behind the closing brace
    content: str


def last_box(text: str) -> Box | None:
    r"""Return the last \boxed{...} or \fbox{...} of a text; one that is never closed ends with its line."""
    data = text.encode()
    commands = list(BOX_HERE.finditer(data))
    if not commands:
        return None
    start, inside = commands[-1].span()
    end = end_of_box(data, inside)
    return Box(len(data[:start].decode()), len(data[:end].decode()) + 1, data[inside:end].decode())
