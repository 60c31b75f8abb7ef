"""The names under which the columns of samples are found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from qrft.errors import DataError
from qrft.grading.rules import NO_VERDICTS, Verdicts

# The first that a file has counts. "output" is last: instruction data uses that name for the gold answer.
PROBLEM_ID = ("problem_id", "question_id", "id", "idx")
_TEXT = ("completion", "response", "generation", "prediction", "sample", "output")
ENDING = ("finish_reason", "finish_reasons")
VERDICT = (IS_CORRECT, SCORE) = ("is_correct", "score")
COMPLETION = tuple(name for text in _TEXT for name in (text, f"{text}s"))


class Names(NamedTuple):
    """What a file calls its columns; None for an optional one that it lacks."""

    problem_id: str
    completion: str
    sample_index: str | None
    model: str | None
    ending: str | None
    verdict: str | None


def find_names(there: Iterable[str], place: str, verdicts: Verdicts = NO_VERDICTS) -> Names:
    """Return what a file calls its columns. Raises DataError where those of problems, of completions or of verdicts, if
    they are to be read, are missing."""
    listed = list(there)
    return Names(
        _first(PROBLEM_ID, listed, place, "the problem"),
        _first(COMPLETION, listed, place, "the completion"),
        "sample_index" if "sample_index" in listed else None,
        "model" if "model" in listed else None,
        next((name for name in ENDING if name in listed), None),
        _verdict(listed, place, verdicts) if verdicts.verdicts else None,
    )


def _verdict(there: Sequence[str], place: str, verdicts: Verdicts) -> str:
    name = _first(VERDICT, there, place, "the verdict")
    if name == SCORE and verdicts.min_score is None:
        raise DataError(f"{place}: has a score for each sample, but no score says what is right. Give a min_score.")
    return name


def _first(spellings: Sequence[str], there: Sequence[str], place: str, what: str) -> str:
    for name in spellings:
        if name in there:
            return name
    found = ", ".join(there)[:200] or "(none)"
    raise DataError(f"{place}: no column for {what}; found {found}. Expected one of {', '.join(spellings)}.")
