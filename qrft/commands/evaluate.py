"""`qrft evaluate`: how often samples are right: one alone, by a vote of K, or any of K."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Any

import numpy as np
import pyarrow as pa

from qrft.commands.grading import Problems, Task, Totals, graded
from qrft.data.problems.table import clusters_of
from qrft.data.samples import Batch
from qrft.errors import DataError
from qrft.evaluation import stats
from qrft.evaluation.forms import Shares
from qrft.evaluation.stats import Floats
from qrft.evaluation.votes import Ballots, Votes

BESIDE = ("found", "flexible", "last_number")  # the share of samples with an answer in the asked form, and lenient ones


def run(task: Task, maj: Sequence[int] | None = None, passes: Sequence[int] | None = None) -> dict[str, Any]:
    """Return the facts, with `maj1@1`, `maj@K` and `pass@K`, each a value with its 95% interval over all problems.

    `found`, `flexible` and `last_number` are those of `forms.NAMES` beside maj1@1, which is strict.

    Where some problems have no sample, each comes a second time, over the problems that have: `maj1@1_of_sampled`.
    maj, passes: the K's; None: powers of two, and the number of samples that every problem has. Raises DataError
    when a problem has some samples, but fewer than a K that was asked for.
    """
    problems = Problems(task)
    totals = Totals(len(problems))
    votes, forms = _read(task, problems, totals)
    fewest = int(votes.num_samples[votes.num_samples > 0].min())
    default = _default_ks(fewest)
    for k in (*(maj or ()), *(passes or ())):
        _check(votes, problems, k)
    values = votes.measures(default if maj is None else maj, default if passes is None else passes)
    values = {"maj1@1": votes.share(), **{name: forms[name] for name in BESIDE}, **values}
    is_sampled, clusters = votes.num_samples > 0, clusters_of(problems.table)
    measures = {name: stats.summary(value, clusters) for name, value in values.items()}
    if not is_sampled.all():  # a part of a set: over all of it, and over the part
        own = None if clusters is None else clusters[is_sampled]
        measures |= {f"{name}_of_sampled": stats.summary(value[is_sampled], own) for name, value in values.items()}
    return totals.facts() | {"num_unsampled": int((~is_sampled).sum())} | measures


def _default_ks(fewest: int) -> list[int]:
    powers = [2**i for i in range(1, fewest.bit_length())]
    return sorted({*powers, fewest} - {1})


def _check(votes: Votes, problems: Problems, k: int) -> None:
    short = np.flatnonzero((votes.num_samples > 0) & (votes.num_samples < k))
    if len(short):
        name, count = problems.ids[int(short[0])].as_py(), votes.num_samples[short[0]]
        raise DataError(
            f"K = {k}: problem_id {name!r} has {count} samples ({len(short):,} problems have too few). "
            f"Ask for a K up to {votes.num_samples[votes.num_samples > 0].min()}, or give more samples."
        )


def _read(task: Task, problems: Problems, totals: Totals) -> tuple[Votes, dict[str, Floats]]:
    ballots = Ballots(len(problems), task.rules)

    def read(batch: Batch, grades: pa.Table) -> pa.DictionaryArray:
        return ballots.read(batch.completion, grades)

    with (
        Shares(len(problems), task.rules, task.num_threads) as forms,
        closing(graded(task, problems, totals, read)) as parts,
    ):
        for part in parts:
            problem = part.batch.problem
            ballots.add(problem, part.grades, part.extra)
            forms.add(problem, part.batch.completion, problems.gold(problem), part.grades)
    return ballots.votes(), forms.shares()
