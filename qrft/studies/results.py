"""The results of a study, and study.md, which states them. docs/studies.md says how to read it."""

from __future__ import annotations

import json
from collections.abc import Sequence

from qrft.report.sweep.points import SEEDS
from qrft.report.sweep.table import escaped
from qrft.studies import registry
from qrft.studies.finding import Finding, judged
from qrft.studies.measured import Rows


def findings(study: str, rows: Rows) -> list[Finding]:
    """Return the findings of a study, by its name in the registry, from the rows of its sweep."""
    return judged(registry.claims(study)(rows))


def text(study: str, found: Sequence[Finding], rows: Rows) -> str:
    """Return study.md: the sentences, and what they rest on."""
    seeds = sorted({json.dumps(row[key]) for row in rows for key in SEEDS if key in row}) or ["that of the recipe"]
    models = dict.fromkeys(str(row["model"]) for row in rows)
    num_test = sorted({row["num_test"] for row in rows})
    return "\n".join(
        [
            f"# Study: {escaped(study)}\n",
            *(f"- **{finding.verdict}**: {escaped(finding.sentence)}" for finding in found),
            f"\n{len(rows)} rows; models {', '.join(map(escaped, models))}; seeds {', '.join(seeds)}; "
            f"{' or '.join(f'{n:,}' for n in num_test)} test problems.",
            "The first finding is the study's primary one. The sentences are computed from the table of the runs; "
            "docs/studies.md says how.\n",
        ]
    )
