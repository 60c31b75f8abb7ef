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
import fcntl
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import re
import secrets
import shutil
import weakref
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from qrft.errors import QrftError, StoreError

MANIFEST = "manifest.json"
PACKAGES = ("qrft", "torch", "transformers", "peft", "bitsandbytes", "llama-cpp-python", "gguf", "pyarrow", "numpy")

_GIVEN = {"config", "inputs", "seconds", "peak_memory_bytes", "report"}  # what a stage must tell of its artifact
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_BROKEN = {errno.EIO, errno.EEXIST, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOLCK}


def digest(stage: str, version: int, config: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """20 hex digits that name an artifact: blake2b over the canonical JSON of all that makes it what it is.

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
        weakref.finalize(self, _close_all, self._locks)  # a store that is dropped lets go of what it left unfinished

    def path(self, stage: str, digest: str) -> Path:
        """Where the artifact lies, or would lie."""
        if not re.fullmatch(r"[a-z][a-z0-9_-]*", stage) or not re.fullmatch(r"[0-9a-f]+", digest):
            raise ValueError(f"not the name of an artifact: {stage!r}, {digest!r}")
        return self.root / f"{stage}-{digest}"

    def has(self, stage: str, digest: str) -> bool:
        """Whether the artifact is there. The rename made it visible with its manifest, so a manifest means whole."""
        return (self.path(stage, digest) / MANIFEST).is_file()

    def begin(self, stage: str, digest: str) -> Path:
        """The work folder of an artifact: empty but for `partial/`, which holds what a killed process left there.

        Raises StoreError when another process is making the same artifact.
        """
        work = self.root / "tmp" / self.path(stage, digest).name
        with disk_errors(self.root):
            work.parent.mkdir(parents=True, exist_ok=True)
            if work not in self._locks:
                self._locks[work] = _lock_file(_beside(work, ".lock"), f"{work.name} is being made", "")
            work.mkdir(exist_ok=True)
            for leftover in work.iterdir():  # half-written by a killed process; a stage trusts its checkpoints only
                if leftover.name != "partial":
                    _remove(leftover)
            aside = _beside(work, ".partial")
            if aside.exists():  # killed inside commit, between its two renames
                _remove(work / "partial")
                aside.rename(work / "partial")
            (work / "partial").mkdir(exist_ok=True)
        return work

    def commit(self, work: Path, manifest: Mapping[str, Any]) -> Path:
        """Make the work folder an artifact and return its path; the same artifact already there is kept instead.

        manifest: config, inputs (name -> artifact folder's name), seconds, peak_memory_bytes, report, and what else the
        stage has to tell. Stage, digest, versions, created and files are added; NaN and infinity become null.
        Raises StoreError for a full disk, and for a file that is not a plain one.
        """
        if missing := _GIVEN - set(manifest):
            raise ValueError(f"the manifest of {work.name} lacks {', '.join(sorted(missing))}")
        stage, _, name = work.name.rpartition("-")
        artifact, aside = self.path(stage, name), _beside(work, ".partial")
        with disk_errors(self.root):
            files = {file: _file_entry(work / file) for file in _list_files(work)}
            known = {"stage": stage, "digest": name, "versions": _versions(), "created": _now(), "files": files}
            write_atomic(work / MANIFEST, json.dumps(_jsonable({**manifest, **known}), indent=1, sort_keys=True))
            _sync_folders(work)
            if (
                work / "partial"
            ).exists():  # kept until the artifact stands: deleting gigabytes takes time to be killed in
                _remove(aside)
                (work / "partial").rename(aside)
            self._publish(work, artifact)
            _remove(aside)
            self._release(work)
        return artifact

    def tidy(self) -> None:
        """Remove what a process killed between publishing an artifact and letting go of it left in `tmp`."""
        with disk_errors(self.root):
            for path in sorted((self.root / "tmp").glob("*.lock")):
                work = path.with_suffix("")
                if (self.root / work.name / MANIFEST).is_file():
                    with contextlib.suppress(StoreError):  # another process is just letting go of it
                        self._locks[work] = _lock_file(path, work.name, "")
                        _remove(_beside(work, ".partial"))
                        self._release(work)

    def _publish(self, work: Path, artifact: Path) -> None:
        try:
            work.rename(artifact)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            if not (artifact / MANIFEST).is_file():
                raise StoreError(
                    f"{artifact}: is there without its {MANIFEST}, so it is not whole. Remove the folder and run again"
                ) from None
            _remove(work)
        _sync(self.root)

    def _release(self, work: Path) -> None:
        lock = self._locks.pop(work, None)
        if lock is not None:
            _remove(_beside(work, ".lock"))  # before the lock is let go; _lock_file notices a file that is gone
            lock.close()


def manifest(artifact: Path) -> dict[str, Any]:
    """The manifest of an artifact. Raises StoreError when it can't be read."""
    path = artifact / MANIFEST
    try:
        values = json.loads(path.read_bytes())
        if not isinstance(values, dict) or not isinstance(values.get("files"), dict):
            raise ValueError("not a manifest")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StoreError(f"{path}: {reason}. Remove the folder {artifact} and run again to make it anew") from None
    return values


def verify(artifact: Path, *, contents: bool = False) -> dict[str, Any]:
    """Check that the files are there in the sizes of the manifest, and with `contents` that they hash alike.

    Returns the manifest. Raises StoreError that names the first damaged file.
    """
    values = manifest(artifact)
    for name, entry in values["files"].items():
        path = artifact / name
        found = path.stat().st_size if path.is_file() else None
        if found is None:
            trouble = "is missing"
        elif found != entry["bytes"]:
            trouble = f"has {found} bytes, the manifest says {entry['bytes']}"
        elif contents and _hash(path) != entry["blake2b"]:
            trouble = "has other contents than the manifest says"
        else:
            continue
        raise StoreError(f"{path}: {trouble}. Remove the folder {artifact} and run again to make it anew")
    return values


@contextlib.contextmanager
def lock(folder: Path, what: str = "", way_out: str = " or choose another --name") -> Iterator[None]:
    """Hold a run folder or another one, which is made if need be. Raises StoreError when another process holds it.

    what, way_out: the words of that error.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        held = _lock_file(folder / ".lock", what or f"run folder {folder} is in use", way_out)
    with held:
        try:
            yield
        finally:
            fcntl.flock(held, fcntl.LOCK_UN)  # closing alone would leave it to a forked child that inherited the file


def link(target: Path, link: Path) -> None:
    """Point the name `link` at `target` by a relative symlink, replacing an older one atomically.

    Raises StoreError when something other than a symlink has the name: it is not ours to replace.
    """
    with disk_errors(link.parent):
        link.parent.mkdir(parents=True, exist_ok=True)
        if link.exists() and not link.is_symlink():
            raise StoreError(f"{link}: not a link, so qrft did not make it. Move it away and run again")
        temporary = _temporary(link)
        temporary.symlink_to(os.path.relpath(os.path.realpath(target), os.path.realpath(link.parent)))
        os.replace(temporary, link)


def publish(work: Path, folder: Path) -> None:
    """Make a finished work folder visible as `folder` by one rename, all of it on the disk before.

    Raises StoreError when the disk is full or the folder is not writable.
    """
    with disk_errors(folder.parent):
        for file in _list_files(work):
            _sync(work / file)
        _sync_folders(work)
        os.replace(work, folder)
        _sync(folder.parent)


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write a file that is there whole or not at all, on the disk when this returns. Text is written in UTF-8.

    Raises StoreError when the disk is full or the folder is not writable.
    """
    temporary = _temporary(path)
    with disk_errors(path.parent):
        try:
            with open(temporary, "xb") as file:
                file.write(data.encode() if isinstance(data, str) else data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync(path.parent)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk, missing permissions and broken disks into a StoreError that says what to do.

    path: the folder that is written to inside. Other errors pass.
    """
    try:
        yield
    except QrftError:
        raise
    except Exception as error:
        code = error.errno if isinstance(error, OSError) else None
        place = getattr(error, "filename", None) or path
        if code in _FULL or _says_full(error):
            raise StoreError(_full_message(path, code)) from error
        if code in _DENIED:
            raise StoreError(
                f"{place}: {os.strerror(code)}. Make it writable for this user, or work elsewhere"
            ) from error
        if code in _BROKEN:
            raise StoreError(f"{place}: {os.strerror(code)}. Work in another folder, or mend the disk") from error
        raise


def _says_full(error: Exception) -> bool:
    """safetensors (Rust), torch (C++) and numpy's tofile report a full disk in words, not by an errno."""
    words = r"No space left on device|PytorchStreamWriter failed writing|^\d+ requested and \d+ written$"
    return re.search(words, str(error)) is not None


def _full_message(path: Path, code: int | None) -> str:
    folder = Path(os.path.abspath(path))
    while not folder.is_dir():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 2**20
    reasons = {errno.EDQUOT: "your disk quota is used up", errno.EFBIG: "a file grew over the limit (ulimit -f)"}
    reason = reasons.get(code or errno.ENOSPC, "the disk is full")
    return (
        f"{path}: {reason}; {free:,.1f} MiB free at {folder}. "
        "Make room, then run the same command again: what is finished is kept"
    )


def _lock_file(path: Path, what: str, way_out: str) -> IO[str]:
    """A locked file that tells who holds it; closing it, or dying, lets go. Raises StoreError when it is held."""
    while True:
        file = open(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+")  # noqa: SIM115 - stays open with the lock
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid, _, since = file.read().strip().partition(" ")
            file.close()
            who = f"process {pid} (since {since})" if since else "another process"
            raise StoreError(f"{what} by {who}; wait for it{way_out}") from None
        except BaseException:
            file.close()
            raise
        if _is_at(file, path):
            break
        file.close()  # the last holder removed the file between our open and our lock
    file.truncate()
    file.write(f"{os.getpid()} {_now()}\n")
    file.flush()
    return file


def _close_all(locks: dict[Path, IO[str]]) -> None:
    for file in locks.values():
        file.close()


def _is_at(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _list_files(work: Path) -> list[str]:
    """The files of an artifact, relative to it, in order. Raises StoreError for links and devices."""
    names = []
    for folder, folders, files in os.walk(work):
        if Path(folder) == work:
            folders[:] = [name for name in folders if name != "partial"]
        for name in files + [name for name in folders if os.path.islink(os.path.join(folder, name))]:
            path = Path(folder, name)
            if path.is_symlink() or not path.is_file():
                raise StoreError(f"{path}: not a plain file; an artifact holds nothing else. Write a copy in its place")
            names.append(path.relative_to(work).as_posix())
    return sorted(name for name in names if name != MANIFEST)


def _file_entry(path: Path) -> dict[str, Any]:
    _sync(path)  # or a power cut after the rename could leave an artifact with empty files
    return {"bytes": path.stat().st_size, "blake2b": _hash(path)}


def _hash(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=20)).hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_folders(work: Path) -> None:
    for folder, _, _ in os.walk(work):
        _sync(Path(folder))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _beside(work: Path, suffix: str) -> Path:
    return work.with_name(work.name + suffix)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def _jsonable(value: Any) -> Any:
    """The value in JSON's types. Hours of work must not be lost for a NaN or a numpy number in a report."""
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


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
