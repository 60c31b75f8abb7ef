"""`qrft verify RUN`: read every byte of a run, and say which of its artifacts are damaged."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from qrft.errors import DamagedError, UsageError
from qrft.pipeline.store import is_artifact_name, verify
from qrft.progress import Progress


def run(folder: Path, progress: Progress) -> dict[str, Any]:
    """Return `num_artifacts`, `num_bytes` of the undamaged ones, and `damaged`: what is wrong, by the step's name.

    folder: a run folder, or a store. Raises UsageError for another one.
    """
    found = artifacts(folder)
    if not found:
        raise UsageError(
            f"{folder}: holds no artifacts. Expected a run folder, such as runs/tiny, or a store, such as runs/store."
        )
    damaged, num_bytes = {}, 0
    for number, (name, artifact) in enumerate(found.items(), 1):
        try:
            num_bytes += sum(entry["bytes"] for entry in verify(artifact, fresh=True)["files"].values())
        except DamagedError as error:
            damaged[name] = str(error)
        progress(number, len(found), name)
    return {"num_artifacts": len(found), "num_bytes": num_bytes, "damaged": damaged}


def artifacts(folder: Path) -> dict[str, Path]:
    """Return the artifacts of a store, or those that a run folder's links name, there or not, each once."""
    names: dict[Path, str] = {}
    for place, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(folders + files):
            path = Path(place, name)
            target = Path(os.path.realpath(path))  # of a dangling link too
            if is_artifact_name(target.name) and (path.is_symlink() or path.parent == folder):
                names.setdefault(target, str(path.relative_to(folder)))
    return {name: artifact for artifact, name in names.items()}
