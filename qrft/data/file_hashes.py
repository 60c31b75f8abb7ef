"""Hashes of files that are read again and again, such as a model's weights: no file is hashed twice.

A process remembers what it hashed. For large files later processes know it too, by a small file in
the user's cache. A file counts as the same while its size, inode and times of change are the same; one that changed a
moment ago is not remembered, since a second change could leave its times alike. The cache may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from pathlib import Path

from qrft.data.disk import cache_folder
from qrft.data.sealed import read_sealed, write_sealed
from qrft.errors import StoreError

DIGEST_BYTES = 10
LARGE = 16 * 2**20  # bytes; from here on hashing takes longer than looking into the cache
SETTLED_SECONDS = 2.0  # the coarsest resolution of times among file systems in use
MAX_REMEMBERED = 500

State = tuple[int, ...]  # device, inode, size, times of the last change of contents and of anything

_known: dict[State, str] = {}


def file_hash(path: Path) -> str:
    """Return the blake2b hash of a file's contents, of DIGEST_BYTES, in hex. Raises OSError."""
    now = state(path)
    known = _known.get(now) or (_remembered().get(_key(now)) if now[2] >= LARGE else None)
    settled = is_settled(now)  # before it is read, or a change in the meantime could leave its times alike
    digest = known or _hash(path)
    if settled and now == state(path):
        _known[now] = digest
        if now[2] >= LARGE and not known:
            _remember(now, digest)
    return digest


def state(path: Path) -> State:
    """Return what changes whenever a file does. Raises OSError."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def states(folder: Path) -> tuple[tuple[str, State], ...]:
    """Return what changes whenever a file right in the folder does; nothing for a folder that can't be read."""
    try:
        return tuple(sorted((path.name, state(path)) for path in folder.iterdir() if path.is_file()))
    except OSError:
        return ()


def is_settled(now: State) -> bool:
    """Return whether a further change of a file in this state would show in its times."""
    return time.time() - max(now[3:]) / 1e9 > SETTLED_SECONDS


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=DIGEST_BYTES)).hexdigest()


def cache_file() -> Path:
    return cache_folder() / "file-hashes.json"


def _key(state: State) -> str:
    return " ".join(map(str, state))


def _remembered() -> dict[str, str]:
    return {key: value for key, value in read_sealed(cache_file()).items() if isinstance(value, str)}


def _remember(state: State, digest: str) -> None:
    entries = {**_remembered(), _key(state): digest}
    newest = dict(list(entries.items())[-MAX_REMEMBERED:])
    with contextlib.suppress(OSError, StoreError):  # a cache that can't be written costs only time
        write_sealed(cache_file(), newest, indent=0)
