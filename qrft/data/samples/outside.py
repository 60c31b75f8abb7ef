"""Samples made elsewhere as one table of schema.SAMPLES."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from qrft.data.samples.batches import Batch, units
from qrft.data.samples.numbering import Numbering
from qrft.data.samples.pooled import OUTSIDE
from qrft.data.samples.rows import Faults
from qrft.data.schema import SAMPLES
from qrft.errors import DataError
from qrft.grading.rules import NO_VERDICTS, Verdicts
from qrft.progress import Progress

# What a run calls its own models and the gold solutions: the same names from outside would hide where a row is from.
_OF_A_RUN = re.compile(r"gold|base|sft|rft(-\d+)?")


class Outside(NamedTuple):
    """What files hold: the samples, the rows that could not be read, and how many are of other problems."""

    samples: pa.Table
    faults: Faults
    num_unknown: int
    is_right: pa.ChunkedArray | None  # what the files say of each sample; None where that is not read


def read_outside(
    names: Mapping[Path, str],
    problem_ids: pa.Array,
    progress: Progress,
    *,
    skips_unknown: bool = False,
    verdicts: Verdicts = NO_VERDICTS,
) -> Outside:
    """Read all samples of some files, in their order.

    names: by file, what its samples are called that name no model. skips_unknown, verdicts: as in `units`. Raises
    DataError for what can't be read, for a sample that occurs twice, and where no sample is left.
    """
    numbering, batches, told, faults, num_unknown = Numbering(problem_ids), [], [], Faults(), 0
    size = sum(path.stat().st_size for path in names)
    for unit in units([*names], problem_ids, names, skips_unknown=skips_unknown, verdicts=verdicts):
        batch = unit.read()
        batches.append(_columns(batch, problem_ids, *numbering.add(batch)))
        faults.extend(batch.faults)
        told.append(batch.is_right)
        num_unknown += batch.num_unknown
        progress(unit.position, size, f"{sum(map(len, batches)):,} samples")
    numbering.check()
    table = pa.concat_tables(batches)
    if not table.num_rows:
        others = f"{num_unknown:,} samples of other problems" if num_unknown else "".join(faults.first[:1])
        raise DataError(f"{', '.join(map(str, names))}: found no samples of the problems of this run. {others}")
    called = pa.array([f"{OUTSIDE}/{name}" if _OF_A_RUN.fullmatch(name) else name for name in numbering.models])
    models = pa.chunked_array([called.take(chunk) for chunk in table["model"].chunks], pa.string())
    is_right = pa.chunked_array(told, pa.bool_()) if verdicts.verdicts else None
    place = table.schema.get_field_index("model")
    return Outside(table.set_column(place, "model", models).cast(SAMPLES), faults, num_unknown, is_right)


def _columns(batch: Batch, problem_ids: pa.Array, models: object, sample_index: object) -> pa.Table:
    """Return the columns of schema.SAMPLES, with the number of each model in place of its name."""
    count = len(batch.problem)
    known = {
        "problem_id": problem_ids.take(pa.array(batch.problem)),
        "model": pa.array(models),
        "sample_index": pa.array(sample_index),
        "completion": batch.completion,
        "finish_reason": batch.finish_reason,
    }
    return pa.table({field.name: known.get(field.name, pa.nulls(count, field.type)) for field in SAMPLES})
