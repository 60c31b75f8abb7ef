"""Rows set aside until all of their problem are there: in memory, or on the disk when they are many."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from qrft.store import disk_errors

BUDGET_BYTES = 512 << 20  # what is kept in memory; selection needs several times that of a part
NUM_PARTS = 64  # on the disk; so 32 GiB of rows still come in parts of the size that memory held before


class Part(NamedTuple):
    """All rows of the problems first .. end - 1, in the order in which they came."""

    first: int
    end: int
    rows: pa.Table


class Spool:
    """Rows with an int32 column `problem`, below `num_problems`. Use as a context manager.

    The files have no names: they are gone when the process is, however it ends.
    """

    def __init__(self, folder: Path, schema: pa.Schema, num_problems: int, budget: int = BUDGET_BYTES) -> None:
        self._folder, self._schema, self._num_problems, self._budget = folder, schema, num_problems, budget
        self._rows: list[pa.Table] = []
        self._num_bytes = 0
        self._files: list[Any] = []
        self._writers: list[Any] = []
        self._stack = ExitStack()

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def add(self, rows: pa.Table) -> None:
        self._rows.append(rows)
        self._num_bytes += rows.nbytes
        if self._files or self._num_bytes > self._budget:
            self._spill()

    def parts(self) -> Iterator[Part]:
        """Once, after the last row."""
        if not self._files:
            yield Part(0, self._num_problems, pa.concat_tables(self._rows or [self._schema.empty_table()]))
            return
        for writer in self._writers:
            writer.close()
        for part, file in enumerate(self._files):
            file.seek(0)
            yield Part(self._bound(part), self._bound(part + 1), pa.ipc.open_stream(file).read_all())

    def _bound(self, part: int) -> int:
        return -(-part * self._num_problems // NUM_PARTS)

    def _spill(self) -> None:
        with disk_errors(self._folder):
            if not self._files:
                self._open()
            for rows in self._rows:
                self._write(rows)
        self._rows.clear()

    def _open(self) -> None:
        for _ in range(NUM_PARTS):
            file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - the stack closes it
            self._stack.enter_context(file)
            self._files.append(file)
            self._writers.append(pa.ipc.new_stream(file, self._schema))

    def _write(self, rows: pa.Table) -> None:
        parts = rows["problem"].to_numpy().astype(np.int64) * NUM_PARTS // self._num_problems
        order = np.argsort(parts, kind="stable")
        rows = rows.take(pa.array(order)) if (parts[1:] < parts[:-1]).any() else rows
        found, starts, sizes = np.unique(parts[order], return_index=True, return_counts=True)
        for part, start, size in zip(found, starts, sizes, strict=True):
            self._writers[part].write_table(rows.slice(start, size))
