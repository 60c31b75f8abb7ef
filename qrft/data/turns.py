"""Conversations in people's data: the user's turn is the question, the assistant's, if there is one, the solution."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from qrft.errors import DataError

MESSAGES = "messages"
SHAPES = (("user",), ("user", "assistant"), ("system", "user"), ("system", "user", "assistant"))
SHOWN = 60  # characters of a system turn
log = logging.getLogger(__name__)


def with_question(
    fields: Mapping[str, Any], questions: Sequence[str], solution: str, place: str
) -> tuple[Mapping[str, Any], str | None]:
    """Return a row whose turns stand under the first name of a question and under `solution`, and its system turn.

    A row without turns, or with a question beside them, stays as it is. Raises DataError for what is no conversation
    of one question.
    """
    if MESSAGES not in fields or any(name in fields for name in questions):
        return fields, None
    texts = _texts(fields[MESSAGES], place)
    names = {questions[0]: "user", solution: "assistant"}
    return {**{name: texts[role] for name, role in names.items() if role in texts}, **fields}, texts.get("system")


def _texts(messages: Any, place: str) -> dict[str, str]:
    """Return each role's text."""
    turns = [turn if isinstance(turn, dict) else {} for turn in (messages if isinstance(messages, list) else [])]
    roles = tuple(str(turn.get("role")) for turn in turns)
    texts: dict[str, Any] = {role: turn.get("content") for role, turn in zip(roles, turns, strict=True)}
    if roles not in SHAPES or not all(isinstance(text, str) for text in texts.values()):
        found = f"the roles {', '.join(map(str, roles))}" if roles else repr(messages)
        content = "" if roles not in SHAPES else ", with a content that is no text"
        raise DataError(
            f'{place}: found {found[:80]}{content} under "{MESSAGES}". Expected turns of system (or none), user and '
            'assistant (or none), each {"role": ..., "content": TEXT}. Correct or remove the line.'
        )
    return texts


def tell_of_systems(path: Path, systems: Iterable[str | None]) -> None:
    """Warn of system turns in a file, which are no part of its questions: every prompt has the same one, or none."""
    found = [text for text in systems if text is not None]
    if not found:
        return
    texts = set(found)
    shown = repr(found[0] if len(found[0]) <= SHOWN else f"{found[0][:SHOWN]}...")
    which = f"the system turn {shown}" if len(texts) == 1 else f"one of {len(texts):,} system turns"
    log.warning(
        "%s: %s rows have %s, which is left out. The key `system` puts one into every prompt.",
        path,
        f"{len(found):,}",
        which,
    )
