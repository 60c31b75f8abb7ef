"""report.html, report.md and the pictures of a sweep, from the rows of its table alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from qrft.report.run.build import asset, content_hash, environment
from qrft.report.sweep.cells import Row
from qrft.report.sweep.figures import Figure
from qrft.report.sweep.table import markdown, means, table


def html(name: str, rows: Sequence[Row], figures: Sequence[Figure], findings: Sequence[Mapping[str, str]]) -> str:
    """One file that loads nothing. rows: those of sweep.jsonl, and the lists that its report alone shows."""
    style, script = Markup(asset("style.css") + asset("charts.css")), asset("sweep/sort.js")
    return (
        environment()
        .get_template("sweep/template.html")
        .render(
            name=name,
            num_runs=len({row["variant"] for row in rows}),
            num_rows=len(rows),
            source=next((row["paper.source"] for row in rows if row.get("paper.source")), ""),
            table=table(rows),
            means=means(rows),
            figures=figures,
            findings=findings,
            style=style,
            script=script,
            policy=f"default-src 'none'; style-src '{content_hash(style)}'; script-src '{content_hash(script)}'",
        )
    )


def text(name: str, rows: Sequence[Row], figures: Sequence[Figure], findings: Sequence[Mapping[str, str]]) -> str:
    """The same in Markdown; the pictures are those beside it."""
    parts = [f"# {name}\n", *(f"- {finding['sentence']}\n" for finding in findings)]
    if by_cell := means(rows):
        note = "In brackets Student's 95% interval over the seeds; none where they are all equal."
        parts.append(f"\n## Means over seeds\n\n{note}\n\n{markdown(by_cell)}")
    parts.append(f"\n## Every run\n\nIn brackets 95% intervals over problems.\n\n{markdown(table(rows))}")
    for figure in figures:
        notes = "".join(f"- {note}\n" for note in figure.notes)
        parts.append(
            f"\n## {figure.title}\n\n{figure.caption}\n\n![{figure.title}](plots/{figure.name}.svg)\n\n{notes}"
        )
    return "".join(parts)


def picture_file(svg: str) -> str:
    """An SVG that stands alone: the light colours and the rules of our sheets in it, on white."""
    svg, sheets = str(svg), str(asset("style.css") + asset("charts.css"))
    without_media = re.sub(r"@media[^{]*\{(?:[^{}]*\{[^{}]*\})*\s*\}", "", re.sub(r"/\*.*?\*/", "", sheets, flags=re.S))
    colours = dict(re.findall(r"--(\w+):\s*(#\w+);", without_media))
    kept = [rule for rule in re.findall(r"[^{}]+\{[^{}]*\}", without_media) if DRAWN.match(rule.strip())]
    rules = re.sub(r"var\(--(\w+)\)", lambda found: colours[found[1]], "".join(kept)).replace("svg .", ".")
    width, height = re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)[0]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="{FONTS}"'
    white = f'<style>{rules.strip()}</style><rect width="{width}" height="{height}" fill="#ffffff"/>'
    return svg.replace("<svg", head, 1).replace(">", f">{white}", 1)


DRAWN = re.compile(r"svg [.t]|\.(axis|curve|dot|ring|whisker|fit|member|absent|link|bar)\b")
FONTS = "Helvetica, Arial, Liberation Sans, DejaVu Sans, sans-serif"


def can_draw_png() -> bool:
    """Whether resvg-py is there, of `pip install 'qrft[png]'`."""
    from importlib.util import find_spec

    return find_spec("resvg_py") is not None


def png(svg: str) -> bytes:
    """A picture_file, at twice its size. Needs resvg-py."""
    import resvg_py

    drawn: Any = resvg_py.svg_to_bytes(svg_string=svg, zoom=2)
    return bytes(drawn)
