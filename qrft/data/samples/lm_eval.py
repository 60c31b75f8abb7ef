"""Samples that lm-evaluation-harness logged (`--log_samples`): a line for each document and each of its filters.

A line in its form. `doc_id` is the number of the document in its set; `resps` holds the texts of each of its requests,
of which a task that generates has one:

    {"doc_id": 0, "doc": {"question": "3 and 4?", "answer": "#### 7"}, "target": "#### 7", "arguments": {...},
     "resps": [["3+4=7\\n#### 7"]], "filtered_resps": ["7"], "filter": "strict-match", "exact_match": 1.0}
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from qrft.data import jsonl
from qrft.data.files import is_parquet, line_blocks
from qrft.data.jsonl import count_lines, numbered, parse_object
from qrft.data.samples.rows import Faults, Pieces, Rows
from qrft.errors import DataError

KEYS = {"doc_id", "doc", "resps"}


def is_logged(path: Path) -> bool:
    """Return whether the harness logged a file, by its first line."""
    return _first(path).keys() >= KEYS


def _first(path: Path) -> dict[str, Any]:
    if not is_parquet(path) and path.is_file():  # a pipe could not be read again
        with contextlib.suppress(ValueError):
            for _, line in jsonl.lines(path):
                return parse_object(line)
    return {}


def read(path: Path, questions: Sequence[str] | None) -> Pieces:
    """Yield how to read each block, and the bytes up to its end. The problem of a sample is the number of its document.

    Only the lines of the first filter count: the others hold the same texts. questions: of the problems; None: unknown.
    Raises DataError where a document does not ask the question of its number.
    """
    wanted, number = _first(path).get("filter"), 1
    for block, position in line_blocks(path):
        yield partial(_parse, block, path, number, wanted, questions), position
        number += count_lines(block)


def _parse(block: bytes, path: Path, first: int, wanted: Any, questions: Sequence[str] | None) -> tuple[Rows, Faults]:
    faults, ids, texts, numbers = Faults(), [], [], []
    for number, line in numbered(block, first):
        try:
            row = parse_object(line)
            if row.get("filter") != wanted:
                continue
            texts.append(_texts(row))
            ids.append(str(row["doc_id"]))
            numbers.append(number)
        except ValueError as error:
            faults.add(f"{path}:{number}: {error}")
            continue
        _check(row, f"{path}:{number}", questions)
    large, count = pa.large_string(), len(ids)
    columns = pa.array(ids, large), pa.array(texts, pa.list_(large)), pa.nulls(count, pa.int64())
    return Rows(*columns, pa.nulls(count, large), pa.nulls(count, large), pa.nulls(count, pa.float64()),
                np.array(numbers, np.int64)), faults  # fmt: skip


def _texts(row: dict[str, Any]) -> list[str]:
    """Return the texts of a document. Raises ValueError for what is none of a task that generates."""
    number, requests = row.get("doc_id"), row.get("resps")
    if not isinstance(number, int) or isinstance(number, bool):
        raise ValueError(f"doc_id is {number!r:.60}, expected a whole number.")
    texts = requests[0] if isinstance(requests, list) and len(requests) == 1 else None
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"resps is {requests!r:.60}, expected the texts of one request: of a task that generates.")
    return [text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for text in texts]


def _check(row: dict[str, Any], place: str, questions: Sequence[str] | None) -> None:
    """Raise DataError where the document is not the problem of its number: it would be graded by another's answer."""
    number, doc = row["doc_id"], row["doc"]
    if questions is None or number not in range(len(questions)):
        return
    texts = doc.values() if isinstance(doc, dict) else [doc]
    asked = _plain(" ".join(text for text in texts if isinstance(text, str)))
    if _plain(questions[number]) not in asked:
        raise DataError(
            f"{place}: document {number} does not ask what problem {number} asks ({questions[number][:60]!r}). Name "
            "the problems that lm-eval was run on, all of them and in their order."
        )


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text))
