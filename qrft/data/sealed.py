"""JSON files that tell when they are damaged: one key holds a checksum of all others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

CHECKSUM = "checksum"


def seal(values: Mapping[str, Any], indent: int | None = 1) -> str:
    """Return the values as JSON text with their checksum. All keys must be texts."""
    return json.dumps({**values, CHECKSUM: _checksum(values)}, indent=indent)


def unseal(text: bytes) -> dict[str, Any]:
    """Return the values of a JSON object. Raises ValueError for other text, and for values that are not those sealed.

    A file of an earlier version, which has no checksum, is taken as it is.
    """
    try:
        values = json.loads(text)
    except RecursionError:
        values = None
    if not isinstance(values, dict):
        raise ValueError("expected a JSON object")
    checksum = values.pop(CHECKSUM, None)
    if checksum not in (None, _checksum(values)):
        raise ValueError("its checksum does not fit its contents")
    return values


def _checksum(values: Mapping[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()
