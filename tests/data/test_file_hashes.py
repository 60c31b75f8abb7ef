"""Hashes that are remembered: the same as fresh ones, whatever happens to the files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from qrft.data import file_hashes


@pytest.fixture(autouse=True)
def hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """The files that were read for their hash; small ones are remembered too, in a cache of the test's own."""
    read: list[Path] = []
    hash_now = file_hashes._hash

    def watched(path: Path) -> str:
        read.append(path)
        return hash_now(path)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(file_hashes, "_hash", watched)
    monkeypatch.setattr(file_hashes, "LARGE", 1)
    monkeypatch.setattr(file_hashes, "SETTLED_SECONDS", -1.0)
    monkeypatch.setattr(file_hashes, "_known", {})
    yield read


def fresh(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=file_hashes.DIGEST_BYTES).hexdigest()


def forget_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_hashes, "_known", {})


def test_a_file_is_hashed_once_even_by_another_process(
    tmp_path: Path, hashed: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"abc" * 1000)
    assert [file_hashes.file_hash(file) for _ in range(3)] == [fresh(file)] * 3
    forget_process(monkeypatch)
    assert file_hashes.file_hash(file) == fresh(file) and hashed == [file]


def test_another_content_of_the_same_size_and_time_is_hashed_again(tmp_path: Path, hashed: list[Path]) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"a" * 100)
    file_hashes.file_hash(file)
    times = file.stat()
    file.write_bytes(b"b" * 100)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert file_hashes.file_hash(file) == fresh(file) and len(hashed) == 2


def test_a_file_that_just_changed_is_not_remembered(
    tmp_path: Path, hashed: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_hashes, "SETTLED_SECONDS", 60.0)
    file = tmp_path / "weights"
    file.write_bytes(b"a")
    for _ in range(2):
        file_hashes.file_hash(file)
    assert len(hashed) == 2 and not file_hashes.cache_file().exists()


@pytest.mark.parametrize("content", [b"", b"[1]", b'{"1 2": 3}', b"\xff"])
def test_a_damaged_cache_is_ignored_and_mended(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"abc")
    file_hashes.cache_file().parent.mkdir(parents=True)
    file_hashes.cache_file().write_bytes(content)
    assert file_hashes.file_hash(file) == fresh(file)
    forget_process(monkeypatch)
    assert file_hashes.file_hash(file) == fresh(file)


def test_a_cache_that_can_not_be_written_costs_time_alone(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, and no folder")
    file = tmp_path / "weights"
    file.write_bytes(b"abc")
    assert file_hashes.file_hash(file) == fresh(file)


def test_the_cache_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_hashes, "MAX_REMEMBERED", 2)
    for number in range(4):
        (tmp_path / str(number)).write_text(str(number))
        file_hashes.file_hash(tmp_path / str(number))
    assert len(file_hashes._remembered()) == 2
