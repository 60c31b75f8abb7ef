"""The table of a sweep, from the summaries of its runs: a row for every run and model."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from qrft.stages import Config, Inputs, Progress, Report
from qrft.store import write_atomic

VERSION = 1
OUTPUTS = ("sweep.jsonl", "sweep.csv")


def run(inputs: Inputs, out: Path, config: Config, progress: Progress) -> Report:
    """Reads the report of each of config["rows"] as the input of its number; docs/sweeps.md lists the columns."""
    rows = []
    for place, entry in enumerate(config["rows"]):
        summary = json.loads((inputs[str(place)] / "summary.json").read_bytes())
        settings = {f"sweep.{key}": value for key, value in entry["settings"].items()}
        rows.append({"variant": entry["variant"], "model": entry["model"], **settings, **columns(summary)})
    write_atomic(out / "sweep.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    write_atomic(out / "sweep.csv", as_csv(rows))
    progress(len(rows), len(rows), "")
    return {"num_rows": len(rows)}


def columns(summary: Mapping[str, Any]) -> dict[str, Any]:
    """What a summary says in numbers and words, flat: `sft.accuracy`; and the seconds of all its steps."""
    flat = dict(_flat("", {key: value for key, value in summary.items() if key not in ("name", "seconds")}))
    return {**flat, "seconds": sum(summary["seconds"].values())}


def _flat(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}{key}.", value)
        elif not isinstance(value, list):
            yield f"{prefix}{key}", value


def as_csv(rows: list[dict[str, Any]]) -> str:
    """With a head line; a row without a column, or with null there, has an empty field."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
