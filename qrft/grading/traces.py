"""Reasoning traces: what a model thinks before it answers, between two tags. docs/semantics.md says what they are."""

from __future__ import annotations

import re
from typing import AnyStr, NamedTuple


class Traces(NamedTuple):
    """The tags of traces; whether each text begins inside one, and whether the equations in them count."""

    opening: str
    closing: str
    is_open: bool = False
    with_equations: bool = False


TRACES = Traces("<think>", "</think>")  # the tags of nearly all models


class Stretches(NamedTuple):
    """The spans of a text outside its traces, in order; whether it ends inside a trace. A trace follows each but the
    last, and the last too where the text ends inside one."""

    spans: list[tuple[int, int]]
    is_unclosed: bool


def stretches(text: AnyStr, traces: Traces | None) -> Stretches:
    """Divide a text, or its bytes. Without tags it is one stretch."""
    if traces is None:
        return Stretches([(0, len(text))], False)
    spans: list[tuple[int, int]] = []
    start, is_inside = 0, traces.is_open
    for found in _tags(text, traces):
        if found.group(1):  # it closes a trace, even one whose opening tag is in the prompt
            start, is_inside = found.end(), False
        elif not is_inside:
            spans.append((start, found.start()))
            is_inside = True
    return Stretches(spans if is_inside else [*spans, (start, len(text))], is_inside)


def without_traces(text: str, traces: Traces | None) -> str:
    """Return a text without its traces, and without white space where they stood at its beginning."""
    spans = stretches(text, traces).spans
    return text if spans == [(0, len(text))] else "".join(text[slice(*span)] for span in spans).lstrip()


def _tags(text: AnyStr, traces: Traces) -> list[re.Match[AnyStr]]:
    closing, opening = (re.escape(tag) for tag in (traces.closing, traces.opening))
    pattern = f"({closing})|{opening}"
    if isinstance(text, bytes):
        return list(re.finditer(pattern.encode("utf-8", "surrogateescape"), text))
    return list(re.finditer(pattern, text))
