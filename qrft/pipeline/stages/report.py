"""report.html and summary.json: the results of a run, from its artifacts alone."""

from __future__ import annotations

import json
from pathlib import Path

from qrft.data.disk import write_atomic
from qrft.pipeline.stages import Inputs, Job, Report
from qrft.report.run import page
from qrft.report.run.settings import Settings
from qrft.report.run.summary import summary

__all__ = ["OUTPUTS", "VERSION", "Settings", "run"]

VERSION = 7
OUTPUTS = ("report.html", "summary.json")


def run(inputs: Inputs, out: Path, settings: Settings, job: Job) -> Report:
    """Write both. `inputs` are all other steps of the run by the names in `settings.steps`, the base as `model`."""
    facts = summary(inputs, settings)
    write_atomic(out / "summary.json", json.dumps(facts, indent=1))
    write_atomic(out / "report.html", page.html(inputs, settings, facts))
    job.progress(1, 1, "")
    return {"bytes": (out / "report.html").stat().st_size}
