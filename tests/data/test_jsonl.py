"""The one reader of JSONL: every line with its place, whatever stands around it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qrft.data import files, jsonl
from qrft.errors import DataError


@pytest.mark.parametrize("block_bytes", [1, 7, 1 << 22])
@pytest.mark.parametrize("end", [b"", b"\n", b"\n\n"])
def test_every_line_has_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int, end: bytes
) -> None:
    monkeypatch.setattr(files, "BLOCK_BYTES", block_bytes)
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\n".join([b"1", b"", b'"two"\r', b" \t", b"[3]", b"", b"4"]) + end)
    assert list(jsonl.values(path, "")) == [(f"{path}:{n}", v) for n, v in ((1, 1), (3, "two"), (5, [3]), (7, 4))]


def test_a_byte_order_mark_may_stand_before_any_line(tmp_path: Path) -> None:
    """Files that were joined hold one in the middle."""
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\n\xef\xbb\xbf{"a": 2}\n')
    assert [row for _, row in jsonl.objects(path, "a")] == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("word", "not JSON in UTF-8 (Expecting value: line 1 column 1 (char 0)); found 'word'."),
        ("[1]", "found a list, expected an object with a and b."),
    ],
)
def test_what_is_no_object_is_named_with_its_line(tmp_path: Path, line: str, fault: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(f'{{"a": 1}}\n{line}\n')
    with pytest.raises(DataError) as caught:
        list(jsonl.objects(path, "a", "b"))
    assert str(caught.value) == f'{path}:2: {fault} Write one object per line: {{"a": ..., "b": ...}}.'


def test_half_a_surrogate_pair_is_no_text() -> None:
    assert jsonl.has_half_character(json.loads('"x \\ud83d"')) and not jsonl.has_half_character("x \U0001f600")
