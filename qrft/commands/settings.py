"""What decides the contents of an output folder, kept beside them: only the same command continues."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from qrft.config.paths import for_people
from qrft.models.find import fingerprint


def named(name: str, path: Path) -> dict[str, str]:
    """Identify what is at a path by its contents; the name is for people."""
    config = path / "adapter_config.json"
    return {
        "name": for_people([name])[name],
        "digest": fingerprint(path) + (fingerprint(config) if config.is_file() else ""),
    }


def digest(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value).encode(), digest_size=10).hexdigest()


def differences(kept: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name in {**kept, **now}:
        before, after = kept.get(name), now.get(name)
        if _contents(before) != _contents(after):
            yield f"{name} was {_shown(before)} and is now {_shown(after)}"


def _contents(setting: Any) -> Any:
    """Return what is compared: a file or a folder is the same under any name."""
    return setting["digest"] if isinstance(setting, dict) and "digest" in setting else setting


def _shown(setting: Any) -> str:
    if isinstance(setting, dict) and "digest" in setting:
        return f"{setting['name']} ({setting['digest'][:8]})"
    return json.dumps(setting)
