"""The report of a sweep as HTML and as Markdown, from the rows of its table alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from qrft.report import page
from qrft.report.sweep.drawing import Plot
from qrft.report.sweep.points import Row
from qrft.report.sweep.table import escaped, markdown, means, table


def html(name: str, rows: Sequence[Row], plots: Sequence[Plot], findings: Sequence[Mapping[str, str]]) -> str:
    """Return report.html. rows: those of sweep.jsonl, with the lists that only the report shows."""
    return page.html(
        "sweep/template.html",
        style=sheets(),
        script=page.asset("sweep/sort.js"),
        name=name,
        num_runs=len({row["variant"] for row in rows}),
        num_rows=len(rows),
        source=next((row["paper.source"] for row in rows if row.get("paper.source")), ""),
        table=table(rows),
        means=means(rows),
        plots=plots,
        findings=findings,
    )


def sheets() -> Markup:
    """Return the style sheets of a sweep's report."""
    return page.asset("style.css") + page.asset("charts.css")


def text(name: str, rows: Sequence[Row], plots: Sequence[Plot], findings: Sequence[Mapping[str, str]]) -> str:
    """Return report.md: the same in Markdown, with the pictures in files beside it."""
    parts = [f"# {escaped(name)}\n", *(f"- {escaped(finding['sentence'])}\n" for finding in findings)]
    if over_seeds := means(rows):
        note = "In brackets: Student's 95% interval over the seeds; none where all are equal."
        parts.append(f"\n## Means over seeds\n\n{note}\n\n{markdown(over_seeds)}")
    parts.append(f"\n## Every run\n\nIn brackets: 95% intervals over problems.\n\n{markdown(table(rows))}")
    for plot in plots:
        notes = "".join(f"- {note}\n" for note in plot.notes)
        parts.append(f"\n## {plot.title}\n\n{plot.caption}\n\n![{plot.title}](plots/{plot.name}.svg)\n\n{notes}")
    return "".join(parts)
