"""The C core: grading and curating whole columns of texts. docs/semantics.md says what it decides.

`grading` and `selection` call the C code; `oracle` is its slow, readable twin, which defines every result.
"""

from qrft.core.grading import GRADER_VERSION, Answers, Rules, extract_answers, grade, parse_numbers
from qrft.core.selection import curate, distance, verdicts

__all__ = [
    "GRADER_VERSION",
    "Answers",
    "Rules",
    "curate",
    "distance",
    "extract_answers",
    "grade",
    "parse_numbers",
    "verdicts",
]
