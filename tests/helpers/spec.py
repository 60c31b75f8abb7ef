"""The examples of docs/semantics.md, whose tables are the specification of answers, equations and keys."""

from __future__ import annotations

import re

from helpers.paths import ROOT

SPEC = ROOT / "docs" / "semantics.md"


def cell(text: str) -> str:
    """Return the text of a table's cell.

    `a\\n` between back quotes stands for a, line feed; only \\n, \\t and \\| are escapes, \\times is LaTeX.
    """
    text = re.sub(r"\\n(?![a-z])", "\n", text.strip().strip("`"))
    return re.sub(r"\\t(?![a-z])", "\t", text).replace("\\|", "|")


def examples(name: str) -> list[list[str]]:
    """Return the rows of the table of a name, cell by cell."""
    table = SPEC.read_text(encoding="utf-8").split(f"<!-- examples: {name} -->\n")[1].split("\n\n")[0]
    return [[cell(text) for text in re.split(r"(?<!\\)\|", row)[1:-1]] for row in table.splitlines()[2:]]


def name_of(value: str) -> str:
    """Return what a test is called by a cell."""
    return value.encode("unicode_escape").decode()[:40] or "nothing"
