"""What the paper found, held against the rows of a sweep: docs/studies.md says how to read it."""

from __future__ import annotations

import json
from collections.abc import Sequence

from qrft.report.sweep.cells import SEEDS
from qrft.studies.claims import STUDIES
from qrft.studies.estimates import Rows
from qrft.studies.finding import Finding


def findings(study: str, rows: Rows) -> list[Finding]:
    """The findings of a study of STUDIES, from the rows of its sweep."""
    return list(STUDIES[study](rows))


def text(study: str, found: Sequence[Finding], rows: Rows) -> str:
    """study.md: the sentences, and what they rest on."""
    seeds = sorted({json.dumps(row[key]) for row in rows for key in SEEDS if key in row}) or ["that of the recipe"]
    models = dict.fromkeys(str(row["model"]) for row in rows)
    num_test = sorted({row["num_test"] for row in rows})
    return "\n".join(
        [
            f"# Study: {study}\n",
            *(f"- **{finding.verdict}**: {finding.sentence}" for finding in found),
            f"\n{len(rows)} rows; models {', '.join(models)}; seeds {', '.join(seeds)}; "
            f"{' or '.join(f'{n:,}' for n in num_test)} test problems.",
            "The sentences are computed from `sweep.csv`: one figure a seed, Student's 95% interval over the seeds.",
            "It tells of other seeds, not of other test problems or other base models.\n",
        ]
    )
