"""`qrft gc`: remove what no kept run stands on, and nothing that qrft did not make.

What may go: artifacts of the store that no link in the folder of the runs leads to; the work of steps that were
stopped, once every run is done; and work folders that bear qrft's own marker. Everything else is left, and told.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from qrft.commands.runs import DONE, RUNNING, STORE, is_held, readable, runs_in
from qrft.data.disk import MARKER, disk_errors, lock_file
from qrft.errors import DamagedError, StoreError
from qrft.pipeline.store import MANIFEST, is_artifact_name, manifest

COMMANDS = ("qrft pretrain", "qrft train")  # whose work folders bear the marker
RESTING = 3600.0  # seconds since the last change of a work folder, after which no process is taken to fill it


class Thing(NamedTuple):
    """What can go: its folder, why, and its bytes."""

    path: Path
    reason: str
    num_bytes: int


def plan(folder: Path) -> dict[str, Any]:
    """Return what can go from a folder of runs: `things`, the bytes that they free, and what is `left`, with why.

    Raises StoreError while a run is at work: what it stands on is not all linked yet.
    """
    runs = runs_in(folder)
    for run in runs:
        if run.state == RUNNING:
            raise StoreError(f"{run.folder}: is being run. Wait until it is done, then collect.")
    left: dict[str, str] = {}
    with readable(folder):
        things = [*_unused(folder, left), *_work(folder, all(run.state == DONE for run in runs), left)]
        things += _marked(folder, left)
    return {
        "folder": str(folder),
        "num_runs": len(runs),
        "things": [{"path": str(path), "reason": reason, "num_bytes": size} for path, reason, size in things],
        "num_bytes": sum(thing.num_bytes for thing in things),
        "left": left,
    }


def collect(folder: Path) -> dict[str, Any]:
    """Remove what can go, seen anew, and return it."""
    found = plan(folder)
    with disk_errors(folder):
        for thing in found["things"]:
            _remove(Path(thing["path"]))
    return found


def linked(folder: Path) -> set[Path]:
    """Return every artifact that a link anywhere in the folder leads to, and those that made it; none is followed."""
    kept: set[Path] = set()
    for place, folders, files in os.walk(folder):
        if Path(place) == folder and STORE in folders:
            folders.remove(STORE)
        for name in folders + files:
            path = Path(place, name)
            if path.is_symlink():
                target = Path(os.path.realpath(path))
                kept |= {step for step in (target, *target.parents) if is_artifact_name(step.name)}
    above = list(kept)
    while above:
        with contextlib.suppress(DamagedError):
            artifact = above.pop()
            made = {artifact.with_name(name) for name in manifest(artifact)["inputs"].values()} - kept
            kept |= made
            above += made
    return kept


def _unused(folder: Path, left: dict[str, str]) -> Iterator[Thing]:
    """Yield the artifacts of the store that no run stands on. What is not as qrft made it is left."""
    store, kept = folder / STORE, linked(folder)
    for artifact in sorted(store.iterdir()) if store.is_dir() and not store.is_symlink() else ():
        if not is_artifact_name(artifact.name) or artifact.resolve() in kept:
            continue
        if reason := _foreign(artifact):
            left[str(artifact)] = reason
        else:
            yield Thing(artifact, "no run stands on it", _bytes(artifact))


def _foreign(artifact: Path) -> str:
    """Return why an artifact is not qrft's to remove; nothing where every file in it is its own."""
    if artifact.is_symlink():
        return "is a link"
    try:
        known = manifest(artifact)
    except DamagedError:
        return "has no readable manifest"
    if artifact.name != f"{known.get('stage')}-{known.get('digest')}":
        return "its manifest is another artifact's"
    others = [name for name in _files(artifact) if name not in known["files"] and name != MANIFEST]
    return f"holds {others[0]}, which qrft did not write" if others else ""


def _work(folder: Path, all_done: bool, left: dict[str, str]) -> Iterator[Thing]:
    """Yield the work of steps that were stopped. A run that is not finished may go on from it."""
    tmp = folder / STORE / "tmp"
    for work in sorted(tmp.iterdir()) if tmp.is_dir() and not tmp.is_symlink() else ():
        if work.is_symlink() or not work.is_dir() or not is_artifact_name(work.name.removesuffix(".partial")):
            continue
        if is_held(work.with_name(f"{work.name.removesuffix('.partial')}.lock")):
            left[str(work)] = "is being made"
        elif not all_done:
            left[str(work)] = "a run that is not finished may go on from it"
        else:
            yield Thing(work, "left by a step that was stopped", _bytes(work))


def _marked(folder: Path, left: dict[str, str]) -> Iterator[Thing]:
    """Yield the half-made outputs of other commands: only they put the marker there."""
    for path in sorted(folder.iterdir()):
        marker = path / MARKER
        if path.is_symlink() or marker.is_symlink() or not marker.is_file():
            continue
        if marker.read_text(errors="replace").strip() not in COMMANDS:
            left[str(path)] = "bears the marker of another program"
        elif is_held(path / ".lock") or time.time() - _changed(path) < RESTING:
            left[str(path)] = "was changed within the last hour, so it may still be made"
        else:
            yield Thing(path, f"left by `{marker.read_text().strip()}`", _bytes(path))


def _remove(path: Path) -> None:
    """Remove a folder, a link in it as a link. The manifest goes last: until then the artifact is a damaged one."""
    if is_artifact_name(path.name) and path.parent.name == "tmp":
        lock = path.with_name(f"{path.name}.lock")
        with lock_file(lock, f"{path.name} is being made", ""):
            _remove_tree(path)
            lock.unlink(missing_ok=True)
    else:
        _remove_tree(path)


def _remove_tree(path: Path) -> None:
    for place, folders, files in os.walk(path, topdown=False):
        for name in sorted(files, key=lambda name: name == MANIFEST):
            Path(place, name).unlink(missing_ok=True)
        for name in folders:
            inside = Path(place, name)
            inside.unlink() if inside.is_symlink() else inside.rmdir()
    path.rmdir()


def _files(folder: Path) -> list[str]:
    """Return all that is in a folder but its folders, links included, relative to it."""
    found = []
    for place, folders, files in os.walk(folder):
        names = [*files, *(name for name in folders if Path(place, name).is_symlink())]
        found += [Path(place, name).relative_to(folder).as_posix() for name in names]
    return sorted(found)


def _bytes(folder: Path) -> int:
    return sum((folder / name).lstat().st_size for name in _files(folder))


def _changed(folder: Path) -> float:
    """Return when something in a folder changed last."""
    return max((folder / name).lstat().st_mtime for name in (".", *_files(folder)))
