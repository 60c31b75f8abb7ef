"""The reference: what the C core must decide, in slow and plain Python. It is docs/semantics.md as a program.

The tests compare C with it. Whole columns are always graded by C; production uses this for single texts only: what C
leaves to Python in mode "paper", which equation of a shown sample is wrong, where the box of a gold solution ends.
Texts are bytes (str is encoded); all spans are in bytes.
"""

from qrft.grading.reference.answers import Answer, find_answer, parse_number
from qrft.grading.reference.equations import check_equation, equations_status, find_equations
from qrft.grading.reference.grades import grade, soundness_of
from qrft.grading.reference.keys import equation_key, murmur3, path_of
from qrft.grading.reference.numbers import as_bytes
from qrft.grading.reference.selection import MAX_CELLS, curate, distance

__all__ = [
    "MAX_CELLS",
    "Answer",
    "as_bytes",
    "check_equation",
    "curate",
    "distance",
    "equation_key",
    "equations_status",
    "find_answer",
    "find_equations",
    "grade",
    "murmur3",
    "parse_number",
    "path_of",
    "soundness_of",
]
