"""The disk is full at a random write, or its inodes are exhausted; then there is room again."""

from __future__ import annotations

import random
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.forks import Forks
from helpers.torture import Told, Undisturbed, contents, counts


class Disk:
    """A small disk that can be made larger."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.is_mounted = False

    def resize(self, num_bytes: int, num_inodes: int) -> None:
        options = f"size={num_bytes},nr_inodes={num_inodes}"
        words = ["-o", f"remount,{options}"] if self.is_mounted else ["-t", "tmpfs", "-o", options, "tmpfs"]
        done = subprocess.run(["mount", *words, self.folder], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"mounting a tmpfs is not permitted here: {done.stderr.strip()}")
        self.is_mounted = True

    def remove(self) -> None:
        if self.is_mounted:
            subprocess.run(["umount", "-l", self.folder], check=True)
        self.is_mounted = False


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    disk = Disk(folder)
    yield disk
    disk.remove()


AMPLE = 1 << 30, 1 << 16
LACKS = {"bytes": "the disk is full", "inodes": "no more files fit on the disk"}


@pytest.mark.parametrize("lacking", LACKS)
@counts(1, 50)
def test_where_the_disk_is_full_a_run_says_so_and_goes_on_when_there_is_room(
    trials: int, lacking: str, forks: Forks, undisturbed: Undisturbed, disk: Disk, draw: random.Random, told: Told
) -> None:
    """The caches are on the small disk as well. A little room is made each time, so that each write is met once."""
    used = sum(path.lstat().st_size for path in undisturbed.out.rglob("*")) * 1.3
    number = sum(1 for _ in undisturbed.out.rglob("*")) * 1.3
    done, num_runs = 0, 0
    where: Counter[str] = Counter()
    out = disk.folder / "out"
    room = 0.0
    while done < trials:
        room += draw.uniform(0, 0.15)
        size = (int(room * used) + 4096, AMPLE[1]) if lacking == "bytes" else (AMPLE[0], int(room * number) + 2)
        disk.resize(*size)
        run = forks.run("run", undisturbed.recipe, "-o", out, XDG_CACHE_HOME=str(disk.folder / "cache"))
        assert "Traceback" not in run.printed, run.printed
        if run.code == 0:
            assert contents(out) == undisturbed.contents
            disk.remove()
            num_runs, room = num_runs + 1, 0.0
            continue
        assert run.code == 1 and LACKS[lacking] in run.printed and "then run the same command again" in run.printed
        where[at_work(out)] += 1
        done += 1
    disk.resize(*AMPLE)
    run = forks.run("run", undisturbed.recipe, "-o", out, XDG_CACHE_HOME=str(disk.folder / "cache"))
    assert run.code == 0 and contents(out) == undisturbed.contents, run.printed
    told(done, f"no {lacking} left: told each time, {num_runs + 1} runs as undisturbed; at: {dict(where)}")


def at_work(out: Path) -> str:
    work = sorted(path.name.rpartition("-")[0] for path in (out / "store/tmp").glob("*") if path.is_dir())
    return work[0] if work else "between"
