"""What an untrusted server or file may hold: values that are no value, and whole things with something broken."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

Random = random.Random

_DEEP = "[" * 20_000
_VALUES: Sequence[str] = (  # as JSON spells them, since some can't be made from Python
    *("null", "true", "-1", "0", "1.5", "1e400", "-1e400", "NaN", "Infinity", "1" * 5000, str(2**40), str(2**63)),
    *(
        "[]",
        "{}",
        '""',
        '"\\ud83d"',
        '"\\u0000\\u001b[31m"',
        '["a"]',
        '[[["a"]]]',
        '{"a": {"b": 1}}',
        '"x' + "y" * 9999 + '"',
    ),
    *(_DEEP, _DEEP + "]" * 20_000, '{"a":' * 5000, "[1,2", '"open', "undefined", "'a'", "\ufeff1", "01", "1,"),
)


def value(rng: Random) -> str:
    """Return one, as JSON or nearly so."""
    return rng.choice(_VALUES)


def with_a_strange_value(whole: Any, rng: Random) -> bytes:
    """Return it as JSON in which one value, at any depth, is another."""
    marks: list[str] = []

    def marked(inner: Any) -> Any:
        if isinstance(inner, dict):
            inner = {key: marked(part) for key, part in inner.items()}
        elif isinstance(inner, list):
            inner = [marked(part) for part in inner]
        marks.append(json.dumps(inner))
        return inner

    marked(whole)
    text, place = json.dumps(whole), rng.choice(marks)
    at = rng.choice([i for i in range(len(text)) if text.startswith(place, i)])
    return (text[:at] + value(rng) + text[at + len(place) :]).encode("utf-8", "surrogatepass")


def damaged(content: bytes, rng: Random) -> bytes:
    """Return it cut, with bits flipped, with a part taken out, twice or exchanged for other bytes."""
    first, last = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    ways: list[Callable[[], bytes]] = [
        lambda: content[:first],
        lambda: content[:first] + content[last:],
        lambda: content[:last] + content[first:],
        lambda: content[:first] + rng.randbytes(last - first) + content[last:],
        lambda: _flipped(content, rng),
    ]
    return rng.choice(ways)()


def _flipped(content: bytes, rng: Random) -> bytes:
    bits = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        bits[rng.randrange(len(bits))] ^= 1 << rng.randrange(8)
    return bytes(bits)
