"""What happens to files: a bit is lost, the end is cut off, all of it is, or the file is gone."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path


def flip_bit(path: Path, draw: random.Random) -> None:
    data = bytearray(path.read_bytes())
    if data:
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    else:
        data.append(0)
    path.write_bytes(data)


def cut_tail(path: Path, draw: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: draw.randrange(max(1, len(data)))])


def empty(path: Path, draw: random.Random) -> None:
    path.write_bytes(b"")


def take_away(path: Path, draw: random.Random) -> None:
    path.unlink()


KINDS: tuple[Callable[[Path, random.Random], None], ...] = (flip_bit, cut_tail, empty, take_away)
