"""`qrft merge`: the folders of `qrft sample --shard` become the one that a single command would have made."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from qrft.commands.sample_folder import SETTINGS, read_settings
from qrft.commands.settings import differences
from qrft.data import disk
from qrft.data.files import reason
from qrft.errors import DamagedError, UsageError
from qrft.sampling.api import Request
from qrft.sampling.passes import Passes
from qrft.sampling.shards import name_of

MOST_NAMED = 10  # missing shards


def run(folders: Sequence[Path], out: Path) -> dict[str, Any]:
    """Write the shards of all folders into the new folder `out`, and return the counts.

    Raises UsageError for folders that were made with other settings, hold another file in a shard's place, or lack a
    shard; DamagedError for a shard that can't be read.
    """
    disk.check_place(out)
    if out.exists():
        raise UsageError(f"{out}: already exists. Name a new folder with -o.")
    kept = _agreed(folders)
    sizes = list(_sizes(kept))
    shards = _found(folders, len(sizes))
    for path, size in zip(shards, sizes, strict=True):
        _check(path, size)
    with disk.whole_folder(out) as work:
        for path in shards:
            shutil.copyfile(path, work / path.name)
        (work / SETTINGS).write_text(json.dumps(kept, indent=1), encoding="utf-8")
    return {"num_folders": len(folders), "num_shards": len(shards), "num_samples": sum(sizes)}


def _agreed(folders: Sequence[Path]) -> dict[str, Any]:
    """Return the settings that all folders share."""
    first, *others = (read_settings(folder / SETTINGS) for folder in folders)
    if first["settings"].get("until"):
        raise UsageError(f"{folders[0]}: was made with --until, by which no samples are made in parts. It is whole.")
    for folder, kept in zip(folders[1:], others, strict=True):
        facts = ({**one["settings"], "model": one["model"], "-k": one["num_samples"]} for one in (first, kept))
        if changes := list(differences(*facts)):
            raise UsageError(
                f"{folder}: was made with other settings than {folders[0]}: {'; '.join(changes)}. Merge the parts of "
                "one command."
            )
    return first


def _sizes(kept: Mapping[str, Any]) -> Iterator[int]:
    """Yield the number of samples of each shard, which the settings decide."""
    requests = [Request(str(number), []) for number in range(kept["settings"]["num_problems"])]
    passes = Passes(requests, kept["num_samples"], None, kept["settings"]["samples_per_shard"])
    for shard in passes.shards():
        passes.skip(shard)
        yield sum(request.num_samples for request in shard)


def _found(folders: Sequence[Path], num_shards: int) -> list[Path]:
    """Return the file of each shard."""
    shards = []
    missing = []
    for number in range(num_shards):
        there = [path for folder in folders if (path := folder / name_of(number)).is_file()]
        if len({disk.hash_file(path) for path in there}) > 1:
            raise UsageError(f"{' and '.join(map(str, there))}: differ, though both are the same shard. Remove one.")
        shards += there[:1]
        missing += [] if there else [number + 1]
    if missing:
        named = ", ".join(map(str, missing[:MOST_NAMED])) + (", ..." if len(missing) > MOST_NAMED else "")
        raise UsageError(
            f"{len(missing)} of {num_shards} shards are in no folder: {named}. Name the folders of all parts, and run "
            "the same `qrft sample ... --shard` again where one was stopped."
        )
    return shards


def _check(path: Path, size: int) -> None:
    try:
        num_rows = pq.read_table(path, page_checksum_verification=True).num_rows
    except (OSError, pa.ArrowException) as error:
        raise DamagedError(f"{path}: can't be read ({reason(error)}). Remove it, and sample its part again.") from error
    if num_rows != size:
        raise DamagedError(
            f"{path}: holds {num_rows:,} samples, expected {size:,}. Remove it, and sample its part again."
        )
