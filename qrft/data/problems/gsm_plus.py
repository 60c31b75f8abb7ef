"""GSM-Plus: each of GSM8K's test problems in eight variations (Li et al. 2024, arXiv 2402.19255).

A row in its form; where a variation leaves out what is needed, its answer is none, and no sample is right:

    {"question": "Ann has 30 pears and buys 40 more. How many pears does she have?", "solution": "30+40=70", "answer":
     "70", "perturbation_type": "digit expansion", "seed_question": "Ann has 3 pears ...", "seed_answer": "7"}
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from qrft.data.problems.problem_set import Hub, ProblemSet
from qrft.data.problems.table import CLUSTER, Fields, make_table
from qrft.data.rows import read_rows

KEYS, SEED = ("question", "solution", "answer"), "seed_question"
SPLITS = ("test", "testmini")


def read(path: Path) -> pa.Table:
    """Return the problems of one of its files. The variations of a question are a cluster."""
    return make_table(((place, _fields(row)) for place, row in read_rows(path, KEYS, (*KEYS, SEED))), path)


def _fields(row: Fields) -> Fields:
    answer = "None" if row.get("answer") in (None, "") else row["answer"]
    return {**{key: row.get(key) for key in KEYS}, "answer": answer, CLUSTER: row.get(SEED)}


SET = ProblemSet(
    splits=SPLITS,
    file="gsm-plus/{split}.jsonl",
    read=read,
    hub={split: Hub("qintongli/GSM-Plus", (f"data/{split}-00000-of-00001.jsonl",)) for split in SPLITS},
)
