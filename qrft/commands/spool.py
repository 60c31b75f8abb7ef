"""Rows set aside until all of their problem are there, in parts: in memory, or on the disk when they are many."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from qrft.data.disk import disk_errors

BUDGET_BYTES = 512 << 20  # what is kept in memory
NUM_PARTS = 64  # so even 32 GiB of rows come back in parts of the size that memory may hold


class Part(NamedTuple):
    """All rows of the problems first .. end - 1, in the order in which they came."""

    first: int
    end: int
    rows: pa.Table


class Spool:
    """Rows with an int32 column `problem`, below `num_problems`. Use as a context manager.

    The files have no names: they are gone when the process is, however it ends.
    """

    def __init__(self, folder: Path, schema: pa.Schema, num_problems: int) -> None:
        self._folder, self._schema, self._num_problems = folder, schema, num_problems
        self._rows: list[list[pa.Table]] = [[] for _ in range(NUM_PARTS)]
        self._num_bytes = 0
        self._files: list[Any] = []
        self._writers: list[Any] = []
        self._stack = ExitStack()

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def add(self, rows: pa.Table) -> None:
        for part, own in self._split(rows):
            self._rows[part].append(own)
        self._num_bytes += rows.nbytes
        if self._files or self._num_bytes > BUDGET_BYTES:
            self._spill()

    def parts(self) -> Iterator[Part]:
        """Yield the parts, the problems in order: once, after the last row."""
        for writer in self._writers:
            writer.close()
        for part in range(NUM_PARTS):
            rows = (
                self._read(part) if self._files else pa.concat_tables([self._schema.empty_table(), *self._rows[part]])
            )
            self._rows[part].clear()
            yield Part(self._bound(part), self._bound(part + 1), rows)

    def _bound(self, part: int) -> int:
        return -(-part * self._num_problems // NUM_PARTS)

    def _split(self, rows: pa.Table) -> Iterator[tuple[int, pa.Table]]:
        parts = rows["problem"].to_numpy().astype(np.int64) * NUM_PARTS // self._num_problems
        if (parts[1:] < parts[:-1]).any():
            order = np.argsort(parts, kind="stable")
            rows, parts = rows.take(pa.array(order)), parts[order]
        numbers, starts, sizes = np.unique(parts, return_index=True, return_counts=True)
        for part, start, size in zip(numbers.tolist(), starts.tolist(), sizes.tolist(), strict=True):
            yield part, rows.slice(start, size)

    def _spill(self) -> None:
        with disk_errors(self._folder):
            if not self._files:
                self._open()
            for writer, waiting in zip(self._writers, self._rows, strict=True):
                for rows in waiting:
                    writer.write_table(rows)
                waiting.clear()

    def _open(self) -> None:
        for _ in range(NUM_PARTS):
            file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - the stack closes it
            self._stack.enter_context(file)
            self._files.append(file)
            self._writers.append(pa.ipc.new_stream(file, self._schema))

    def _read(self, part: int) -> pa.Table:
        self._files[part].seek(0)
        return pa.ipc.open_stream(self._files[part]).read_all()
