"""The stages: one file each, with `VERSION`, `class Settings(Section)` and a plain function
`run(inputs, out, settings, job) -> report`.

`inputs` maps names to artifact folders (or a person's own files), `out` is an empty folder to fill; `out / "partial"`
outlives a crash and is dropped at the end. `settings` is all that decides the artifact beside the inputs, so its digest
is made from them; `job` decides nothing of it. No stage imports another.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qrft.progress import Progress, unwatched

Inputs = Mapping[str, Path]
Report = dict[str, Any]  # small facts for the manifest


@dataclass(frozen=True)
class Job:
    """How a stage works: on how many processor threads (None: all cores), and who is told about its progress."""

    num_threads: int | None = None
    progress: Progress = unwatched
