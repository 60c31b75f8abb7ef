"""The one reader of JSONL: lines with their places and values, and what is wrong with one in words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa

from qrft.data.files import line_blocks
from qrft.errors import DataError

SHOWN = 60  # characters of a line that a message shows
_LINE = re.compile(rb"\S[^\n]*")  # without the white space before: millions of blank lines are passed over at once


def lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the lines of a file that are not blank, each with its place "file:line".

    Raises DataError for a file that can't be read.
    """
    first = 1
    for block, _ in line_blocks(path):
        for number, line in numbered(block, first):
            yield f"{path}:{number}", line
        first += count_lines(block)


def numbered(block: bytes, first: int) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a block that are not blank, each with its number, where the block begins with line `first`."""
    number, at = first, 0
    for found in _LINE.finditer(block):
        number += block.count(b"\n", at, found.start())
        at = found.start()
        yield number, found[0]


def count_lines(block: bytes) -> int:
    return block.count(b"\n") + (not block.endswith(b"\n"))


def parse(line: bytes) -> Any:
    """Return the value on a line. A byte order mark before it is skipped, as joined files hold them anywhere.

    Raises ValueError, worded for people, for anything but JSON in UTF-8.
    """
    try:
        return json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        found = line.decode(errors="replace").strip()[:SHOWN]
        raise ValueError(f"not JSON in UTF-8 ({error}); found {found!r}.") from None


def parse_object(line: bytes, form: str = "") -> dict[str, Any]:
    """Return the object on a line. Raises ValueError as `parse` does. form: what the object should be "with"."""
    value = parse(line)
    if not isinstance(value, dict):
        raise ValueError(f"found a {type(value).__name__}, expected an object{form}.")
    return value


def values(path: Path, expected: str) -> Iterator[tuple[str, Any]]:
    """Yield the value of every line with its place. Raises DataError; expected: the sentence that ends its message."""
    for place, line in lines(path):
        try:
            yield place, parse(line)
        except ValueError as error:
            raise DataError(f"{place}: {error} {expected}") from None


def objects(path: Path, *keys: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the object of every line with its place. keys: what each should have, which only the messages use.

    Raises DataError, with the file and the line, for anything but an object.
    """
    form = " with " + " and ".join(keys)
    example = "{" + ", ".join(f'"{key}": ...' for key in keys) + "}"
    for place, line in lines(path):
        try:
            yield place, parse_object(line, form)
        except ValueError as error:
            raise DataError(f"{place}: {error} Write one object per line: {example}.") from None


def has_half_character(text: str) -> bool:
    r"""Return whether a text holds half a surrogate pair, "\ud83d", which JSON can spell but UTF-8 can't hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def write_jsonl(file: TextIO, rows: pa.Table) -> None:
    """Write each row of a table as an object on a line of its own."""
    encode = json.JSONEncoder(ensure_ascii=False).encode
    for batch in rows.to_batches(max_chunksize=8192):
        file.writelines(encode(row) + "\n" for row in batch.to_pylist())
