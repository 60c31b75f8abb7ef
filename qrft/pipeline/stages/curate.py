"""The training table: each problem's gold solution, then the correct and distinct paths sampled for it."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from qrft import grading
from qrft.data.samples import pooled
from qrft.data.samples.pooled import Source
from qrft.data.schema import TRAINING
from qrft.pipeline.stages import Config, Inputs, Progress, Report

VERSION = grading.GRADER_VERSION


def run(inputs: Inputs, out: Path, config: Config, progress: Progress) -> Report:
    """Writes training.parquet and training.jsonl; with samples also verdicts.parquet, a verdict a sample looked at.

    `samples` and `graded`, or several of them as `<source>/samples` for each of config["sources"], which is then the
    source of the rows.
    """
    problems = pq.read_table(inputs["problems"] / "problems.parquet")
    rows = [_gold_rows(problems)]
    num_kept = 0
    sources = config.get("sources") or ([""] if "samples" in inputs else [])
    if sources:
        found = {name: Source(*(inputs[f"{name}/{kind}".lstrip("/")] for kind in Source._fields)) for name in sources}
        samples, graded = pooled.read(found, config.get("first_samples"))
        place = pc.index_in(samples["problem_id"], problems["problem_id"].combine_chunks())
        columns = {
            "completions": samples["completion"],
            "problem_ids": samples["problem_id"],
            "graded": graded,
            "gold_texts": problems["solution"].take(place),
        }
        selection = grading.Selection(**{name: config[name] for name in grading.Selection.model_fields})
        rules = grading.Rules(**config["rules"])
        selected = grading.select(**columns, selection=selection, rules=rules, num_threads=config["num_threads"])
        pq.write_table(pa.table({"verdict": selected.verdicts}), out / "verdicts.parquet")
        kept = pa.array(selected.kept)
        rows.append(_sampled_rows(samples.take(kept), problems["question"].take(place.take(kept))))
        num_kept = rows[-1].num_rows
    training = _by_problem(pa.concat_tables(rows), problems)
    pq.write_table(training, out / "training.parquet")
    _write_jsonl(training, out / "training.jsonl")
    progress(training.num_rows, training.num_rows, f"{num_kept} sampled paths")
    return {"num_rows": training.num_rows, "num_gold": problems.num_rows, "num_kept": num_kept}


def _gold_rows(problems: pa.Table) -> pa.Table:
    nothing = pa.nulls(problems.num_rows, pa.int32())
    source = pa.array(["gold"] * problems.num_rows, pa.string())
    columns = [problems["problem_id"], problems["question"], problems["solution"], source, nothing]
    return pa.table(columns, schema=TRAINING)


def _sampled_rows(samples: pa.Table, questions: pa.ChunkedArray) -> pa.Table:
    columns = [samples["problem_id"], questions, samples["completion"], samples["model"], samples["sample_index"]]
    return pa.table(columns, schema=TRAINING)


def _by_problem(rows: pa.Table, problems: pa.Table) -> pa.Table:
    """Each problem's gold row first, then its paths in the order in which they come here."""
    place = pc.index_in(rows["problem_id"], problems["problem_id"].combine_chunks())
    order = pc.sort_indices(
        rows.append_column("place", place).append_column("row", pa.array(range(rows.num_rows))),
        [("place", "ascending"), ("row", "ascending")],
    )
    return rows.take(order)


def _write_jsonl(rows: pa.Table, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows.to_pylist())
