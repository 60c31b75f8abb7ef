"""Reading samples: every spelling, every compression, every kind of damage, and always the same rows."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qrft.data import files
from qrft.data.samples import Faults, Numbering, ahead, units
from qrft.errors import DataError

IDS = pa.array(["0", "1", "2", "3", "4"], pa.large_string())
Sample = tuple[str, int, str, str]  # problem, sample_index, model, completion


def read(*paths: Path, ids: pa.Array = IDS) -> tuple[list[Sample], Faults]:
    """All samples of the files, numbered, and what could not be read."""
    numbering, found, faults = Numbering(ids), [], Faults()
    for batch in ahead((unit.read for unit in units(paths, ids)), 2):
        models, indexes = numbering.add(batch)
        names = [numbering.models[model] for model in models]
        problems = ids.take(pa.array(batch.problem)).to_pylist()
        found += zip(problems, indexes.tolist(), names, batch.completion.to_pylist(), strict=True)
        faults.extend(batch.faults)
    numbering.check()
    return found, faults


def write(path: Path, rows: Sequence[dict[str, Any] | str | bytes]) -> Path:
    lines = [json.dumps(row) if isinstance(row, dict) else row for row in rows]
    path.write_bytes(b"".join((line.encode() if isinstance(line, str) else line) + b"\n" for line in lines))
    return path


def message_of(*paths: Path, ids: pa.Array = IDS) -> str:
    with pytest.raises(DataError) as caught:
        read(*paths, ids=ids)
    return str(caught.value)


# ------------------------------------------------------------------------------------------------------- spelling ----


@pytest.mark.parametrize("problem", ["problem_id", "question_id", "id", "idx"])
@pytest.mark.parametrize("text", ["completion", "response", "generation", "prediction", "output"])
def test_spellings(tmp_path: Path, problem: str, text: str) -> None:
    rows = [{problem: 3, text: "a", "other": [{"x": None}]}, {text: "b", problem: 0, "other": 1.5}]
    expected = [("3", 0, "s", "a"), ("0", 0, "s", "b")]
    assert read(write(tmp_path / "s.jsonl", rows))[0] == expected
    table = pa.table({problem: [3, 0], text: ["a", "b"]})
    pq.write_table(table, tmp_path / "s.parquet")
    assert read(tmp_path / "s.parquet")[0] == expected


def test_the_gold_output_of_instruction_data_is_no_completion(tmp_path: Path) -> None:
    rows = [{"id": 1, "output": "gold", "response": "sampled"}]
    assert read(write(tmp_path / "s.jsonl", rows))[0] == [("1", 0, "s", "sampled")]


@pytest.mark.parametrize("name", ["completion", "completions", "samples", "outputs"])
def test_a_row_may_hold_all_samples_of_a_problem(tmp_path: Path, name: str) -> None:
    rows = [{"problem_id": 1, name: ["a", "b"]}, {"problem_id": 2, name: []}, {"problem_id": 1, name: ["c"]}]
    expected = [("1", 0, "s", "a"), ("1", 1, "s", "b"), ("1", 2, "s", "c")]
    assert read(write(tmp_path / "s.jsonl", rows))[0] == expected
    for kind in (pa.list_(pa.string()), pa.large_list(pa.large_binary())):
        lists = pa.array([row[name] for row in rows], pa.list_(pa.string())).cast(kind)
        pq.write_table(pa.table({"problem_id": [1, 2, 1], name: lists}), tmp_path / "s.parquet")
        assert read(tmp_path / "s.parquet")[0] == expected


def test_ids_are_numbers_or_texts(tmp_path: Path) -> None:
    rows = [{"problem_id": value, "completion": "a"} for value in (1, "1", 2.0, "3")]
    assert [sample[0] for sample in read(write(tmp_path / "s.jsonl", rows))[0]] == ["1", "1", "2", "3"]
    names = pa.array(["chal-1", "é"], pa.large_string())
    found, _ = read(write(tmp_path / "t.jsonl", [{"id": "é", "completion": "a"}]), ids=names)
    assert found == [("é", 0, "t", "a")]


@pytest.mark.parametrize("first", [1, 1.0])
def test_whole_floats_are_whole_numbers(tmp_path: Path, first: float) -> None:
    numbers, indexes = [first, 2.0, 3.0], [first, 2.0, None]
    rows = [{"id": i, "sample_index": j, "output": "a"} for i, j in zip(numbers, indexes, strict=True)]
    expected = [("1", 1, "s", "a"), ("2", 2, "s", "a"), ("3", 0, "s", "a")]
    assert read(write(tmp_path / "s.jsonl", rows))[0] == expected
    columns = {"id": pa.array(numbers, pa.float64()), "sample_index": pa.array(indexes, pa.float32())}
    pq.write_table(pa.table(columns | {"output": ["a"] * 3}), tmp_path / "s.parquet")
    assert read(tmp_path / "s.parquet")[0] == expected


@pytest.mark.parametrize("wrong", [1.5, True, ["1"], {"a": 1}, 1e300, float("nan"), None])
@pytest.mark.parametrize("first", [1, 1.0, "1"])
def test_an_id_is_a_whole_number_or_a_text(tmp_path: Path, first: object, wrong: object) -> None:
    rows = [{"id": first, "output": "a"}, {"id": wrong, "output": "b"}]
    found, faults = read(write(tmp_path / "s.jsonl", rows))
    assert found == [("1", 0, "s", "a")] and faults.count == 1 and f"{tmp_path}/s.jsonl:2: " in faults.first[0]


def test_an_index_that_is_no_whole_number(tmp_path: Path) -> None:
    rows = [{"id": 1, "sample_index": 0.0, "output": "a"}, {"id": 1, "sample_index": 0.5, "output": "b"}]
    assert read(write(tmp_path / "s.jsonl", rows))[1].first == [
        f"{tmp_path}/s.jsonl:2: sample_index is 0.5, expected a whole number from 0."
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "s.parquet")
    found, faults = read(tmp_path / "s.parquet")
    assert len(found) == faults.count == 1


def test_parquet_of_every_type(tmp_path: Path) -> None:
    texts = pa.array(["a", "é", "a"])
    for kind in (pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int32(), pa.string())):
        for ids in (pa.array([1, 2, 1], pa.int8()), pa.array(["1", "2", "1"]), pa.array([1, 2, 1], pa.uint64())):
            models = pa.array(["m", None, "m"]).dictionary_encode()
            table = pa.table({"problem_id": ids, "completion": texts.cast(kind), "model": models})
            pq.write_table(table, tmp_path / "s.parquet")
            expected = [("1", 0, "m", "a"), ("2", 0, "s", "é"), ("1", 1, "m", "a")]
            assert read(tmp_path / "s.parquet")[0] == expected


# ------------------------------------------------------------------------------------------------------ numbering ----


def test_without_an_index_samples_count_as_they_appear(tmp_path: Path) -> None:
    rows = [{"problem_id": p, "completion": "", "model": m} for p, m in ((1, "a"), (1, "b"), (2, "a"), (1, "a"))]
    found, _ = read(write(tmp_path / "s.jsonl", rows), write(tmp_path / "t.jsonl", rows[:1]))
    assert [sample[1] for sample in found] == [0, 0, 0, 1, 2]


def test_without_a_model_its_file_tells_samples_apart(tmp_path: Path) -> None:
    row = [{"problem_id": 1, "sample_index": 7, "completion": "x"}]
    (tmp_path / "deep").mkdir()
    paths = [write(tmp_path / name, row) for name in ("a.jsonl", "b.v2.jsonl", "deep/a.jsonl")]
    found, _ = read(*paths)
    assert [sample[1:3] for sample in found] == [(7, str(paths[0])), (7, "b.v2"), (7, str(paths[2]))]


def test_a_sample_that_is_there_twice(tmp_path: Path) -> None:
    rows = [{"problem_id": i % 5, "sample_index": i // 5, "completion": "x", "model": "m"} for i in range(30)]
    random.Random(0).shuffle(rows)
    path = write(tmp_path / "s.jsonl", rows)
    assert len(read(path)[0]) == 30
    first = rows.index({"problem_id": 3, "sample_index": 2, "completion": "x", "model": "m"})
    again = write(tmp_path / "t.jsonl", [rows[first]])
    assert message_of(path, again).startswith(
        f"{again}:1: problem_id '3', sample_index 2, model 'm' is already at {path}:{first + 1} (1 such rows)."
    )


# ---------------------------------------------------------------------------------------------------- compression ----


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".jsonl.zst"])
def test_compressed(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "BLOCK_BYTES", 1000)
    rows = [{"problem_id": i % 5, "completion": f"{i} é" * (i % 40)} for i in range(500)]
    data = write(tmp_path / "plain", rows).read_bytes()
    path = tmp_path / f"s{suffix}"
    if suffix.endswith(".gz"):
        path.write_bytes(gzip.compress(data[:9000]) + gzip.compress(data[9000:]))  # as several writers leave it
    else:
        codec = "zstd" if suffix.endswith(".zst") else None
        path.write_bytes(pa.compress(data, codec, asbytes=True) if codec else data)
    found, faults = read(path)
    assert [sample[3] for sample in found] == [row["completion"] for row in rows] and faults.count == 0


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: b"plain" + data])
def test_damaged_compression(tmp_path: Path, damage: Any) -> None:
    path = tmp_path / "s.jsonl.gz"
    path.write_bytes(damage(gzip.compress(b'{"problem_id": 1, "completion": "a"}\n' * 99)))
    assert message_of(path).startswith(f"{path}: can't be read (")


# --------------------------------------------------------------------------------------------------------- damage ----

GOOD = [
    b'{"problem_id": 1, "completion": "a"}',
    b'{"completion": "\\u00e9 \\ud83d\\ude00\\n", "problem_id": 2, "more": {"x": [1, "2"]}}',
    b'{"problem_id": 3, "completion": "", "sample_index": null} \r',
    '{"problem_id": 4, "completion": "é😀"}'.encode(),
    b'{"problem_id": "1", "completion": "text id"}',
    b'{"problem_id": 2.0, "completion": "float id"}',
    b'{"problem_id": 0, "problem_id": 2, "completion": "key twice"}',
    b'{"problem_id": 2, "completion": "half \\ud83d pair"}',
    b'{"problem_id": 2, "completion": "other half \\udc80"}',
    b'{"problem_id": 2, "completion": "x", "score": NaN}',
]
BAD = [
    b"{",
    b"word",
    b"[1]",
    b"3",
    b"null",
    b'{"problem_id": 1}',
    b'{"completion": "a"}',
    b'{"problem_id": 1, "completion": null}',
    b'{"problem_id": 1, "completion": 5}',
    b'{"problem_id": true, "completion": "a"}',
    b'{"problem_id": 1.5, "completion": "a"}',
    b'{"problem_id": 1, "completion": ["a"]}',
    b'{"problem_id": 1, "completion": "a"',
    b'{"problem_id": 1, "completion": "a"} {"problem_id": 1, "completion": "b"}',
    b'{"problem_id": 1, "completion": "raw \xff byte"}',
    b'{"problem_id": 1, "completion": "raw \t tab"}',
    b'{"problem_id": 1, "completion": "a", "sample_index": "3"}',
    b'{"problem_id": 1, "completion": "a", "sample_index": -1}',
    b'{"problem_id": 1, "completion": "a", "sample_index": 2147483648}',
    b'{"problem_id": 1, "completion": "a", "model": {"name": 1}}',
    b'{"problem_id": 1,\0 "completion": "a"}',
]
BLANK = [b"", b" ", b"\t\r"]
FIRST = b'{"problem_id": 0, "completion": "first", "sample_index": null, "model": "m"}'


def readable(line: bytes) -> tuple[str, str]:
    row = json.loads(line)
    return str(int(row["problem_id"])), row["completion"].encode("utf-16", "surrogatepass").decode("utf-16", "replace")


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.sampled_from(GOOD + BAD + BLANK), max_size=12), st.booleans(), st.integers(1, 400))
def test_what_stands_around_a_line_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[bytes], ends: bool, block_bytes: int
) -> None:
    """Every good line is read and every bad one named by its number, whatever its neighbours and its block."""
    monkeypatch.setattr(files, "BLOCK_BYTES", block_bytes)
    path = tmp_path / "s.jsonl"
    whole = b"\n".join([FIRST, *lines])
    path.write_bytes(whole + b"\n" if ends else whole)
    found, faults = read(path)
    good = [line for line in [FIRST, *lines] if line in (FIRST, *GOOD)]
    assert [(sample[0], sample[3]) for sample in found] == [readable(line) for line in good]
    bad = [number for number, line in enumerate(lines, 2) if line in BAD]
    assert faults.count == len(bad)
    assert [message.partition(": ")[0] for message in faults.first] == [f"{path}:{number}" for number in bad[:5]]


def test_a_byte_order_mark_and_a_bad_beginning(tmp_path: Path) -> None:
    path = write(tmp_path / "s.jsonl", [b"\xef\xbb\xbf" + GOOD[0]])
    assert read(path)[0] == [("1", 0, "s", "a")]
    write(path, ["null", "# my samples", "", *GOOD[:2]])  # Arrow's parser, asked first, would crash at the null
    found, faults = read(path)
    assert len(found) == 2 and faults.count == 2
    assert faults.first[1].startswith(f"{path}:2: not JSON in UTF-8 (")


def test_a_long_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = "x" * 5_000_000
    path = write(tmp_path / "s.jsonl", [{"problem_id": 1, "completion": text} for text in ("a", long, "b")])
    assert [sample[3] for sample in read(path)[0]] == ["a", long, "b"]
    monkeypatch.setattr(files, "LONGEST_LINE", 1 << 20)
    assert "no line end in 1 MiB. Expected JSONL, one row per line, none longer." in message_of(path)


def test_parquet_rows_without_a_text(tmp_path: Path) -> None:
    raw = pa.array([b"a", None, b"\xff\xe2\x82", b"b", b"c", b"d"])
    ids, indexes = pa.array([1, 1, 2, None, 1, 2]), pa.array([0, 1, 0, 0, 2**64 - 1, 2**31], pa.uint64())
    table = {"problem_id": ids, "completion": raw, "sample_index": indexes}
    pq.write_table(pa.table(table), tmp_path / "s.parquet")
    found, faults = read(tmp_path / "s.parquet")
    assert found == [("1", 0, "s", "a"), ("2", 0, "s", "\ufffd\ufffd")]
    lists = table | {"completion": pa.array([[text, None] for text in raw.to_pylist()], pa.list_(pa.binary()))}
    pq.write_table(pa.table(lists).slice(2, 1), tmp_path / "t.parquet")
    assert read(tmp_path / "t.parquet")[0] == [("2", 0, "t", "\ufffd\ufffd")]
    assert faults.first == [
        f"{tmp_path}/s.parquet:2: found no completion.",
        f"{tmp_path}/s.parquet:4: found no problem_id that is a whole number or a text.",
        f"{tmp_path}/s.parquet:5: sample_index is -1, expected a whole number from 0.",
        f"{tmp_path}/s.parquet:6: sample_index is 2147483648, expected a whole number from 0.",
    ]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], ": is empty. Expected samples, one per row, with problem_id and completion."),
        (["", " "], ": no line holds a JSON object. Expected one per line, with problem_id and completion."),
        (["a", "[]"], ": no line holds a JSON object."),
        (
            ["", '{"id": 1, "text": "a"}'],
            ":2: no column for the completion; found id, text. Expected one of completion, ",
        ),
        (['{"completion": "a"}'], ":1: no column for the problem; found completion. Expected one of problem_id, "),
        (
            ['{"id": 0, "output": "a"}', '{"id": 9, "output": "a"}'],
            ":2: problem_id '9' is unknown (1 of 2 samples in this file): there are 5 problems",
        ),
        (
            ['{"id": 5, "output": "a"}'],
            "with the ids 0 to 4. Name the problems that these samples belong to; did you count ",
        ),
        (['{"id": 0, "output": "a"}', "{", "", '{"id": "x", "output": "a"}'], ":4: problem_id 'x' is unknown"),
    ],
)
def test_bad_files(tmp_path: Path, rows: list[str], message: str) -> None:
    path = write(tmp_path / "s.jsonl", rows)
    assert message in message_of(path) and message_of(path).startswith(str(path))


def test_row_numbers_in_place_of_ids(tmp_path: Path) -> None:
    path = write(tmp_path / "s.jsonl", [{"id": 0, "output": "a"}])
    message = message_of(path, ids=pa.array(["chal-1", "chal-2"], pa.large_string()))
    assert "2 problems with the ids chal-1 to chal-2." in message and "did you mean the row number?" in message


def test_bad_parquet(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    path.write_bytes(b"PAR1 and no more")
    assert message_of(path).startswith(f"{path}: can't be read (")
    pq.write_table(pa.table({"id": [1], "text": ["a"]}), path)
    assert message_of(path).startswith(f"{path}: no column for the completion; found id, text. Expected one of ")
    pq.write_table(pa.table({"id": [1], "output": [1.5]}), path)
    assert message_of(path) == f"{path}: column output is double, expected texts or lists of texts."
    pq.write_table(pa.table({"id": pa.array([], pa.int64()), "output": pa.array([], pa.string())}), path)
    assert message_of(path).startswith(f"{path}: is empty.")
    assert message_of(tmp_path / "none.parquet").startswith(f"{tmp_path}/none.parquet: can't be read (")
