"""What decides whether a sample is right: its problem's answer, or the verdict of a file in its place."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from qrft.data.schema import JUDGED_BY_FIELD, SOUNDNESS_FIELD
from qrft.grading.columns import as_chunked
from qrft.grading.grader import own_soundness
from qrft.grading.paths import ANSWER, VERDICT, as_flags, as_names
from qrft.grading.rules import DEFAULT_RULES, Rules

_NO = pa.scalar(False)
NOT_JUDGED = "not_judged"  # of soundness


def decided(
    completions: pa.Array | pa.ChunkedArray,
    graded: pa.Table,
    is_right: pa.Array | pa.ChunkedArray | None,
    answered_by: pa.Array | None = None,
    questions: pa.Array | None = None,
    *,
    rules: Rules = DEFAULT_RULES,
    num_threads: int | None = None,
) -> pa.Table:
    """Return the grades as the verdicts of a file have them, with what each was judged by (schema.JUDGED_BY_FIELD).

    All are row-aligned. is_right: null where the answer decides; None: no verdicts were read. answered_by: what gave
    each problem its answer (`paths.answered_by`); None: all have one of their own. Without both, the grades stay as
    they are. questions: where soundness was asked for. A path that its verdict calls right is held against its own
    answer, since the gold one may be another, or none.
    """
    if is_right is None and answered_by is None:
        return graded
    judged_by = answered_by if answered_by is not None else pa.repeat(ANSWER, graded.num_rows)
    if is_right is not None:
        place = graded.schema.get_field_index("is_correct")
        judged_by = pc.if_else(pc.is_valid(is_right), VERDICT, judged_by)
        told = pc.coalesce(is_right, graded["is_correct"])
        graded = graded.set_column(place, graded.schema.field(place), told)
        if questions is not None:
            graded = _by_own_answers(as_chunked(completions), graded, is_right, questions, rules, num_threads)
    return graded.append_column(JUDGED_BY_FIELD, judged_by)


def _by_own_answers(
    completions: pa.ChunkedArray,
    graded: pa.Table,
    is_right: pa.Array | pa.ChunkedArray,
    questions: pa.Array,
    rules: Rules,
    num_threads: int | None,
) -> pa.Table:
    """Return the grades in which right paths by verdict are judged by their own answers, and wrong ones are not."""
    rows = np.flatnonzero(as_flags(is_right.fill_null(_NO)))
    own = own_soundness(
        completions.take(pa.array(rows)), questions.take(pa.array(rows)), rules=rules, num_threads=num_threads
    )
    names = as_names(graded[SOUNDNESS_FIELD.name])
    names[as_flags(is_right.is_valid())] = NOT_JUDGED
    names[rows] = own.to_numpy(zero_copy_only=False)
    place = graded.schema.get_field_index(SOUNDNESS_FIELD.name)
    encoded = pa.array(names, pa.string()).dictionary_encode().cast(SOUNDNESS_FIELD.type)
    return graded.set_column(place, SOUNDNESS_FIELD, encoded)
