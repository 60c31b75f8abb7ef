"""Hashes of files that are read again and again, such as a model's weights: no file is hashed twice.

A process remembers what it hashed. For large files later processes know it too, by a small file in
the user's cache. A file counts as the same while its size, inode and times of change are the same; one that changed a
moment ago is not remembered, since a second change could leave its times alike. The cache may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from pathlib import Path

from qrft.data.disk import cache_folder, write_atomic
from qrft.errors import StoreError

DIGEST_BYTES = 10
LARGE = 16 * 2**20  # bytes; from here on hashing takes longer than looking into the cache
SETTLED_SECONDS = 2.0  # the coarsest resolution of times among file systems in use
MAX_REMEMBERED = 500

State = tuple[int, ...]  # device, inode, size, times of the last change of contents and of anything

_known: dict[State, str] = {}


def file_hash(path: Path) -> str:
    """Return the blake2b hash of a file's contents, of DIGEST_BYTES, in hex. Raises OSError."""
    state = _state(path)
    known = _known.get(state) or (_remembered().get(_key(state)) if state[2] >= LARGE else None)
    digest = known or _hash(path)
    if _is_settled(state) and state == _state(path):
        _known[state] = digest
        if state[2] >= LARGE and not known:
            _remember(state, digest)
    return digest


def _state(path: Path) -> State:
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _is_settled(state: State) -> bool:
    return time.time() - max(state[3:]) / 1e9 > SETTLED_SECONDS


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=DIGEST_BYTES)).hexdigest()


def cache_file() -> Path:
    return cache_folder() / "file-hashes.json"


def _key(state: State) -> str:
    return " ".join(map(str, state))


def _remembered() -> dict[str, str]:
    try:
        values = json.loads(cache_file().read_bytes())
    except (OSError, ValueError):
        return {}
    return {k: v for k, v in values.items() if isinstance(v, str)} if isinstance(values, dict) else {}


def _remember(state: State, digest: str) -> None:
    entries = {**_remembered(), _key(state): digest}
    newest = dict(list(entries.items())[-MAX_REMEMBERED:])
    with contextlib.suppress(OSError, StoreError):  # a cache that can't be written costs only time
        cache_file().parent.mkdir(parents=True, exist_ok=True)
        write_atomic(cache_file(), json.dumps(newest, indent=0))
