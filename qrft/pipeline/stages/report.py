"""report.html and summary.json: what a run gave, from its artifacts alone."""

from __future__ import annotations

import json
from pathlib import Path

from qrft.data.disk import write_atomic
from qrft.pipeline.stages import Config, Inputs, Progress, Report
from qrft.report.run import build

VERSION = 3
OUTPUTS = ("report.html", "summary.json")


def run(inputs: Inputs, out: Path, config: Config, progress: Progress) -> Report:
    """`inputs` are all other steps of the run, by their names in the run folder."""
    summary = build.summary(inputs, config["name"], config.get("paper"))
    write_atomic(out / "summary.json", json.dumps(summary, indent=1))
    write_atomic(out / "report.html", build.html(inputs, config, summary))
    progress(1, 1, "")
    return {"bytes": (out / "report.html").stat().st_size}
