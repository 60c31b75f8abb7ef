r"""AIME: the thirty problems of a year's American Invitational Mathematics Examination, with whole numbers as answers.

Rows in its forms, 2024 and 2025:

    {"id": 60, "problem": "What is $3+4$?", "solution": "\\boxed{007}", "url": "https://..."}
    {"id": "0", "problem": "What is $3+4$?", "answer": "7"}
"""

from __future__ import annotations

from qrft.data.problems.problem_set import Hub, ProblemSet

SET = ProblemSet(
    splits=("2024", "2025"),
    file="aime/{split}.jsonl",
    answer_format="boxed",
    hub={
        "2024": Hub("math-ai/aime24", ("test-00000-of-00001.parquet",)),
        "2025": Hub("math-ai/aime25", ("test.jsonl",)),
    },
)
