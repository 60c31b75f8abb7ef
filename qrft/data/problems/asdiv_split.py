"""ASDiv's problems in two parts, since it is published as one: to learn from and to be measured on.

A problem is in one of them by a hash of its id: about a quarter in "test". Its formula is the worked solution where it
holds plain arithmetic that gives the answer (qrft.data.problems.formulas); "asdiv/test" is the whole set, without any.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from qrft.data.problems import asdiv


def split_of(problem_id: str) -> str:
    """Return the part in which a problem is."""
    first = hashlib.blake2b(problem_id.encode(), digest_size=1).digest()[0]
    return "test" if first < 64 else "train"


SET = replace(asdiv.SET, splits=("train", "test"), read=asdiv.read_worked, split_of=split_of)
