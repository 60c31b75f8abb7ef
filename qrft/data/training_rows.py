"""Training data of people's own: JSONL or Parquet, a question and its completion per row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from qrft.data import rows
from qrft.data.jsonl import has_half_character
from qrft.data.turns import MESSAGES, tell_of_systems, with_question
from qrft.errors import DataError

# The first that a file has counts. A file with both "solution" and "answer" has a bare answer under the latter.
QUESTION = ("question", "problem", "prompt", "query")
COMPLETION = ("completion", "response", "solution", "answer", "output")


class Row(NamedTuple):
    """name: for messages, such as "problem_id 'gsm8k-17'" or "data.jsonl:17"."""

    name: str
    question: str
    completion: str


def read_training_rows(path: Path) -> list[Row]:
    """Return every row of a file; the first one decides which columns count: those of a question and its completion, or
    `messages`, whose turns they are.

    Raises DataError, with the file and the line, for what can't be read or holds no question.
    """
    training: list[Row] = []
    question = completion = ""
    systems: list[str | None] = []
    for place, given in rows.read_rows(path, ("question", "completion"), (*QUESTION, *COMPLETION, MESSAGES)):
        fields, system = with_question(given, QUESTION, COMPLETION[0], place)
        systems.append(system)
        if not training:
            question, completion = _first(QUESTION, fields, place), _first(COMPLETION, fields, place)
        training.append(Row(place, _text(fields, question, place), _text(fields, completion, place)))
        if not training[-1].question.strip():
            raise DataError(f"{place}: {question} is empty. Correct or remove the row.")
    if not training:
        raise DataError(f'{path}: found no rows. Expected an example per line: {{"question": ..., "completion": ...}}.')
    tell_of_systems(path, systems)
    return training


def _first(spellings: Iterable[str], fields: Mapping[str, Any], place: str) -> str:
    for name in spellings:
        if name in fields:
            return name
    found = ", ".join(fields)[:200] or "(none)"
    raise DataError(f"{place}: found the columns {found}. Expected one of {', '.join(spellings)}.")


def _text(fields: Mapping[str, Any], name: str, place: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        found = repr(value)[:60] if name in fields else "nothing"
        raise DataError(f"{place}: found {found} under {name!r}, expected a text. Correct or remove the row.")
    if has_half_character(value):
        raise DataError(f"{place}: {name} holds half a character (\\ud800 to \\udfff). Correct or remove the row.")
    return value
