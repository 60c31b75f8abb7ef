r"""GSM8K: story problems of grade-school mathematics with worked solutions (Cobbe et al. 2021, arXiv 2110.14168).

A row in its form:

    {"question": "Ann has 3 pears and buys 4 more. How many pears does she have?",
     "answer": "Ann has 3+4=<<3+4=7>>7 pears.\n#### 7"}
"""

from __future__ import annotations

from qrft.data.problems.problem_set import Hub, ProblemSet

SPLITS = ("train", "test")
NAME, REVISION = "openai/gsm8k", "740312add88f781978c0658806c59bc2815b9866"

SET = ProblemSet(
    splits=SPLITS,
    file="gsm8k/{split}.jsonl",
    answer_format="gsm8k",
    hub={split: Hub(NAME, (f"main/{split}-00000-of-00001.parquet",), REVISION) for split in SPLITS},
)
