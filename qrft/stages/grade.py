"""Grade samples in the C core: the answer against the gold answer, every equation, the key of the equation list."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from qrft import core
from qrft.stages import Config, Inputs, Progress, Report

VERSION = core.GRADER_VERSION


def run(inputs: Inputs, out: Path, config: Config, progress: Progress) -> Report:
    """Writes graded.parquet, row-aligned with the samples."""
    samples = pq.read_table(inputs["samples"] / "samples.parquet", columns=["problem_id", "completion"])
    problems = pq.read_table(inputs["problems"] / "problems.parquet", columns=["problem_id", "answer"])
    place = pc.index_in(samples["problem_id"], problems["problem_id"].combine_chunks())
    gold = pa.chunked_array(
        [pa.DictionaryArray.from_arrays(chunk, problems["answer"].combine_chunks()) for chunk in place.chunks],
        pa.dictionary(pa.int32(), pa.string()),
    )
    rules = core.Rules(**config["rules"])
    graded = core.grade(samples["completion"], gold, rules=rules, num_threads=config["num_threads"])
    pq.write_table(graded, out / "graded.parquet")
    num_correct = pc.sum(graded["is_correct"]).as_py() or 0
    progress(graded.num_rows, graded.num_rows, f"{num_correct} correct")
    return {"num_samples": graded.num_rows, "num_correct": num_correct}
