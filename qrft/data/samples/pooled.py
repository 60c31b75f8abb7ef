"""The samples of several models or rounds as one table, row-aligned with their grades."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from qrft.data.schema import SAMPLES

OUTSIDE = "outside"  # the source of samples made elsewhere, whose rows keep the names of their models


class Source(NamedTuple):
    """Where samples are: the folders of samples.parquet and of graded.parquet."""

    samples: Path
    graded: Path


def input_names(source: str) -> tuple[str, str]:
    """Return the names under which a stage gets the samples and grades of a source; "" stands for a single one."""
    samples, graded = (f"{source}/{kind}" if source else kind for kind in Source._fields)
    return samples, graded


def read_inputs(
    inputs: Mapping[str, Path], sources: Sequence[str], first_samples: int | None
) -> tuple[pa.Table, pa.Table]:
    """Return the samples and the grades of a stage's inputs, which have the names that `input_names` gives."""
    folders = {name: Source(*(inputs[key] for key in input_names(name))) for name in sources}
    return read(folders, first_samples)


def read(
    sources: Mapping[str, Source], first_samples: int | None, columns: Sequence[str] = tuple(SAMPLES.names)
) -> tuple[pa.Table, pa.Table]:
    """Return the `columns` of the samples, and their grades, source after source.

    sources: by the name that replaces the samples' `model`; "" and OUTSIDE leave that as it is. first_samples: how many
    of each problem and model are read; None reads all.
    """
    pairs = [_read(name, source, first_samples, columns) for name, source in sources.items()]
    samples, graded = zip(*pairs, strict=True)
    # Only grades of samples made elsewhere may say what each was judged by.
    return pa.concat_tables(samples), pa.concat_tables(graded, promote_options="default")


def read_samples(folder: Path, first_samples: int | None, columns: Sequence[str]) -> pa.Table:
    """Return the samples in a folder that are looked at."""
    rows = None if first_samples is None else pc.field("sample_index") < first_samples
    return pq.read_table(folder / "samples.parquet", columns=[*columns], filters=rows)


def _read(name: str, source: Source, first_samples: int | None, columns: Sequence[str]) -> tuple[pa.Table, pa.Table]:
    wanted = list(dict.fromkeys([*columns, "sample_index"]))
    samples = pq.read_table(source.samples / "samples.parquet", columns=wanted)
    graded = pq.read_table(source.graded / "graded.parquet")
    if first_samples is not None:
        is_wanted = pc.less(samples["sample_index"], first_samples)
        samples, graded = samples.filter(is_wanted), graded.filter(is_wanted)
    if name not in ("", OUTSIDE) and "model" in wanted:
        place = samples.schema.get_field_index("model")
        names = pa.repeat(pa.scalar(name), samples.num_rows)
        samples = samples.set_column(place, samples.schema.field(place), names)
    return samples.select(columns), graded
