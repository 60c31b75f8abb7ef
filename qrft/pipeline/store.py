"""The content-addressed store: finished work under a name that follows from what made it. Append-only.

    <root>/<stage>-<digest>/            an artifact: whole or not there, never changed
        manifest.json                   what made it, and every file's size and hash
    <root>/tmp/<stage>-<digest>/        work in progress, found again after a crash
        partial/                        the stage's own checkpoints; the only thing that outlives a crash

An artifact becomes visible by one rename of a folder whose files are all on the disk. A process holds a lock on
what it makes, so two runs never write the same folder; the kernel frees the lock when the process dies.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.metadata
import json
import math
import platform
import re
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from qrft.data.disk import (
    disk_errors,
    hash_file,
    list_files,
    lock_file,
    make_folder,
    now,
    remove,
    sync,
    sync_folders,
    write_atomic,
)
from qrft.errors import StoreError

MANIFEST = "manifest.json"
PACKAGES = ("qrft", "torch", "transformers", "peft", "bitsandbytes", "llama-cpp-python", "gguf", "pyarrow", "numpy")

_GIVEN = {"config", "inputs", "seconds", "peak_memory_bytes", "report"}  # what a stage must say about its artifact


def digest(stage: str, version: int, config: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """Return 20 hex digits that name an artifact: blake2b over the canonical JSON of all that makes it what it is.

    Keys may come in any order; floats count exactly, and 1 differs from 1.0.
    Raises TypeError or ValueError for what JSON can't hold: a path, NaN.
    """
    whole = {"stage": stage, "version": version, "config": dict(config), "inputs": dict(inputs)}
    text = json.dumps(whole, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()


class Store:
    """The artifacts under one folder, which is made when first written to."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self._locks: dict[Path, IO[str]] = {}  # of the work folders this store has begun
        weakref.finalize(self, _close_all, self._locks)  # a store that is dropped frees the locks of unfinished work

    def path(self, stage: str, digest: str) -> Path:
        """Return where the artifact is, or would be."""
        if not re.fullmatch(r"[a-z][a-z0-9_-]*", stage) or not re.fullmatch(r"[0-9a-f]+", digest):
            raise ValueError(f"not the name of an artifact: {stage!r}, {digest!r}")
        return self.root / f"{stage}-{digest}"

    def has(self, stage: str, digest: str) -> bool:
        """Return whether the artifact exists; since one rename makes it visible, a manifest means that it is whole."""
        return (self.path(stage, digest) / MANIFEST).is_file()

    def begin(self, stage: str, digest: str) -> Path:
        """Make the work folder of an artifact: empty but for `partial/`, which holds what a killed process left there.

        Raises StoreError when another process is making the same artifact.
        """
        work = self.root / "tmp" / self.path(stage, digest).name
        with disk_errors(self.root):
            make_folder(work.parent)
            _refuse_links(work.parent, work, _beside(work, ".partial"), work / "partial")
            if work not in self._locks:
                self._locks[work] = lock_file(_beside(work, ".lock"), f"{work.name} is being made", "")
            work.mkdir(exist_ok=True)
            for leftover in work.iterdir():  # half-written by a killed process; a stage trusts its checkpoints only
                if leftover.name != "partial":
                    remove(leftover)
            aside = _beside(work, ".partial")
            if aside.exists():  # killed inside commit, between its two renames
                remove(work / "partial")
                aside.rename(work / "partial")
            (work / "partial").mkdir(exist_ok=True)
        return work

    def commit(self, work: Path, manifest: Mapping[str, Any]) -> Path:
        """Make the work folder an artifact and return its path; the same artifact already there is kept instead.

        manifest: config, inputs (name -> artifact folder's name), seconds, peak_memory_bytes, report, and anything else
        that the stage records. Stage, digest, versions, created and files are added; NaN and infinity become null.
        Raises StoreError for a full disk, and for a file that is not a plain one.
        """
        if missing := _GIVEN - set(manifest):
            raise ValueError(f"the manifest of {work.name} lacks {', '.join(sorted(missing))}")
        stage, _, name = work.name.rpartition("-")
        artifact, aside = self.path(stage, name), _beside(work, ".partial")
        with disk_errors(self.root):
            files = {file: _file_entry(work / file) for file in list_files(work) if file != MANIFEST}
            known = {"stage": stage, "digest": name, "versions": _versions(), "created": now(), "files": files}
            write_atomic(work / MANIFEST, json.dumps(_jsonable({**manifest, **known}), indent=1, sort_keys=True))
            sync_folders(work)
            if (work / "partial").exists():  # kept until the artifact is published: a kill may come while gigabytes go
                remove(aside)
                (work / "partial").rename(aside)
            self._publish(work, artifact)
            remove(aside)
            self._release(work)
        return artifact

    def tidy(self) -> None:
        """Remove what is left in `tmp` by a process that was killed between publishing an artifact and unlocking it."""
        with disk_errors(self.root):
            for path in sorted((self.root / "tmp").glob("*.lock")):
                work = path.with_suffix("")
                if (self.root / work.name / MANIFEST).is_file():
                    with contextlib.suppress(StoreError):  # another process is just unlocking it
                        self._locks[work] = lock_file(path, work.name, "")
                        remove(_beside(work, ".partial"))
                        self._release(work)

    def _publish(self, work: Path, artifact: Path) -> None:
        try:
            work.rename(artifact)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            if not (artifact / MANIFEST).is_file():
                raise StoreError(
                    f"{artifact}: has no {MANIFEST}, so it is not whole. Remove the folder and run again"
                ) from None
            remove(work)
        sync(self.root)

    def _release(self, work: Path) -> None:
        lock = self._locks.pop(work, None)
        if lock is not None:
            remove(_beside(work, ".lock"))  # before the lock is released; lock_file notices a file that is gone
            lock.close()


