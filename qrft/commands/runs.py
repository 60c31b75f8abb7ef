"""`qrft ls` and `qrft show RUN`: the runs in a folder, what each did, and its figures.

A run is a folder with a recipe.yaml and links to the artifacts that it stands on, which lie in the store beside it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from qrft.commands.verify import artifacts
from qrft.errors import DamagedError, StoreError, UsageError
from qrft.pipeline.store import is_artifact_name, manifest, verify_around

RECIPE, SUMMARY, TABLE, STORE = "recipe.yaml", "summary.json", "sweep.jsonl", "store"
RUNNING, DONE, UNFINISHED = "running", "done", "not finished"
FIGURES = ("base", "sft", "control", "rft")  # the models of summary.json, each with its accuracy


@dataclass(frozen=True)
class Run:
    """A run's folder, as it lies on the disk: it may be at work, done, or stopped."""

    folder: Path

    @cached_property
    def artifacts(self) -> dict[str, Path]:
        """Return the artifacts that its links name, by the names of its steps; those that are gone are left out."""
        return {name: path for name, path in artifacts(self.folder).items() if path.is_dir()}

    @cached_property
    def manifests(self) -> dict[str, dict[str, Any]]:
        """Return the manifests of its steps; a damaged one is left out."""
        found = {}
        for name, path in self.artifacts.items():
            with contextlib.suppress(DamagedError):
                found[name] = manifest(path)
        return found

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """Return the values of its recipe; {} where it can't be read any more."""
        with contextlib.suppress(OSError, ValueError, yaml.YAMLError):
            values = yaml.safe_load((self.folder / RECIPE).read_text(encoding="utf-8"))
            return values if isinstance(values, dict) else {}
        return {}

    @property
    def state(self) -> str:
        if is_held(self.folder / ".lock"):
            return RUNNING
        return DONE if self.results and self._is_newest else UNFINISHED

    @property
    def _is_newest(self) -> bool:
        """Return whether its results came after its recipe: the next `qrft run` writes that anew, and then them."""
        place = next(path for name in (SUMMARY, "sweep") if os.path.lexists(path := self.folder / name))
        return place.lstat().st_mtime_ns >= (self.folder / RECIPE).stat().st_mtime_ns

    @cached_property
    def results(self) -> dict[str, Any]:
        """Return its summary, or the rows of a sweep's table; {} where it has not come so far."""
        table = self.folder / "sweep" / TABLE
        if table.is_file():
            return {"rows": [json.loads(line) for line in _text(table).splitlines()]}
        summary = self.folder / SUMMARY
        return dict(json.loads(_text(summary))) if summary.is_file() else {}

    def facts(self) -> dict[str, Any]:
        """Return what `qrft ls` tells of it."""
        created = max((found.get("created", "") for found in self.manifests.values()), default="")
        bases = self.recipe.get("models") or {"": {"base_model": self.recipe.get("base_model")}}
        problems = self.recipe.get("problems") or {}
        return {
            "name": self.folder.name,
            "state": self.state,
            "created": created,
            "base_models": [str(base.get("base_model") or name) for name, base in bases.items()],
            "problems": {part: _called(problems.get(part)) for part in ("train", "test")},
            "num_runs": len(self.results.get("rows", [None])),
            "accuracy": {name: self.results[name]["accuracy"] for name in FIGURES if name in self.results},
            "gain": self.results.get("gain"),
            "p_value": self.results.get("p_value"),
            "seconds": sum(found["seconds"] for found in self.manifests.values()),
            "num_bytes": sum(map(size, self.manifests.values())),
        }


def ls(folder: Path) -> dict[str, Any]:
    """Return the runs in a folder, the newest last. `num_bytes_alone`: of artifacts that no other run stands on."""
    found = runs_in(folder)
    users = Counter(path for run in found for path in run.artifacts.values())
    rows = []
    for run in found:
        alone = [made for name, made in run.manifests.items() if users[run.artifacts[name]] == 1]
        rows.append({**run.facts(), "num_bytes_alone": sum(map(size, alone))})
    return {"folder": str(folder), "runs": sorted(rows, key=lambda row: (row["created"], row["name"]))}


def show(run: Path, folder: Path) -> dict[str, Any]:
    """Return what a run did: `results`, and a row for each step. run: its folder, or its name in `folder`."""
    found = find(run, folder)
    steps = [
        {
            "step": name,
            "stage": made["stage"],
            "created": made.get("created"),
            "seconds": made["seconds"],
            "num_bytes": size(made),
            "artifact": found.artifacts[name].name,
        }
        for name, made in found.manifests.items()
    ]
    steps.sort(key=lambda row: str(row["created"]))
    lost = sorted(set(artifacts(found.folder)) - found.manifests.keys())
    return {**found.facts(), "folder": str(found.folder), "results": found.results, "steps": steps, "lost": lost}


def runs_in(folder: Path) -> list[Run]:
    """Return the runs right in a folder. Raises UsageError for what is no folder, StoreError for one that is closed."""
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "no such folder"
        raise UsageError(f"{folder}: {found}. Name the folder that holds the runs, as `qrft run` was told: -o FOLDER.")
    with readable(folder):
        inside = sorted(path for path in folder.iterdir() if path.name != STORE)
        return [Run(path) for path in inside if is_run(path)]


def find(run: Path, folder: Path) -> Run:
    """Return a run by its folder, or by its name in `folder`. Raises UsageError for what is no run, and says why."""
    path = run if os.path.lexists(run) or len(run.parts) > 1 else folder / run
    if is_run(path):
        return Run(path)
    if not os.path.lexists(path):
        found = f"no such run; looked at {path.absolute()}"
    elif not path.is_dir():
        found = "is a file; a run is a folder"
    elif is_artifact_name(path.resolve().name):
        found = "is a step of a run"
    elif any(is_artifact_name(inside.name) for inside in path.iterdir()):
        found = "is the store of several runs"
    else:
        found = f"is no run: it has no {RECIPE}"
    near = [known.folder.name for known in runs_in(folder)] if folder.is_dir() else []
    known = f" There are {', '.join(near[:20])}." if near else ""
    raise UsageError(f"{run}: {found}. Name a run's folder, such as runs/tiny; `qrft ls` lists them.{known}")


def is_run(path: Path) -> bool:
    return not path.is_symlink() and (path / RECIPE).is_file()


def is_held(lock: Path) -> bool:
    """Return whether another process holds a lock file, without making it."""
    try:
        file = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def size(made: Mapping[str, Any]) -> int:
    """Return the bytes of an artifact's files, by its manifest."""
    return sum(entry["bytes"] for entry in made["files"].values())


@contextlib.contextmanager
def readable(folder: Path) -> Iterator[None]:
    """Turn missing permissions into a StoreError that says what to do."""
    try:
        yield
    except PermissionError as error:
        reason = os.strerror(error.errno or errno.EACCES)
        raise StoreError(
            f"{error.filename or folder}: can't be read ({reason}). Give this user the right to, or name another one."
        ) from error


def _text(path: Path) -> str:
    verify_around(path)
    return path.read_text(encoding="utf-8")


def _called(problems: Any) -> str:
    if isinstance(problems, dict):
        return str(problems.get("path") or problems.get("hub"))
    return str(problems)
