r"""MATH-500: 500 test problems of MATH (Hendrycks et al. 2021, arXiv 2103.03874), chosen by Lightman et al. 2023.

A row in its form:

    {"problem": "What is $3+4$?", "solution": "Adding, $3+4=\boxed{7}$.", "answer": "7", "subject": "Prealgebra",
     "level": 1, "unique_id": "test/prealgebra/1.json"}
"""

from __future__ import annotations

from qrft.data.problems.problem_set import Hub, ProblemSet

SET = ProblemSet(
    splits=("test",),
    file="math-500/test.jsonl",
    answer_format="boxed",
    hub={"test": Hub("HuggingFaceH4/MATH-500", ("test.jsonl",), "6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be")},
)
