"""Make the table of problems (schema.PROBLEMS) from rows of any form; errors name the place of a row."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pyarrow as pa

from qrft.data.jsonl import has_half_character
from qrft.data.problems.gold import MARKER, last_box, read_gold
from qrft.data.schema import CLUSTER_FIELD, PROBLEMS
from qrft.data.turns import MESSAGES, tell_of_systems, with_question
from qrft.data.whole_numbers import as_whole, id_text
from qrft.errors import DataError

Fields = Mapping[str, Any]

# The first that a row has counts.
PROBLEM_ID = ("problem_id", "id", "unique_id")
QUESTION = ("question", "problem")
# A worked solution may stand under either; a bare answer beside it under "answer".
ANSWER, SOLUTION = "answer", "solution"
CLUSTER = CLUSTER_FIELD.name
COLUMNS = (*PROBLEM_ID, *QUESTION, ANSWER, SOLUTION, MESSAGES, CLUSTER)


# Where a problem lacks its answer.
WITHOUT_ANSWERS = (
    "Problems to train on may go without answers: where their samples vote for them (gold.vote, --vote), or have "
    "verdicts (curate.verdicts, --verdicts)."
)


def make_table(
    rows: Iterable[tuple[str, Fields]], path: Path, num_problems: int | None = None, *, needs_answers: bool = True
) -> pa.Table:
    """Return the first problems of rows that each come with their place, such as "problems.jsonl:3".

    Raises DataError, with the place, for a row without question or answer, an id that occurs twice, and no rows.
    """
    problems: list[dict[str, str]] = []
    places: dict[str, str] = {}
    systems: list[str | None] = []
    for place, given in islice(rows, num_problems):
        fields, system = with_question(given, QUESTION, SOLUTION, place)
        systems.append(system)
        problem = _problem(fields, str(len(problems)), place, needs_answers)
        if problems and (CLUSTER in problem) != (CLUSTER in problems[0]):
            raise DataError(
                f"{place}: {'has a' if CLUSTER in problem else 'has no'} {CLUSTER}, unlike the problems before. "
                "Give one to each problem, or to none."
            )
        name = problem["problem_id"]
        if name in places:
            raise DataError(
                f"{place}: problem_id {name[:60]!r} is already on line {places[name]}. "
                "Each problem needs an id of its own; without any, the row number serves."
            )
        places[name] = place.rpartition(":")[2]
        problems.append(problem)
    if not problems:
        raise DataError(f'{path}: found no problems. Expected a problem per line: {{"question": ..., "answer": ...}}.')
    tell_of_systems(path, systems)
    return as_table(problems)


def as_table(rows: Sequence[Mapping[str, str]]) -> pa.Table:
    """Return rows of schema.PROBLEMS as a table, with their clusters where they have any."""
    has_clusters = any(CLUSTER in row for row in rows)
    return pa.Table.from_pylist(rows, schema=PROBLEMS.append(CLUSTER_FIELD) if has_clusters else PROBLEMS)


def clusters_of(table: pa.Table) -> npt.NDArray[Any] | None:
    """Return the cluster of each row of a table by a number; None where they are not known."""
    if CLUSTER not in table.column_names or table[CLUSTER].null_count:
        return None
    codes: npt.NDArray[Any] = table[CLUSTER].combine_chunks().dictionary_encode().indices.to_numpy()
    return codes


def _problem(fields: Fields, default_id: str, place: str, needs_answers: bool) -> dict[str, str]:
    question = _text(fields, next((name for name in QUESTION if fields.get(name) is not None), QUESTION[0]), place)
    solution, answer = _gold(fields, place) if needs_answers or _has_gold(fields) else ("", "")
    given_ids = (_id(fields, name, place) for name in PROBLEM_ID)
    problem_id = next((name for name in given_ids if name is not None), default_id)
    if has_half_character(problem_id):
        raise DataError(f"{place}: problem_id holds half a character (\\ud800 to \\udfff). Correct or remove the line.")
    problem = {"problem_id": problem_id, "question": question, "solution": solution, "answer": answer}
    cluster = _id(fields, CLUSTER, place)
    return problem if cluster is None else {**problem, CLUSTER: cluster}


def _id(fields: Fields, name: str, place: str) -> str | None:
    try:
        return id_text(fields.get(name), name)
    except ValueError as error:
        raise DataError(f"{place}: {error} Correct or remove the line.") from None


def _has_gold(fields: Fields) -> bool:
    """Return whether a row has anything where its answer may stand."""
    return any(_is_there(fields.get(key)) for key in (ANSWER, SOLUTION))


def _is_there(value: Any) -> bool:
    return value is not None and bool(str(value).strip())


def _gold(fields: Fields, place: str) -> tuple[str, str]:
    """Return the worked solution, "" for none, and the answer. A solution beside a bare answer is taken as it is."""
    key = SOLUTION if fields.get(ANSWER) is None and fields.get(SOLUTION) is not None else ANSWER
    text = _text(fields, key, place)
    if key == SOLUTION and MARKER not in text and last_box(text) is None:
        raise DataError(
            f"{place}: the solution gives no answer after {MARKER} or in \\boxed{{}}, and there is none beside it. "
            f'Give the answer under "{ANSWER}".'
        )
    gold = read_gold(text)
    if not gold.answer:
        empty = f"found nothing after {MARKER}" if MARKER in fields[key] else "found an empty box"
        raise DataError(f"{place}: {empty}, expected the answer. Correct or remove the line.")
    beside = fields.get(SOLUTION)
    if gold.solution or not isinstance(beside, str) or not beside.strip():
        return gold
    return (_text(fields, SOLUTION, place) if read_gold(beside) != gold else ""), gold.answer


def _text(fields: Fields, key: str, place: str) -> str:
    value = as_whole(fields.get(key))
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        found = f"{key} is {value!r}" if key in fields else f"the keys {', '.join(sorted(fields)) or '(none)'}"
        found = found if len(found) <= 80 else f"{found[:77]}..."
        way_out = f" {WITHOUT_ANSWERS}" if key == ANSWER and not _is_there(value) else ""
        raise DataError(f'{place}: found {found}, expected a text under "{key}". Correct or remove the line.{way_out}')
    if has_half_character(value):
        raise DataError(f"{place}: {key} holds half a character (\\ud800 to \\udfff). Correct or remove the line.")
    return value.strip()


def joined(body: str, question: str) -> str:
    """Return a story and what it asks as one text; the story often lacks its full stop."""
    story = body.strip()
    return f"{story}{'' if story.endswith(('.', '?', '!', ',')) else '.'} {question.strip()}"


def share(problems: pa.Table, fraction: float, seed: int) -> pa.Table:
    """Return a share of the problems, at least one, in order; with one seed a smaller share lies within a larger."""

    def rank(problem_id: str) -> bytes:
        return hashlib.blake2b(f"{seed}/{problem_id}".encode(), digest_size=8).digest()

    number = max(1, round(fraction * problems.num_rows))
    ids = problems["problem_id"].to_pylist()
    return problems.take(pa.array(sorted(sorted(range(len(ids)), key=lambda row: rank(ids[row]))[:number]), pa.int64()))
