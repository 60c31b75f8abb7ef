"""Writing to a disk that may be full, shared or pulled away: whole files or none, locks, links, clear errors."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import hashlib
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from qrft.errors import QrftError, StoreError, UsageError

log = logging.getLogger(__name__)
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FEW_INODES = 4  # what failed may have given back some
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
MARKER = ".qrft-work"  # in a work folder: the command that made it, and so may delete it
_BROKEN = {errno.EIO, errno.EEXIST, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOLCK}


@contextlib.contextmanager
def lock(folder: Path, what: str = "", way_out: str = " or choose another --name") -> Iterator[None]:
    """Lock a run folder or another one, which is made if need be. Raises StoreError when another process holds it.

    what, way_out: the beginning and the end of that error.
    """
    with disk_errors(folder):
        make_folder(folder)
        held = lock_file(folder / ".lock", what or f"run folder {folder} is in use", way_out)
    with held:
        try:
            yield
        finally:
            fcntl.flock(held, fcntl.LOCK_UN)  # a forked child inherits the file, and would keep it locked


def check_place(path: str | Path) -> Path:
    """Return the path of an output. Raises UsageError for one that can be no file's and no folder's."""
    if not str(path):
        raise UsageError("the output's path is empty. Name a file or folder; the current folder is '.'.")
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:  # too long a name, a NUL in it, a loop of links
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else error
        raise UsageError(f"{str(path)[:200]}: can't be an output ({reason}). Name another one.") from None
    return Path(path)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, if need be. Raises StoreError where no folder can be made, as in /proc."""
    with disk_errors(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError as error:
            raise StoreError(f"{folder}: no folder can be made here. Work in another folder") from error


def own_folder(folder: Path, command: str) -> None:
    """Make a work folder that bears the command's name, or accept the one that this command left.

    Raises StoreError for anything else of that name, links included: what others made is not ours to delete.
    """
    if not folder.is_symlink():
        make_folder(folder)
        if {path.name for path in folder.iterdir()} <= {".lock"}:
            write_atomic(folder / MARKER, command + "\n")
    if not owns(folder, command):
        raise StoreError(
            f"{folder}: is needed as a work folder, but {command} did not make it. Move it away, or choose another "
            "output folder"
        )


def owns(folder: Path, command: str) -> bool:
    """Return whether own_folder made this folder for the command."""
    marker = folder / MARKER
    if any(path.is_symlink() for path in (folder, marker)) or not marker.is_file():
        return False
    return marker.read_bytes() == f"{command}\n".encode()


def link(target: Path, link: Path) -> None:
    """Point the name `link` at `target` by a relative symlink, replacing an older one atomically.

    Raises StoreError when something other than a symlink has the name: it is not ours to replace.
    """
    with disk_errors(link.parent):
        link.parent.mkdir(parents=True, exist_ok=True)
        if link.exists() and not link.is_symlink():
            raise StoreError(f"{link}: is not a link, so qrft did not make it. Move it away and run again")
        temporary = link.with_name(f".{link.name}.{secrets.token_hex(4)}.tmp")
        temporary.symlink_to(os.path.relpath(os.path.realpath(target), os.path.realpath(link.parent)))
        os.replace(temporary, link)


def publish(work: Path, folder: Path) -> None:
    """Make a finished work folder visible as `folder` by one rename, once all of it is on the disk.

    Raises StoreError when the disk is full or the folder is not writable.
    """
    with disk_errors(folder.parent):
        for file in list_files(work):
            sync(work / file)
        sync_folders(work)
        os.replace(work, folder)
        sync(folder.parent)


def cache_folder() -> Path:
    """Return $XDG_CACHE_HOME/qrft, by default ~/.cache/qrft, for what can be made again. It need not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qrft"


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path` to write to. At the end the file gets its own name, once it is on the disk;
    it is removed when anything fails.

    Raises StoreError when the disk is full or the folder is not writable.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with disk_errors(path.parent):
        try:
            yield temporary
            sync(temporary)
            os.replace(temporary, path)
            sync(path.parent)
        except FileNotFoundError as error:
            if temporary.name not in str(error):
                raise
            raise StoreError(f"{path}: no file can be made here. Name another place") from error
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder beside `path` to write to, which gets its own name at the end; it is removed when
    anything fails. Raises StoreError when the disk is full or the folder is not writable."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with disk_errors(path.parent):
        try:
            temporary.mkdir()
            yield temporary
            publish(temporary, path)
        except BaseException:
            remove(temporary)
            raise


def remove_temporaries(path: Path) -> None:
    """Remove what killed processes left of whole_file or whole_folder of this path. The caller makes sure that no
    process is writing it."""
    with disk_errors(path.parent):
        for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
            if re.fullmatch(r"[0-9a-f]{8}", leftover.name.split(".")[-2]) and not leftover.is_symlink():
                remove(leftover)


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write a file whole or not at all; it is on the disk when this returns. Text is written in UTF-8.

    Raises StoreError when the disk is full or the folder is not writable.
    """
    with whole_file(path) as temporary, open(temporary, "xb") as file:
        file.write(data.encode() if isinstance(data, str) else data)


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
            raise StoreError(f"{place}: {os.strerror(code)}. Work in another folder, or repair the disk") from error
        raise


def _says_full(error: Exception) -> bool:
    """Return whether the words of an error mean a full disk: safetensors, torch and numpy's tofile give no errno."""
    words = (
        r"No space left on device|Disk quota exceeded|PytorchStreamWriter failed writing|unexpected pos \d+ vs \d+"
        r"|basic_ios::clear: iostream error|^\d+ requested and \d+ written$"
    )
    return re.search(words, str(error)) is not None


def _full_message(path: Path, code: int | None) -> str:
    folder = Path(os.path.abspath(path))
    while not folder.is_dir():
        folder = folder.parent
    again = "then run the same command again: what is finished is kept"
    free, found = shutil.disk_usage(folder).free / 2**20, os.statvfs(folder)
    if found.f_files and found.f_favail < _FEW_INODES and free > 1 and code in (None, errno.ENOSPC):
        return (
            f"{path}: no more files fit on the disk, though it is not full: it holds {found.f_files:,}, each of which "
            f"takes an inode, and {free:,.1f} MiB are free at {folder}. Remove files there, {again}"
        )
    reasons = {errno.EDQUOT: "your disk quota is used up", errno.EFBIG: "a file grew over the limit (ulimit -f)"}
    reason = reasons.get(code or errno.ENOSPC, "the disk is full")
    return f"{path}: {reason}; {free:,.1f} MiB free at {folder}. Make room, {again}"


def lock_file(path: Path, what: str, way_out: str) -> IO[str]:
    """Return a locked file that names its holder; closing it, or dying, frees it. Raises StoreError when it is held."""
    while True:
        file = open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+")  # noqa: SIM115 - stays open with the lock
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
    file.write(f"{os.getpid()} {now()}\n")
    file.flush()
    return file


@contextlib.contextmanager
def waiting_lock(path: Path, what: str) -> Iterator[None]:
    """Hold a lock file, which is removed at the end. Wait, and say for whom, while another process holds it."""
    file, told = None, ""
    while file is None:
        try:
            file = lock_file(path, what, "")
        except StoreError as error:
            if str(error) != told:
                log.warning("%s", error)
            told = str(error)
            time.sleep(0.2)
    with file:
        try:
            yield
        finally:
            remove(path)  # before the lock is released; lock_file notices a file that is gone


def _is_at(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def list_files(work: Path) -> list[str]:
    """Return the files of an artifact, relative to it, in order. Raises StoreError for links and devices."""
    names = []
    for folder, folders, files in os.walk(work):
        if Path(folder) == work:
            folders[:] = [name for name in folders if name != "partial"]
        for name in files + [name for name in folders if os.path.islink(os.path.join(folder, name))]:
            path = Path(folder, name)
            if path.is_symlink() or not path.is_file():
                raise StoreError(f"{path}: is not a plain file, as an artifact's must be. Replace it with a copy")
            names.append(path.relative_to(work).as_posix())
    return sorted(names)


def sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folders(work: Path) -> None:
    for folder, _, _ in os.walk(work):
        sync(Path(folder))


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def hash_file(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=20)).hexdigest()


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