def manifest(artifact: Path) -> dict[str, Any]:
    """Return the manifest of an artifact. Raises StoreError when it can't be read."""
    path = artifact / MANIFEST
    try:
        values = json.loads(path.read_bytes())
        if not isinstance(values, dict) or not isinstance(values.get("files"), dict):
            raise ValueError("not a manifest")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StoreError(f"{path}: {reason}. Remove the folder {artifact} and run the same command again") from None
    return values


def verify(artifact: Path, *, contents: bool = False) -> dict[str, Any]:
    """Check that the files have the sizes in the manifest, and with `contents` that they have its hashes too.

    Returns the manifest. Raises StoreError that names the first damaged file.
    """
    values = manifest(artifact)
    for name, entry in values["files"].items():
        path = artifact / name
        found = path.stat().st_size if path.is_file() else None
        if found is None:
            trouble = "is missing"
        elif found != entry["bytes"]:
            trouble = f"has {found} bytes, but the manifest says {entry['bytes']}"
        elif contents and hash_file(path) != entry["blake2b"]:
            trouble = "has other contents than the manifest says"
        else:
            continue
        raise StoreError(f"{path}: {trouble}. Remove the folder {artifact} and run the same command again")
    return values


def _close_all(locks: dict[Path, IO[str]]) -> None:
    for file in locks.values():
        file.close()


def _file_entry(path: Path) -> dict[str, Any]:
    sync(path)  # or a power cut after the rename could leave an artifact with empty files
    return {"bytes": path.stat().st_size, "blake2b": hash_file(path)}


def _refuse_links(*paths: Path) -> None:
    """Raise StoreError for a link: what it points to is not the store's, and would be deleted."""
    for path in paths:
        if path.is_symlink():
            raise StoreError(f"{path}: is a link, and qrft makes none there. Remove the link and run again")


def _beside(work: Path, suffix: str) -> Path:
    return work.with_name(work.name + suffix)


def _jsonable(value: Any) -> Any:
    """Return the value in JSON's types. Hours of work must not be lost for a NaN or a numpy number in a report."""
    if isinstance(value, Mapping):
        return {str(key): _jsonable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(inner) for inner in value]
    if hasattr(value, "tolist"):  # of numpy and torch
        return _jsonable(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found
