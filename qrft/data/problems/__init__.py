"""Problem sets: the built-in ones by name, and files of people's own; `find` knows the published ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from qrft.data import jsonl
from qrft.data.files import read_errors
from qrft.data.problems import tiny_math
from qrft.data.schema import PROBLEMS
from qrft.errors import DataError

MARKER = "####"  # GSM8K's: what follows it is the answer


def draw(name: str, seed: int, num_problems: int) -> pa.Table:
    """The first `num_problems` problems of a built-in set such as "tiny-math/train"."""
    split = name.partition("/")[2]
    return pa.Table.from_pylist(list(tiny_math.problems(split, seed, num_problems)), schema=PROBLEMS)


def share(problems: pa.Table, fraction: float, seed: int) -> pa.Table:
    """A share of the problems, at least one, in their order; of one seed a smaller share lies within every larger."""

    def rank(problem_id: str) -> bytes:
        return hashlib.blake2b(f"{seed}/{problem_id}".encode(), digest_size=8).digest()

    number = max(1, round(fraction * problems.num_rows))
    ids = problems["problem_id"].to_pylist()
    return problems.take(pa.array(sorted(sorted(range(len(ids)), key=lambda row: rank(ids[row]))[:number]), pa.int64()))


def read_jsonl(path: Path, num_problems: int | None = None) -> pa.Table:
    """The first problems of a JSONL file with "question" and "answer" (GSM8K's form, or a bare answer).

    `problem_id` (or `id`) names a problem; without it, its number among the rows, from 0. Raises DataError, with the
    file and the line, for what can't be read.
    """
    return _table(jsonl.objects(path, "question", "answer"), path, num_problems)


def read_parquet(path: Path) -> pa.Table:
    """As `read_jsonl`, from Parquet: qrft's own problems.parquet too, whose worked solutions stand under `solution`."""
    with read_errors(path):
        table = pq.read_table(path)
    keys = [name for name in ("problem_id", "id", "question", "answer", "solution") if name in table.column_names]
    rows = [_with_solution(row) for row in table.select(keys).to_pylist()]
    return _table(((f"{path}:{number}", row) for number, row in enumerate(rows, 1)), path, None)


def _with_solution(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "answer": row["solution"]} if MARKER in (row.get("solution") or "") else row


def _table(found: Iterable[tuple[str, dict[str, Any]]], path: Path, num_problems: int | None) -> pa.Table:
    """From rows, each with its place for people."""
    rows: list[dict[str, str]] = []
    places: dict[str, str] = {}
    for place, fields in found:
        if num_problems is not None and len(rows) == num_problems:
            break
        row = _row(fields, str(len(rows)), place)
        if row["problem_id"] in places:
            raise DataError(
                f"{place}: problem_id {row['problem_id'][:60]!r} was on line {places[row['problem_id']]} already. "
                "Each problem needs an id of its own; without any, the row number serves."
            )
        places[row["problem_id"]] = place.rpartition(":")[2]
        rows.append(row)
    if not rows:
        raise DataError(f'{path}: no problem in it. Expected a line a problem: {{"question": ..., "answer": ...}}.')
    return pa.Table.from_pylist(rows, schema=PROBLEMS)


def _row(row: dict[str, Any], default_id: str, place: str) -> dict[str, str]:
    question, solution = (_text(row, key, place) for key in ("question", "answer"))
    if MARKER not in solution:
        solution = solution if MARKER in solution else f"{MARKER} {solution}"
    answer = solution.rpartition(MARKER)[2].strip()
    if not answer:
        raise DataError(f"{place}: found nothing after {MARKER}, expected the answer. Correct or remove the line.")
    given_id = row.get("problem_id", row.get("id"))
    problem_id = default_id if given_id is None else str(given_id)
    if jsonl.has_half_character(problem_id):
        raise DataError(f"{place}: problem_id holds half a character (\\ud800 to \\udfff). Correct or remove the line.")
    return {"problem_id": problem_id, "question": question, "solution": solution, "answer": answer}


def _text(row: dict[str, Any], key: str, place: str) -> str:
    value = row.get(key)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        found = f"{key} is {value!r}" if key in row else f"the keys {', '.join(sorted(row)) or '(none)'}"
        found = found if len(found) <= 80 else f"{found[:77]}..."
        raise DataError(f'{place}: found {found}, expected a text under "{key}". Correct or remove the line.')
    if jsonl.has_half_character(value):
        raise DataError(f"{place}: {key} holds half a character (\\ud800 to \\udfff). Correct or remove the line.")
    return value.strip()
