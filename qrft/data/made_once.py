"""Files and folders of a cache that are made once, by one process at a time, and made again where they are damaged."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from qrft.data.disk import disk_errors, list_files, remove, remove_temporaries, waiting_lock
from qrft.data.file_hashes import file_hash
from qrft.data.sealed import read_sealed, write_sealed

log = logging.getLogger(__name__)


def made_once(out: Path, make: Callable[[], None]) -> Path:
    """Return the file or folder, which `make` makes whole, or not at all, unless it lies there as it was made.

    A second process waits for the first. Raises StoreError for a full or read-only disk, and what `make` raises.
    """
    record = out.with_name(out.name + ".json")
    with disk_errors(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
        with waiting_lock(out.with_name(out.name + ".lock"), f"{out} is being made"):
            if not out.exists() or read_sealed(record) != _hashes(out):
                if out.exists():
                    log.warning("%s: is not as it was made, so it is made again", out)
                    remove(out)
                remove_temporaries(out)
                make()
                write_sealed(record, _hashes(out))
    return out


def _hashes(path: Path) -> dict[str, str]:
    if path.is_dir():
        return {name: file_hash(path / name) for name in list_files(path)}
    return {"blake2b": file_hash(path)}
