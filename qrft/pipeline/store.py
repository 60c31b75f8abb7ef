"""The content-addressed store: finished work under a name that follows from what made it. Append-only.

    <root>/<stage>-<digest>/            an artifact: whole or not there, never changed
        manifest.json                   what made it, and every file's size and hash
    <root>/tmp/<stage>-<digest>/        work in progress, found again after a crash
        partial/                        the stage's own checkpoints; the only thing that outlives a crash
    <root>/damaged/                     folders in the place of an artifact that can't be told to be qrft's

An artifact becomes visible by one rename of a folder whose files are all on the disk. A process holds a lock on
what it makes, so two runs never write the same folder; the kernel frees the lock when the process dies.

Disks lose bits and people edit files, so an artifact counts only while every file has the size and hash that its
manifest says. A damaged one is not there: whoever begins to make it removes it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.metadata
import json
import logging
import math
import os
import platform
import re
import time
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from qrft.data.checked import changed_files
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
from qrft.data.sealed import seal, unseal
from qrft.errors import DamagedError, StoreError

MANIFEST = "manifest.json"
PACKAGES = ("qrft", "torch", "transformers", "peft", "bitsandbytes", "llama-cpp-python", "gguf", "pyarrow", "numpy")

WORTH_TELLING = 1.0  # seconds of reading files to see whether they are damaged
_WAY_OUT = "Run the recipe again: what is damaged is made again"
_LOST = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EIO}  # what reading a file ends with that is no longer whole
log = logging.getLogger(__name__)

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
        """Return whether the artifact exists and is undamaged."""
        return self.path(stage, digest).exists() and self.damage(stage, digest) is None

    def damage(self, stage: str, digest: str) -> str | None:
        """Return what is wrong with the artifact; None where it is undamaged, or not there."""
        artifact = self.path(stage, digest)
        try:
            if os.path.lexists(artifact):
                verify(artifact)
        except DamagedError as error:
            return str(error).removesuffix(f". {_WAY_OUT}")
        return None

    def begin(self, stage: str, digest: str) -> Path:
        """Make the work folder of an artifact: empty but for `partial/`, which holds what a killed process left there.

        A damaged artifact of this name is removed. Raises StoreError when another process is making the same artifact.
        """
        work = self.root / "tmp" / self.path(stage, digest).name
        with disk_errors(self.root):
            make_folder(work.parent)
            _refuse_links(work.parent, work, _beside(work, ".partial"), work / "partial")
            if work not in self._locks:
                self._locks[work] = lock_file(_beside(work, ".lock"), f"{work.name} is being made", "")
            self._remove_damaged(work)
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
            write_atomic(work / MANIFEST, seal(dict(sorted(_jsonable({**manifest, **known}).items()))))
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
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            self._remove_damaged(work)  # in the meantime
            if artifact.exists():
                remove(work)
            else:
                work.rename(artifact)
        sync(self.root)

    def _remove_damaged(self, work: Path) -> None:
        """Remove the artifact that the work folder is for, if it is damaged. Its lock must be held.

        What has no manifest may be anything: it is kept in `damaged`.
        """
        artifact, aside = self.root / work.name, _beside(work, ".damaged")
        _refuse_links(aside)
        remove(aside)  # of a process that was killed here
        stage, _, name = work.name.rpartition("-")
        if self.damage(stage, name) is None:
            return
        if os.path.lexists(artifact / MANIFEST):
            artifact.rename(aside)  # at once, so that no reader finds half of it
            remove(aside)
            return
        kept = self.root / "damaged" / f"{work.name}-{time.time_ns()}"
        make_folder(kept.parent)
        artifact.rename(kept)
        log.warning("%s: has no %s, so it was moved to %s. Remove that if you don't need it", artifact, MANIFEST, kept)

    def _release(self, work: Path) -> None:
        lock = self._locks.pop(work, None)
        if lock is not None:
            remove(_beside(work, ".lock"))  # before the lock is released; lock_file notices a file that is gone
            lock.close()


def manifest(artifact: Path) -> dict[str, Any]:
    """Return the manifest of an artifact. Raises DamagedError for one that is missing or not as it was written."""
    path = artifact / MANIFEST
    try:
        with _reading(path):
            values = unseal(path.read_bytes())
            for name, entry in values["files"].items():
                if set(entry) != {"bytes", "blake2b"} or Path(name).is_absolute() or ".." in Path(name).parts:
                    raise ValueError(f"not the entry of a file: {name!r}")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise DamagedError(f"{path}: is not a manifest ({error}). {_WAY_OUT}") from None
    return values


def verify(artifact: Path, *, fresh: bool = False) -> dict[str, Any]:
    """Check that every file has the size and the hash in the manifest, and return the manifest.

    `fresh` reads every file. Otherwise those are not read that have not changed since they were: a bit that the disk
    itself has lost goes unnoticed. Raises DamagedError that names the first damaged file.
    """
    values = manifest(artifact)
    for name, entry in values["files"].items():
        with _reading(artifact / name):
            found = (artifact / name).stat().st_size
        if found != entry["bytes"]:
            words = f"has {found} bytes, but its manifest says {entry['bytes']}"
            raise DamagedError(f"{artifact / name}: {words}. {_WAY_OUT}")
    start = time.monotonic()
    with _reading(artifact):
        hashes = {name: entry["blake2b"] for name, entry in values["files"].items()}
        for name in changed_files(artifact, hashes, fresh=fresh):
            raise DamagedError(f"{artifact / name}: has other contents than its manifest says. {_WAY_OUT}")
    if (seconds := time.monotonic() - start) > WORTH_TELLING:
        gigabytes = sum(entry["bytes"] for entry in values["files"].values()) / 1e9
        log.info("%s: %.1f GB are undamaged, which took %.0f s to see", artifact.name, gigabytes, seconds)
    return values


def is_artifact_name(name: str) -> bool:
    """Return whether a folder of this name would be an artifact's."""
    return re.fullmatch(r"[a-z][a-z0-9_-]*-[0-9a-f]{20}", name) is not None


def verify_around(path: Path) -> None:
    """Check the artifact that a file or folder lies in, if it lies in one. Raises DamagedError."""
    with contextlib.suppress(OSError, ValueError):  # no name of a file
        path = path.resolve()
        for folder in (path, *path.parents):
            if is_artifact_name(folder.name) and (folder / MANIFEST).exists():
                verify(folder)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what reading a file ends with that is no longer whole into a DamagedError; other errors are the disk's."""
    with disk_errors(path.parent):
        try:
            yield
        except OSError as error:
            if error.errno not in _LOST:
                raise
            raise DamagedError(f"{error.filename or path}: {error.strerror}. {_WAY_OUT}") from None


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
