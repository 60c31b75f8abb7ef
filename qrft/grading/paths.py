"""What a right path is, and which path a problem has before anything is sampled. All counts of paths use these.

A path is the equation list of a solution, or what stands in for it, known by its key (docs/semantics.md, "The key of a
path").
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from qrft.data.schema import JUDGED_BY_FIELD, SOUNDNESS_FIELD
from qrft.data.worked import has_answer, is_worked
from qrft.grading.grader import KEY_BYTES, equation_keys
from qrft.grading.rules import DEFAULT_RULES, Rules

Flags = npt.NDArray[np.bool_]

_OK, _SOUND, _YES, _NO_PATH, _NO_KEY = (
    pa.scalar("ok"),
    pa.scalar("sound"),
    pa.scalar(True),
    pa.scalar(None, pa.large_string()),
    pa.scalar(None, pa.binary(KEY_BYTES)),
)
# What a sample is judged by (schema.JUDGED_BY_FIELD); Arrow's, as made once.
ANSWER, VERDICT, VOTE, NOTHING = (pa.scalar(name, pa.string()) for name in ("answer", "verdict", "vote", "nothing"))
CUT_OFF = "length"  # the finish_reason of a sample that the token limit cut off
COMPARED = ("ok", "latex_equal", "latex_different")  # the statuses of answers that were compared with a gold one


def is_right_path(graded: pa.Table) -> Flags:
    """Return whether each row of schema.GRADED has the right answer and every equation right: what is selected from."""
    return as_flags(pc.and_(graded["is_correct"], pc.equal(graded["equations_status"], _OK)))


def is_cut_off(samples: pa.Table) -> Flags:
    """Return whether the token limit cut each sample off, as far as its table says how the samples ended."""
    if "finish_reason" not in samples.column_names:
        return np.zeros(samples.num_rows, np.bool_)
    return as_flags(pc.equal(samples["finish_reason"], CUT_OFF).fill_null(False))


def soundness(graded: pa.Table) -> Counter[str]:
    """Count the right paths by whether they are sound, or why not; empty where that was not asked for."""
    if SOUNDNESS_FIELD.name not in graded.column_names:
        return Counter()
    found = pc.value_counts(graded[SOUNDNESS_FIELD.name].filter(pa.array(is_right_path(graded))))
    return Counter({row["values"]: row["counts"] for row in found.to_pylist()})


def is_sound(graded: pa.Table) -> Flags:
    """Return whether each path is sound. Raises ValueError where the grades do not say it."""
    if SOUNDNESS_FIELD.name not in graded.column_names:
        raise ValueError(
            "the grades have no column soundness. Grade with `questions`, or select without sound: require"
        )
    return as_flags(pc.equal(graded[SOUNDNESS_FIELD.name], _SOUND))


def path_sources(graded: pa.Table) -> Counter[str]:
    """Count the right paths by what tells them apart: their equations, those of their running text, or their words."""
    found = pc.value_counts(graded["path_source"].filter(pa.array(is_right_path(graded))))
    return Counter({row["values"]: row["counts"] for row in found.to_pylist()})


def is_wrong(graded: pa.Table) -> Flags:
    """Return whether each row has an answer that was compared with the gold one and differs from it.

    What a verdict calls wrong is so too, and what nothing judges is not.
    """
    answered = np.isin(as_names(graded["status"]), COMPARED)
    if JUDGED_BY_FIELD.name in graded.column_names:
        judged_by = graded[JUDGED_BY_FIELD.name].fill_null(ANSWER)
        answered = (answered & as_flags(pc.not_equal(judged_by, NOTHING))) | by_verdict(graded)
    return answered & ~as_flags(graded["is_correct"])


def by_verdict(graded: pa.Table) -> Flags:
    """Return whether a verdict decided of each row."""
    if JUDGED_BY_FIELD.name not in graded.column_names:
        return np.zeros(graded.num_rows, np.bool_)
    return as_flags(pc.equal(graded[JUDGED_BY_FIELD.name], VERDICT).fill_null(False))


def answered_by(problems: pa.Table, votes: pa.Table | None = None) -> pa.Array | None:
    """Return what gave each problem its answer: ANSWER for its own file, VOTE, or NOTHING where it has none.

    votes: schema.VOTES, of the problems that had none. None: all have answers of their own.
    """
    has_own = has_answer(problems)
    by_vote = np.zeros(len(has_own), np.bool_)
    if votes is not None:
        voted = votes["problem_id"].filter(pa.array(has_answer(votes)))
        by_vote = as_flags(pc.is_in(problems["problem_id"], value_set=voted.combine_chunks()))
    if has_own.all() and not by_vote.any():
        return None
    return pc.if_else(pa.array(by_vote), VOTE, pc.if_else(pa.array(has_own), ANSWER, NOTHING))


def gold_paths(problems: pa.Table) -> pa.ChunkedArray:
    """Return each problem's worked solution; null for one with a bare answer, which is not a path."""
    return pc.if_else(pa.array(is_worked(problems)), problems["solution"], _NO_PATH)


def gold_keys(problems: pa.Table, rules: Rules = DEFAULT_RULES, num_threads: int | None = None) -> pa.Array:
    """Return the key of each problem's gold path as binary(16); null where the problem has none."""
    keys = equation_keys(problems["solution"], rules=rules, num_threads=num_threads)
    whole = pa.Array.from_buffers(pa.binary(KEY_BYTES), len(keys), [None, pa.py_buffer(keys)])
    return pc.if_else(pa.array(is_worked(problems)), whole, _NO_KEY)


def is_beside_gold(keys: pa.ChunkedArray, golds: pa.Array) -> Flags:
    """Return whether each key differs from the gold one of its row; true where the problem has no gold path."""
    return as_flags(pc.not_equal(keys, golds).fill_null(_YES))


def as_flags(column: pa.Array | pa.ChunkedArray) -> Flags:
    flags: Flags = column.to_numpy(zero_copy_only=False) if isinstance(column, pa.Array) else column.to_numpy()
    return flags.astype(np.bool_)


def as_names(column: pa.ChunkedArray) -> npt.NDArray[np.object_]:
    names: npt.NDArray[np.object_] = column.combine_chunks().to_numpy(zero_copy_only=False)
    return names
