"""JSON files that tell when they are damaged: one key holds a checksum of all others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qrft.data.disk import make_folder, write_atomic

CHECKSUM = "checksum"


def seal(values: Mapping[str, Any], indent: int | None = 1) -> str:
    """Return the values as JSON text with their checksum. All keys must be texts."""
    return json.dumps(with_checksum(values), indent=indent)


def unseal(text: bytes) -> dict[str, Any]:
    """Return the values that were sealed. Raises ValueError when the text holds others, or no JSON object."""
    try:
        values = json.loads(text)
    except RecursionError:
        values = None
    return without_checksum(values)


def read_sealed(path: Path) -> dict[str, Any]:
    """Return the values in a file of a cache; none where it is not there, can't be read or is damaged."""
    try:
        return unseal(path.read_bytes())
    except (OSError, ValueError):
        return {}


def write_sealed(path: Path, values: Mapping[str, Any], indent: int | None = 1) -> None:
    """Write the values to a file, and the folders above it. Raises StoreError."""
    make_folder(path.parent)
    write_atomic(path, seal(values, indent))


def with_checksum(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values and their checksum."""
    return {**values, CHECKSUM: _checksum(values)}


def without_checksum(values: Any) -> dict[str, Any]:
    """Return the values that with_checksum was given. Raises ValueError when these are others, or no JSON object.

    What an earlier version wrote has no checksum, and is taken as it is.
    """
    if not isinstance(values, dict):
        raise ValueError("expected a JSON object")
    own = {key: value for key, value in values.items() if key != CHECKSUM}
    if values.get(CHECKSUM) not in (None, _checksum(own)):
        raise ValueError("its checksum does not fit its contents")
    return own


def _checksum(values: Mapping[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()
