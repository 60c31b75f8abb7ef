"""Samples from JSONL. Arrow parses whole blocks; a block that it refuses is read line by line, so every bad line is
named and every good one kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json

from qrft.data.files import line_blocks
from qrft.data.jsonl import count_lines, numbered, parse_object
from qrft.data.samples.rows import INDEXES, Faults, Rows, as_scores
from qrft.data.samples.spellings import Names, find_names
from qrft.data.whole_numbers import as_whole, id_text, whole_column
from qrft.errors import DataError
from qrft.grading.rules import NO_VERDICTS, Verdicts

_BOM = b"\xef\xbb\xbf"


def read(path: Path, verdicts: Verdicts = NO_VERDICTS) -> Iterator[tuple[Callable[[], tuple[Rows, Faults]], int]]:
    """Yield how to read each block, and the bytes up to its end. The first object names the columns for all."""
    layout, first_line = None, 1
    for block, position in line_blocks(path):
        if first_line == 1:
            block = block.removeprefix(_BOM)
        layout = layout or _layout(block, path, first_line, verdicts)
        num_lines = count_lines(block)
        yield partial(_parse, block, layout, path, first_line, num_lines), position
        first_line += num_lines
    if first_line > 1 and layout is None:
        raise DataError(f"{path}: no line holds a JSON object. Expected one per line, with problem_id and completion.")


class _Layout:
    """What the first object of a file shows: the names of its columns and how Arrow is to read them."""

    def __init__(self, row: dict[str, Any], place: str, verdicts: Verdicts) -> None:
        self.names = find_names(row, place, verdicts)
        texts = pa.large_string()
        completion, ending = (
            pa.list_(texts) if name and isinstance(row[name], list) else texts
            for name in (self.names.completion, self.names.ending)
        )
        id_kind = {int: pa.int64(), float: pa.float64()}.get(type(row[self.names.problem_id]), texts)
        index_kind = pa.float64() if isinstance(row.get("sample_index"), float) else pa.int64()
        types = Names(id_kind, completion, index_kind, texts, ending, _verdict_kind(row.get(self.names.verdict or "")))
        self.types = types
        self.schema = pa.schema([(name, kind) for name, kind in zip(self.names, types, strict=True) if name])


def _verdict_kind(value: Any) -> Any:
    if isinstance(value, list):
        return pa.list_(_verdict_kind(next(iter(value), None)))
    return pa.bool_() if isinstance(value, bool) else pa.float64()


def _layout(block: bytes, path: Path, first_line: int, verdicts: Verdicts) -> _Layout | None:
    for number, line in numbered(block, first_line):
        try:
            return _Layout(parse_object(line), f"{path}:{number}", verdicts)
        except ValueError:
            continue
    return None


def _parse(block: bytes, layout: _Layout | None, path: Path, first_line: int, num_lines: int) -> tuple[Rows, Faults]:
    table = _parse_block(block, layout) if layout else None
    if layout is None or table is None or table.num_rows != num_lines:
        return _parse_lines(block, layout, path, first_line)
    ids, completions, indexes, models, endings, verdicts = (
        table[name].combine_chunks() if name else pa.nulls(num_lines, kind)
        for name, kind in zip(layout.names, layout.types, strict=True)
    )
    ids, whole_indexes = whole_column(ids), whole_column(indexes)
    if ids.null_count or whole_indexes.null_count > indexes.null_count:  # the lines say what is there instead
        return _parse_lines(block, layout, path, first_line)
    numbers = range(first_line, first_line + num_lines)
    return Rows(ids, completions, whole_indexes, models, endings, as_scores(verdicts), numbers), Faults()


def _starts_objects(block: bytes) -> bool:
    """Return whether every line begins with {. Then as many rows as lines means one per line; and Arrow's parser, which
    crashes when the first value is null (apache/arrow issue 47409), meets an object first."""
    data = np.frombuffer(block, np.uint8)
    starts = np.flatnonzero(data[:-1] == ord("\n")) + 1
    return block.startswith(b"{") and bool((data[starts] == ord("{")).all())


def _parse_block(block: bytes, layout: _Layout) -> pa.Table | None:
    """Return None where Arrow meets anything but JSON in UTF-8 of the first row's types."""
    if not _starts_objects(block):
        return None
    options = pa.json.ParseOptions(explicit_schema=layout.schema, unexpected_field_behavior="ignore")
    whole = pa.json.ReadOptions(use_threads=False, block_size=len(block) + 1)
    try:
        table = pa.json.read_json(pa.BufferReader(block), whole, options)
        table.validate(full=True)
        return table
    except pa.ArrowException:
        return None


# ------------------------------------------------------------------------------------------------- line by line ----


def _parse_lines(block: bytes, layout: _Layout | None, path: Path, first_line: int) -> tuple[Rows, Faults]:
    faults = Faults()
    rows: list[tuple[str | None, Any, int | None, str | None, Any, Any]] = []
    numbers: list[int] = []
    for number, line in numbered(block, first_line):
        try:
            row = parse_object(line)
            if layout:  # otherwise no line of the block holds an object
                rows.append(_row(row, layout))
                numbers.append(number)
        except ValueError as error:
            faults.add(f"{path}:{number}: {error}")
    texts = pa.large_string()
    listed = (layout.types.completion, layout.types.ending) if layout else (texts, texts)
    scores = pa.list_(pa.float64()) if layout and pa.types.is_list(layout.types.verdict) else pa.float64()
    types = (texts, listed[0], pa.int64(), texts, listed[1], scores)
    ids, completions, indexes, models, endings, verdicts = (
        pa.array([row[i] for row in rows], kind) for i, kind in enumerate(types)
    )
    return Rows(ids, completions, indexes, models, endings, verdicts, np.array(numbers, np.int64)), faults


def _row(row: dict[str, Any], layout: _Layout) -> tuple[str | None, Any, int | None, str | None, Any, Any]:
    """Return the row's fields. Raises ValueError for a value that is missing or of a wrong type."""
    names, values = layout.names, [row.get(name) if name else None for name in layout.names]
    if values[0] is None or values[1] is None:
        raise ValueError(f"found no {names.problem_id if values[0] is None else names.completion}.")
    completion = _text_or_list(values[1], names.completion, layout.types.completion)
    ending = None if values[4] is None else _text_or_list(values[4], str(names.ending), layout.types.ending)
    problem_id = _text(id_text(values[0], names.problem_id), names.problem_id)
    return problem_id, completion, _index(values[2]), _text(values[3], "model"), ending, _scores(values[5], layout)


def _text_or_list(value: Any, name: str, kind: Any) -> Any:
    """Return a text or a list of them, as in the file's first row."""
    if isinstance(value, list) != pa.types.is_list(kind):
        raise ValueError(f"{name} is {_shown(value)}, but has another type in the file's first row.")
    return [_text(text, name) for text in value] if isinstance(value, list) else _text(value, name)


def _scores(value: Any, layout: _Layout) -> Any:
    """Return a verdict as a number, or a list of them, as in the file's first row."""
    values = value if isinstance(value, list) else [value]
    is_list = pa.types.is_list(layout.types.verdict)
    if (value is not None and isinstance(value, list) != is_list) or not all(
        one is None or isinstance(one, (bool, int, float)) for one in values
    ):
        raise ValueError(f"{layout.names.verdict} is {_shown(value)}, expected true, false or a number.")
    scores = [None if one is None else float(one) for one in values]
    return scores if is_list and value is not None else scores[0] if scores else None


def _index(value: Any) -> int | None:
    value = as_whole(value)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value not in INDEXES):
        raise ValueError(f"sample_index is {_shown(value)}, expected a whole number from 0.")
    return value


def _text(value: Any, name: str) -> str | None:
    """Replace halves of surrogate pairs, which JSON can spell but which are not characters, by U+FFFD."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError(f"{name} is {_shown(value)}, expected a text.")
    return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _shown(value: Any) -> str:
    return repr(value)[:60]
