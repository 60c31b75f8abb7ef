"""The findings of committed sweeps, told anew from their tables.

    python bench/rejudge.py docs/results/study-*

A folder has the `sweep.csv` of a study, its `recipe.yaml` and, where wordings are known, `clusters.csv`. Writes its
study.md, and replaces the findings in report.md and report.html; the tables and plots stay as the run made them.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from qrft.report.sweep import page
from qrft.report.sweep.table import escaped
from qrft.studies import results
from qrft.studies.finding import Finding

Row = dict[str, Any]


def main() -> None:
    for folder in map(Path, sys.argv[1:]):
        rows = read_rows(folder)
        study = study_of(folder)
        found = results.findings(study, rows)
        (folder / "study.md").write_text(results.text(study, found, rows), encoding="utf-8")
        replace(folder / "report.md", r"(?<=\n)(- .*\n+)+(?=\n## )", as_markdown(found))
        replace(folder / "report.html", r'(?s)<section id="findings">.*?</section>\n', as_html(found))


def study_of(folder: Path) -> str:
    return str(yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))["study"])


def read_rows(folder: Path) -> list[Row]:
    """Return the rows of sweep.csv, each with its clusters; an empty field is a value that the row lacks."""
    rows = [{key: value(text) for key, text in row.items() if text} for row in read_csv(folder / "sweep.csv")]
    clusters: dict[tuple[str, str], list[Row]] = {}
    if (folder / "clusters.csv").exists():
        for row in read_csv(folder / "clusters.csv"):
            clusters.setdefault((row.pop("variant"), row.pop("model")), []).append(nested(row))
    return [
        {**row, "by_cluster": found} if (found := clusters.get((row["variant"], row["model"]))) else row for row in rows
    ]


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def value(text: str) -> Any:
    """Return a number, a truth value, a list or a mapping as Python writes it in a table, and else the text."""
    plain = {"True": True, "False": False}
    if text in plain:
        return plain[text]
    try:
        return yaml.safe_load(text) if text[0] in "[{" else json.loads(text)
    except (json.JSONDecodeError, yaml.YAMLError):
        return text


def nested(row: dict[str, str]) -> Row:
    """Return a row of clusters.csv as summary.json has it: the shares of each model in a mapping of its own."""
    found: Row = {"cluster": row.pop("cluster"), "num_problems": int(row.pop("num_problems"))}
    for key, text in row.items():
        if text:
            found.setdefault(key.partition(".")[0], {})[key.partition(".")[2]] = float(text)
    return found


def replace(path: Path, pattern: str, text: str) -> None:
    old = path.read_text(encoding="utf-8")
    new, count = re.subn(pattern, lambda _: text, old, count=1)
    if not count:
        raise SystemExit(f"{path}: found no findings to replace")
    path.write_text(new, encoding="utf-8")


def as_markdown(found: Sequence[Finding]) -> str:
    return "".join(f"- {escaped(finding.sentence)}\n" for finding in found)


def as_html(found: Sequence[Finding]) -> str:
    whole = page.html("", [], [], [finding.told() for finding in found])
    section = re.search(r'(?s)<section id="findings">.*?</section>\n', whole)
    assert section
    return section[0]


if __name__ == "__main__":
    main()
