"""The table of a sweep, from the summaries of its runs: a row for every run and model; its report, and its study."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from qrft.config.section import Section
from qrft.data.disk import write_atomic
from qrft.pipeline.stages import Inputs, Job, Report
from qrft.report.sweep import page, picture_files
from qrft.report.sweep.plot_csv import plot_rows
from qrft.report.sweep.plots import plots
from qrft.studies import results

VERSION = 5
OUTPUTS = ("sweep.jsonl", "sweep.csv", "clusters.csv", "report.html", "report.md", "plots", "study.md")

Row = dict[str, Any]


class Entry(Section):
    """A run and model: its values of the sweep's keys, and where its page is."""

    variant: str
    model: str
    settings: dict[str, Any]
    report: str = ""


class Settings(Section):
    name: str
    rows: tuple[Entry, ...]
    study: str | None = None
    png: bool = False  # whether to draw the plots as PNG too


def run(inputs: Inputs, out: Path, settings: Settings, job: Job) -> Report:
    """Write the table; the report of each entry is the input of its number. docs/sweeps.md lists the columns."""
    entries = settings.rows
    summaries = [json.loads((inputs[str(n)] / "summary.json").read_bytes()) for n in range(len(entries))]
    rows = [{**labels(entry), **columns(summary)} for entry, summary in zip(entries, summaries, strict=True)]
    write_atomic(out / "sweep.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    write_atomic(out / "sweep.csv", as_csv(rows))
    whole = [
        {**row, **lists(summary), "report": entry.report}
        for row, summary, entry in zip(rows, summaries, entries, strict=True)
    ]
    if by_cluster := [own for row in whole for own in of_clusters(row)]:
        write_atomic(out / "clusters.csv", as_csv(by_cluster))
    write_report(out, settings, whole)
    job.progress(len(rows), len(rows), "")
    return {"num_rows": len(rows)}


def labels(entry: Entry) -> Row:
    settings = {f"sweep.{key}": value for key, value in entry.settings.items()}
    return {"variant": entry.variant, "model": entry.model, **settings}


def write_report(out: Path, settings: Settings, rows: Sequence[Row]) -> None:
    """Write report.html, report.md, plots/, and study.md where the recipe is a study."""
    study = settings.study
    findings = results.findings(study, rows) if study else []
    drawn = plots([own for row in rows for own in own_curves(row)])
    told = [finding.told() for finding in findings]
    write_atomic(out / "report.html", page.html(settings.name, rows, drawn, told))
    write_atomic(out / "report.md", page.text(settings.name, rows, drawn, told))
    (out / "plots").mkdir()
    for plot in drawn:
        if plot.svg.startswith("<svg"):
            alone = picture_files.standalone_svg(plot.svg)
            write_atomic(out / "plots" / f"{plot.name}.svg", alone)
            write_atomic(out / "plots" / f"{plot.name}.csv", as_csv(plot_rows(plot, rows)))
            if settings.png:
                write_atomic(out / "plots" / f"{plot.name}.png", picture_files.png(alone))
    if study:
        write_atomic(out / "study.md", results.text(study, findings, rows))


def of_clusters(row: Row) -> Iterator[Row]:
    """A row for each cluster of test problems: its size, and each model's share of right answers, `sft.accuracy`."""
    for entry in row.get("by_cluster", []):
        yield {"variant": row["variant"], "model": row["model"], **dict(_flat("", entry))}


CURVE = ("distinct_curve", "distinct_paths_low", "distinct_paths_high")


def own_curves(row: Row) -> Iterator[Row]:
    """A row for the plots: the distinct paths over k under a model's name are of its own samples, lent or
    not; those of the pool that it learnt from have a row of their own, named pool."""
    own = row.get("own_paths")
    if not own:
        yield row
        return
    yield {"samples_per_problem": own["samples_per_problem"], **row, **{key: own[key] for key in CURVE}}
    if row.get("distinct_curve"):
        pool = {key: row[key] for key in (*CURVE, "distinct_paths", "samples_per_problem")}
        yield {**{key: value for key, value in row.items() if key.startswith("sweep.")}, "model": "pool", **pool}


def columns(summary: Mapping[str, Any]) -> Row:
    """Return the numbers and texts of a summary, by flat names (`sft.accuracy`), and the seconds of all its steps."""
    left_out = ("name", "seconds", "cost")
    flat = dict(_flat("", {key: value for key, value in summary.items() if key not in left_out}))
    measured = {**_measures(summary), **_flexible(summary)}
    return {**flat, **measured, **_costs(summary), "seconds": sum(summary["seconds"].values())}


def lists(summary: Mapping[str, Any]) -> Row:
    """Return what the report draws beside the columns."""
    return {key: value for key, value in summary.items() if isinstance(value, list) or key == "own_paths"}


def _flat(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}{key}.", value)
        elif not isinstance(value, list):
            yield f"{prefix}{key}", value


def _measures(summary: Mapping[str, Any]) -> Row:
    """`rft.pass@10`, `base.8-shot.greedy`, `sft.svamp/test.maj@5`, each with `.low` and `.high`; `icl.accuracy`, the
    base's with the most examples, of the measure of the headline, and `icl.maj@5`, its others."""
    found: Row = {}
    measures = summary.get("measures", [])
    for entry in measures:
        shots = f"{entry['few_shot']}-shot" if entry["few_shot"] else ""
        problems = entry["problems"] if entry["problems"] != measures[0]["problems"] else ""
        name = ".".join(filter(None, [entry["model"], shots, problems, entry["measure"]]))
        found |= {name: entry["value"], f"{name}.low": entry["low"], f"{name}.high": entry["high"]}
    first = [e for e in measures if all(e[key] == measures[0][key] for key in ("problems", "measure", "model"))]
    if most := max((e for e in first if e["few_shot"]), key=lambda e: int(e["few_shot"]), default=None):
        found |= {"icl.few_shot": most["few_shot"], "icl.accuracy": most["value"]}
        found |= {"icl.low": most["low"], "icl.high": most["high"]}
        same = [e for e in measures if all(e[key] == most[key] for key in ("problems", "model", "few_shot"))]
        for e in same:
            name = f"icl.{e['measure']}"
            found |= {name: e["value"], f"{name}.low": e["low"], f"{name}.high": e["high"]}
    return found


def _flexible(summary: Mapping[str, Any]) -> Row:
    """`rft.flexible` beside `rft.accuracy`: of the headlines; `icl.flexible` of the base's with the most examples."""
    found: Row = {}
    forms = summary.get("forms", [])
    asked = [entry for entry in forms if entry["problems"] == forms[0]["problems"]]
    by_examples = sorted((entry for entry in asked if entry["few_shot"]), key=lambda entry: int(entry["few_shot"]))
    named = [("icl", entry) for entry in by_examples[-1:]] + [(entry["model"], entry) for entry in asked[::-1]]
    for name, entry in named:  # the first of a model is that of its headline, and is told last
        value = entry["flexible"]
        found |= {f"{name}.flexible": value["value"]}
        found |= {f"{name}.flexible.{end}": value[end] for end in ("low", "high")}
    return found


def _costs(summary: Mapping[str, Any]) -> Row:
    """Return `cost.flops` and the like of all steps, and `cost.sft.`, `cost.rft.` of what each model rests on."""
    parts = {"cost": "total", "cost.sft": "sft", "cost.rft": "rft"}
    costs = summary.get("cost", {})
    return {f"{name}.{unit}": value for name, key in parts.items() for unit, value in costs.get(key, {}).items()}


def as_csv(rows: Sequence[Row]) -> str:
    """Return CSV with a header line; a value that a row lacks, or that is null, is an empty field."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
