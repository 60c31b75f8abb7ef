"""The folder of `qrft sample`: what it was made with, and whether this command may continue in it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qrft.commands.settings import differences
from qrft.data import disk
from qrft.errors import DataError, UsageError

SETTINGS = "settings.json"


def agree(folder: Path, settings: Mapping[str, Any], num_samples: int, model: str) -> tuple[list[int], str]:
    """Return each k asked for so far, this one last, and the samples' model. Raises UsageError for other settings."""
    path, asked = folder / SETTINGS, list[int]()
    if any(folder.glob("*.parquet")):  # without samples, any settings may replace these
        kept = read_settings(path)
        asked, model = kept["num_samples"], kept["model"]
        _compare(folder, kept["settings"], settings, asked[-1], num_samples)
    if num_samples not in asked:
        asked = [*asked, num_samples]
        disk.write_atomic(path, json.dumps({"model": model, "num_samples": asked, "settings": settings}, indent=1))
    return asked, model


def refuse_foreign(folder: Path) -> None:
    """Raise UsageError for a folder that holds something, but nothing that `qrft sample` made."""
    if (folder / SETTINGS).exists():
        read_settings(folder / SETTINGS)  # another program's file of this name is not ours to replace
        return
    if not folder.is_dir():
        return
    names = {file.name for file in folder.iterdir()} - {".lock"}
    if any(name.endswith(".parquet") for name in names):
        read_settings(folder / SETTINGS)  # says what is missing
    if any(not re.fullmatch(r"\.settings\.json\.[0-9a-f]{8}\.tmp", name) for name in names):
        raise UsageError(f"{folder}: already exists, and was not made by this command. Name another folder with -o.")


def _compare(folder: Path, kept: Mapping[str, Any], now: Mapping[str, Any], before: int, num_samples: int) -> None:
    if changes := list(differences(kept, now)):
        raise UsageError(
            f"{folder}: was made with other settings: {'; '.join(changes)}. Give the former settings, or name another "
            "folder with -o."
        )
    if num_samples < before:
        raise UsageError(
            f"{folder}: was made with -k {before}, and -k is now {num_samples}. It can only be raised: "
            f"give -k {before} or more, or name another folder with -o."
        )


def read_settings(path: Path) -> dict[str, Any]:
    """Return `settings`, `model` and `num_samples`, each k asked for.

    Raises UsageError for a file that is not there, DataError for one that `qrft sample` did not write.
    """
    if not path.exists():
        raise UsageError(f"{path.parent}: holds Parquet files, but no {SETTINGS}. Name another folder with -o.")
    try:
        kept: dict[str, Any] = json.loads(path.read_bytes())
        if not isinstance(kept["settings"], dict) or not isinstance(kept["model"], str) or not kept["num_samples"]:
            raise ValueError("not a file of settings")
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(f"{path}: can't be read ({error}). Name another folder with -o, or remove this one.") from error
    return kept
