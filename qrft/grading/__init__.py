"""The C core: grading and curating whole columns of texts. docs/semantics.md says what it decides.

`grading` and `selection` call the C code; `oracle` is its slow, readable twin, which defines every result.
"""

from qrft.grading.grader import GRADER_VERSION, Answers, Rules, extract_answers, grade, parse_numbers
from qrft.grading.selection import Selected, curate, distance, select, verdicts

__all__ = [
    "GRADER_VERSION",
    "Answers",
    "Rules",
    "Selected",
    "curate",
    "distance",
    "extract_answers",
    "grade",
    "parse_numbers",
    "select",
    "verdicts",
]
