"""The training table: each problem's gold solution, then the correct and distinct paths sampled for it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from qrft import grading
from qrft.config.section import Count
from qrft.data.jsonl import write_jsonl
from qrft.data.samples import pooled
from qrft.data.worked import check_worked
from qrft.grading.rules import DEFAULT_RULES, Rules, Selection
from qrft.grading.training_table import GOLD, gold_table, training_table
from qrft.pipeline import store
from qrft.pipeline.stages import Inputs, Job, Report

TABLE_VERSION = 1  # raise it when the same samples and grades would give other rows
VERSION = grading.GRADER_VERSION + TABLE_VERSION


class Settings(Selection):
    """`sources` names the samples to select from, "" for a single one; without any there are only gold solutions.

    `first_samples`: how many samples of each problem and source are looked at; None means all.
    """

    rules: Rules = DEFAULT_RULES
    sources: tuple[str, ...] = ()
    first_samples: Count | None = None


def run(inputs: Inputs, out: Path, settings: Settings, job: Job) -> Report:
    """Write training.parquet and training.jsonl; with sources also verdicts.parquet, a verdict per sample looked at.

    `pooled.input_names` names the inputs of a source, whose name its rows get. Raises DataError where there are
    neither samples nor a worked solution.
    """
    problems = pq.read_table(inputs["problems"] / "problems.parquet")
    if settings.sources:
        rows = _selected(problems, inputs, out, settings, job.num_threads)
    else:
        check_worked(problems, _name(inputs["problems"]))
        rows = gold_table(problems, settings, settings.rules)
    pq.write_table(rows, out / "training.parquet")
    with (out / "training.jsonl").open("w", encoding="utf-8") as file:
        write_jsonl(file, rows)
    num_gold = pc.sum(pc.equal(rows["source"], GOLD), min_count=0).as_py()
    num_kept = rows.num_rows - num_gold
    job.progress(rows.num_rows, rows.num_rows, f"{num_kept} sampled paths")
    return {"num_rows": rows.num_rows, "num_gold": num_gold, "num_kept": num_kept}


def _selected(problems: pa.Table, inputs: Inputs, out: Path, settings: Settings, num_threads: int | None) -> pa.Table:
    samples, graded = pooled.read_inputs(inputs, settings.sources, settings.first_samples)
    problem = pc.index_in(samples["problem_id"], problems["problem_id"].combine_chunks()).to_numpy()
    rules = settings.rules
    training = training_table(problems, problem, samples, graded, settings, rules=rules, num_threads=num_threads)
    pq.write_table(pa.table({"verdict": training.verdicts}), out / "verdicts.parquet")
    return training.rows


def _name(problems: Path) -> str:
    """Return what to call the training problems: the recipe's key and, where known, the set or the file."""
    if not (problems / store.MANIFEST).exists():
        return "problems.train"
    manifest = store.manifest(problems)
    file = manifest["inputs"].get("file", "").rpartition(" ")[0]
    return f"problems.train: {manifest['config'].get('set') or file}"
