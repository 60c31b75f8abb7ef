"""MultiArith: story problems of primary school in two or more steps, with bare answers (Roy and Roth 2015).

All 600 problems are one split, as they were published. A row as published, and one on the hub:

    [{"iIndex": 1, "sQuestion": "Ann has 3 pears and buys 4 more. How many has she?", "lEquations": ["X=3+4"],
      "lSolutions": [7.0]}, ...]

    {"question": "Ann has 3 pears and buys 4 more. How many has she?", "final_ans": "7"}
"""

from __future__ import annotations

from qrft.data.problems import mawps
from qrft.data.problems.problem_set import Hub, ProblemSet

SET = ProblemSet(
    splits=("test",),
    file="multiarith/MultiArith.json",
    read=mawps.read,
    hub={"test": Hub("ChilleD/MultiArith", ("test.json", "train.json"))},
)
