"""Which files were found to have the right contents, so that gigabytes are not read again before every step.

A small file in the user's cache for each folder tells the hash and the state of its files. While the size, inode and
times of a file are the same, so are its contents, unless the disk itself has lost a bit. The cache may be deleted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qrft.data.disk import cache_folder, hash_file
from qrft.data.file_hashes import is_settled, state
from qrft.data.sealed import read_sealed, write_sealed
from qrft.errors import StoreError


def changed_files(folder: Path, hashes: Mapping[str, str], *, fresh: bool = False) -> list[str]:
    """Return the files of a folder whose contents don't have their hash (disk.hash_file).

    `fresh` reads all of them, otherwise those are not read that are as they were when they had this hash.
    Raises OSError.
    """
    known: dict[str, Any] = {} if fresh else read_sealed(_place(folder))
    kept, changed = {}, []
    for name, wanted in hashes.items():
        now = state(folder / name)
        if known.get(name) == [wanted, *now]:
            kept[name] = known[name]
            continue
        settled = is_settled(now)  # before it is read, or a change in the meantime could leave its times alike
        if hash_file(folder / name) != wanted:
            changed.append(name)
        elif settled and now == state(folder / name):
            kept[name] = [wanted, *now]
    if fresh or kept != known:
        with contextlib.suppress(OSError, StoreError):  # a cache that can't be written costs only time
            write_sealed(_place(folder), kept, indent=None)
    return changed


def _place(folder: Path) -> Path:
    return cache_folder() / "checked" / f"{folder.resolve().name}.json"
