r"""GSM8K-Platinum: GSM8K's test problems, revised: wrong answers corrected, ambiguous problems left out (Vendrow et al.
2025, arXiv 2502.03461).

A row in its form:

    {"question": "Ann has 3 pears and buys 4 more. How many pears does she have?",
     "answer": "Ann has 3+4=<<3+4=7>>7 pears.\n#### 7", "cleaning_status": "consensus"}
"""

from __future__ import annotations

from qrft.data.problems.problem_set import Hub, ProblemSet

SET = ProblemSet(
    splits=("test",),
    file="gsm8k_platinum/test.jsonl",
    answer_format="gsm8k",
    hub={"test": Hub("madrylab/gsm8k-platinum", ("main/test-00000-of-00001.parquet",))},
)
