"""Grading and curating whole columns of texts; docs/semantics.md says what is decided.

`rules` holds the settings, `grader` and `selection` call the C core, and `reference` is its slow, readable twin, which
defines every result. Names are imported when first used, so that the settings alone load neither Arrow nor C.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qrft.grading.grader import GRADER_VERSION, Answers, extract_answers, grade, parse_numbers
    from qrft.grading.rules import Rules, Selection
    from qrft.grading.selection import Selected, curate, distance, select, verdicts

_MODULES = {
    "grader": ("GRADER_VERSION", "Answers", "extract_answers", "grade", "parse_numbers"),
    "rules": ("Rules", "Selection"),
    "selection": ("Selected", "curate", "distance", "select", "verdicts"),
}

__all__ = [
    "GRADER_VERSION",
    "Answers",
    "Rules",
    "Selected",
    "Selection",
    "curate",
    "distance",
    "extract_answers",
    "grade",
    "parse_numbers",
    "select",
    "verdicts",
]


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"qrft.grading.{module}"), name)
    raise AttributeError(f"module 'qrft.grading' has no attribute {name!r}")
