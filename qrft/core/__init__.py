"""The C core: grading and curating whole columns of texts. docs/semantics.md says what it decides.

`native` calls the C code, `oracle` is its slow, readable twin, which defines every result.
"""

from qrft.core.native import GRADER_VERSION, Answers, curate, extract_answers, grade, parse_numbers, verdicts

__all__ = ["GRADER_VERSION", "Answers", "curate", "extract_answers", "grade", "parse_numbers", "verdicts"]
