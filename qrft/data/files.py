"""People's files: read in blocks of whole lines, compressed or not."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from qrft.data.disk import check_place
from qrft.errors import DataError, UsageError

BLOCK_BYTES = 4 << 20  # parsing is fastest while a block and its columns fit the second-level cache or little more
LONGEST_LINE = 64 << 20  # of bytes; reading one takes about five times its memory, and 1 MB of .gz may hold 1 GB

_COMPRESSION = {".gz": "gzip", ".zst": "zstd"}


def is_parquet(path: Path) -> bool:
    return path.suffix == ".parquet"


def line_blocks(path: Path, longest: int | None = None) -> Iterator[tuple[bytes, int]]:
    """Yield pieces of a file of lines, each of whole lines, with the bytes of the file read so far.

    Names ending in .gz and .zst are decompressed. Raises DataError for what can't be read, and for a line of more bytes
    than `longest` (None: LONGEST_LINE).
    """
    longest = longest or LONGEST_LINE
    with read_errors(path), pa.OSFile(str(path)) as raw, _decompressed(raw, path) as stream:
        rest: list[bytes | memoryview] = []
        while data := stream.read(BLOCK_BYTES):
            end = data.rfind(b"\n") + 1
            if end:
                yield b"".join([*rest, memoryview(data)[:end]]), raw.tell()
                rest = []
            rest.append(data[end:])
            if sum(map(len, rest)) > longest:
                raise DataError(
                    f"{path}: no line end in {longest >> 20:,} MiB. Expected JSONL, one row per line, none longer."
                )
        if last := b"".join(rest):
            yield last, raw.tell()


def _decompressed(raw: Any, path: Path) -> Any:
    codec = _COMPRESSION.get(path.suffix)
    return contextlib.nullcontext(raw) if codec is None else pa.CompressedInputStream(raw, codec)


@contextlib.contextmanager
def read_errors(path: Path) -> Iterator[None]:
    """Turn errors in reading a person's file into a DataError."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: can't be read ({reason(error)}). Name a readable file.") from error


def reason(error: Exception) -> str:
    """Return the reason in one line: Arrow wraps the system's words in sentences of its own."""
    code = error.errno if isinstance(error, OSError) else None
    return os.strerror(code) if code else (str(error).splitlines() or [type(error).__name__])[0]


def check_output(output: Path, suffixes: Sequence[str], inputs: Sequence[Path]) -> None:
    """Raise UsageError for an output that can't be written, or is an input, before any work is done."""
    check_place(output)
    if output.suffix not in suffixes:
        raise UsageError(f"{output}: the name gives no format. Expected one that ends in {' or '.join(suffixes)}.")
    if output.is_dir():
        raise UsageError(f"{output}: is a folder. Name the file to write.")
    if not output.parent.is_dir():
        raise UsageError(f"{output}: there is no folder {output.parent}. Make it, or name another folder.")
    if output.exists() and any(path.exists() and path.samefile(output) for path in inputs):
        raise UsageError(f"{output}: is also an input, and would be overwritten. Name another output.")
