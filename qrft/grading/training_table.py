"""The training table: each problem's worked solution, then the right and distinct paths that were sampled for it.

The stage `curate` and `qrft curate` both make their rows here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from qrft.data.schema import JUDGED_BY_FIELD, TRAINING
from qrft.data.worked import is_worked
from qrft.grading.paths import gold_paths, is_cut_off
from qrft.grading.rules import DEFAULT_RULES, DEFAULT_SELECTION, Rules, Selection
from qrft.grading.selection import Selected, select
from qrft.grading.traces import without_traces

GOLD = "gold"  # the source of a worked solution

_SOURCE = pa.scalar(GOLD)

Ints = npt.NDArray[np.int64]


class Training(NamedTuple):
    """rows: schema.TRAINING, problem by problem. verdicts: a name of selection.VERDICTS for each sample."""

    rows: pa.Table
    verdicts: pa.StringArray
    kept: Ints  # the samples' rows, in the order of the training rows


def training_table(
    problems: pa.Table,
    problem: Ints,
    samples: pa.Table,
    graded: pa.Table,
    selection: Selection = DEFAULT_SELECTION,
    *,
    with_gold: bool = True,
    rules: Rules = DEFAULT_RULES,
    num_threads: int | None = None,
) -> Training:
    """Return the training rows of some problems: for each, first the worked solution, then the kept paths.

    problems: schema.PROBLEMS. problem: the row of each sample's problem there. samples: the columns `completion`,
    `model` and `sample_index` of schema.SAMPLES, and `finish_reason` where it is known; graded: their grades
    (schema.GRADED), all row-aligned.
    with_gold: write the worked solutions, and keep no path that has the same equations as its problem's. A bare answer
    is neither written nor a path.
    """
    golds = pa.DictionaryArray.from_arrays(pa.array(problem, pa.int32()), one_chunk(gold_paths(problems)))
    chosen: Selected = select(
        samples["completion"],
        pa.array(problem),
        graded,
        cut_off=is_cut_off(samples),
        gold_texts=golds if with_gold else None,
        selection=selection,
        rules=rules,
        num_threads=num_threads,
    )
    gold = np.flatnonzero(is_worked(problems)) if with_gold else np.zeros(0, np.int64)
    place = np.concatenate([gold, problem[chosen.kept]])
    order = np.argsort(place, kind="stable")
    sampled = _sampled_rows(problems, problem, samples, chosen.kept)
    if JUDGED_BY_FIELD.name in graded.column_names:
        judged_by = graded[JUDGED_BY_FIELD.name].take(pa.array(chosen.kept)).fill_null("answer")
        sampled = sampled.append_column(JUDGED_BY_FIELD, judged_by)
    rows = pa.concat_tables([_gold_rows(problems, gold), sampled], promote_options="default")
    rows = trained(rows.take(pa.array(order)), selection, rules)
    return Training(rows, chosen.verdicts, chosen.kept)


def gold_table(problems: pa.Table, selection: Selection = DEFAULT_SELECTION, rules: Rules = DEFAULT_RULES) -> pa.Table:
    """Return the training rows of the worked solutions alone."""
    return trained(_gold_rows(problems, np.flatnonzero(is_worked(problems))), selection, rules)


def trained(rows: pa.Table, selection: Selection, rules: Rules) -> pa.Table:
    """Return training rows without their traces, if the selection drops them."""
    if selection.traces == "keep":
        return rows
    texts = [without_traces(text, rules.traces) for text in rows["completion"].to_pylist()]
    place = rows.schema.get_field_index("completion")
    return rows.set_column(place, rows.schema.field(place), pa.array(texts, rows.schema.field(place).type))


def _gold_rows(problems: pa.Table, gold: Ints) -> pa.Table:
    taken = problems.take(pa.array(gold))
    source = pa.repeat(_SOURCE, len(gold))
    columns = [taken["problem_id"], taken["question"], taken["solution"], source, pa.nulls(len(gold), pa.int32())]
    return pa.table(columns, schema=TRAINING)


def _sampled_rows(problems: pa.Table, problem: Ints, samples: pa.Table, kept: Ints) -> pa.Table:
    asked, taken = problems.take(pa.array(problem[kept])), samples.take(pa.array(kept))
    source = taken["model"].cast(pa.string())
    columns = [asked["problem_id"], asked["question"], taken["completion"], source, taken["sample_index"]]
    return pa.table(columns, schema=TRAINING)


def one_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks or [pa.array([], column.type)])
