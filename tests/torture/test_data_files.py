"""People's data files are not trusted: what they hold is read, counted and skipped, or one message names the place."""

from __future__ import annotations

import gzip
import io
import json
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from helpers.commands import environment
from helpers.hostile import Random, damaged, value, with_a_strange_value
from helpers.paths import TINY
from helpers.processes import run_measured

from qrft.cli.main import main

PROBLEMS = [
    {"id": i, "question": f"How many is {i}+4?", "answer": f"{i}+4=<<{i}+4={i + 4}>>{i + 4}\n#### {i + 4}"}
    for i in range(3)
]
SAMPLES = [
    {"id": i, "sample_index": j, "model": "m", "completion": f"so\n#### {i + 4}"} for i in range(3) for j in range(2)
]
SVAMP = [
    {"ID": f"chal-{i}", "Body": "Ann had 7 pears", "Question": "How many?", "Equation": "7", "Answer": 7.0, "Type": "S"}
    for i in range(3)
]
ASDIV = (
    '<Machine-Reading-Corpus-File><ProblemSet><Problem ID="nluds-1" Grade="1"><Body>Ann has 7 pears.</Body><Question>'
    "How many?</Question><Answer>9 (fruits)</Answer></Problem></ProblemSet></Machine-Reading-Corpus-File>"
)


def lines(rows: Sequence[Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def parquet(rows: list[dict[str, Any]]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


def strange_lines(rows: Sequence[Any], rng: Random) -> bytes:
    place = rng.randrange(len(rows))
    return lines(rows[:place]) + with_a_strange_value(rows[place], rng) + b"\n" + lines(rows[place + 1 :])


def hostile_rows(rows: list[dict[str, Any]], rng: Random) -> tuple[str, bytes]:
    """Return the end of a file's name, and what the file holds."""
    ways: Sequence[Callable[[], tuple[str, bytes]]] = (
        *[lambda: (".jsonl", strange_lines(rows, rng))] * 4,
        lambda: (".jsonl", damaged(lines(rows), rng)),
        lambda: (".jsonl", value(rng).encode("utf-8", "surrogatepass") * rng.choice([1, 3])),
        lambda: (".jsonl", b"\n \r\n" * 1000 + lines(rows)[rng.randrange(40) :]),
        lambda: (".jsonl.gz", damaged(gzip.compress(lines(rows)), rng)),
        lambda: (".jsonl.gz", gzip.compress(strange_lines(rows, rng))),
        lambda: (".jsonl.zst", damaged(pa.compress(lines(rows), "zstd", asbytes=True), rng)),
        lambda: (".parquet", damaged(parquet(rows), rng)),
        lambda: (".parquet", parquet([{key: strange_column(rng) for key in row} for row in rows[:1]])),
        lambda: (rng.choice([".jsonl", ".parquet", ".json", ""]), rng.randbytes(rng.randrange(3000))),
    )
    return rng.choice(ways)()


def strange_column(rng: Random) -> Any:
    return rng.choice([None, True, 1.5, float("nan"), 2**62, b"\xff\x00", "x", ["a"], [["a"]], {"a": 1}, [None], []])


def hostile_set(name: str, rng: Random) -> bytes:
    """Return SVAMP.json or ASDiv.xml with something broken."""
    if name == "svamp":
        return rng.choice(
            [with_a_strange_value(SVAMP, rng), damaged(json.dumps(SVAMP).encode(), rng), strange_lines(SVAMP, rng)]
        )
    entity = '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>'
    texts = [
        ASDIV.replace("7", "&b;"),
        entity + ASDIV.replace("pears", "&b;"),
        "<Problem>" * 5000,
        ASDIV.replace("9", "\0"),
    ]
    return rng.choice([*(text.encode() for text in texts), *[damaged(ASDIV.encode(), rng)] * 8])


def hostile_recipe(rng: Random) -> bytes:
    text = TINY.read_bytes()
    line = rng.choice(text.splitlines())
    bomb = b"a: &a [1]\n" + b"".join(b"%c: &%c [*%c, *%c]\n" % (c + 1, c + 1, c, c) for c in range(97, 121))
    key = line.partition(b":")[0]
    changed = text.replace(line, key + b": " + value(rng).encode("utf-8", "surrogatepass"))
    return rng.choice(
        [
            changed,
            changed,
            changed,
            damaged(text, rng),
            text + b"seed: " + b"1" * 4000,
            text + b"x: " + b"[" * 5000,
            bomb,
        ]
    )


def is_one_message(text: str) -> bool:
    return len(re.findall("^Error: ", text, re.M)) == 1


def checked(*words: object) -> bool:
    """Run a command; return whether it worked. Otherwise one short message in visible characters names the file."""
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert isinstance(done.exception, SystemExit | None), (done.exception, words)
    assert done.exit_code in (0, 1, 2) and not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", done.output), done.output
    assert len(done.stderr) < 4000, done.stderr
    if done.exit_code:
        assert is_one_message(done.stderr) and str(words[1]) in done.stderr, done.stderr
    return done.exit_code == 0


def read_hostile_files(folder: Path, monkeypatch: pytest.MonkeyPatch, seed: int, count: int) -> None:
    rng, worked = random.Random(seed), 0
    monkeypatch.setenv("QRFT_DATA", str(folder))
    good_problems, good_samples = folder / "good-p.jsonl", folder / "good-s.jsonl"
    good_problems.write_bytes(lines(PROBLEMS))
    good_samples.write_bytes(lines(SAMPLES))
    for number in range(count):
        kind = rng.choice(
            ["samples", "samples", "problems", "problems", "training", "import", "recipe", "svamp", "asdiv"]
        )
        rows = {"samples": SAMPLES, "training": PROBLEMS, "import": [{"query": "q", "response": "r"}]}.get(
            kind, PROBLEMS
        )
        if kind in ("svamp", "asdiv"):
            path = folder / kind / {"svamp": "SVAMP.json", "asdiv": "ASDiv.xml"}[kind]
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(hostile_set(kind, rng))
            worked += named(kind, path, good_samples)
            continue
        end, content = (".yaml", hostile_recipe(rng)) if kind == "recipe" else hostile_rows(rows, rng)
        path = folder / f"{kind}-{number}{end}"
        path.write_bytes(content)
        words: dict[str, tuple[object, ...]] = {
            "samples": ("evaluate", path, "--problems", good_problems),
            "training": ("train", folder / "no-base", "--data", path, "-o", folder / "out"),
            "import": ("import", path, "--problems", good_problems, "-o", folder / "imported"),
            "recipe": ("plan", path, "-o", folder / "runs"),
        }
        if kind == "problems":
            worked += named(kind, path, good_samples)
        else:
            worked += checked(*words[kind]) if kind != "training" else trained(words[kind], path)
    assert 0 < worked < count


def named(kind: str, path: Path, samples: Path) -> bool:
    name = f"{kind}/test" if kind in ("svamp", "asdiv") else str(path)
    done = CliRunner().invoke(main, ["evaluate", str(samples), "--problems", name])
    assert isinstance(done.exception, SystemExit | None), (done.exception, path.read_bytes()[:300])
    if done.exit_code:
        assert is_one_message(done.stderr) and len(done.stderr) < 4000, done.stderr
        # Problems that can be read may be others than the samples belong to: then that is said of the samples.
        assert str(path) in done.stderr or str(samples) in done.stderr, done.stderr
    return done.exit_code == 0


def trained(words: tuple[object, ...], path: Path) -> bool:
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert isinstance(done.exception, SystemExit) and is_one_message(done.stderr), (done.exception, done.output)
    return str(path) not in done.stderr  # the data was read, and then the base was not found


def test_fifty_hostile_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_hostile_files(tmp_path, monkeypatch, seed=1, count=50)


@pytest.mark.torture
def test_five_hundred_hostile_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_hostile_files(tmp_path, monkeypatch, seed=2, count=500)


OUTPUTS = ["/proc/x", "/proc/x/y", "/dev/null/x", "/sys/x.jsonl", "x" * 300, ""]
COMMANDS: dict[str, tuple[str, ...]] = {
    "run": ("run", str(TINY)),
    "pretrain": ("pretrain", "recipes/tiny-base.yaml"),
    "sample": (
        "sample",
        "m",
        "--sampler",
        "openai",
        "--server",
        "http://127.0.0.1:9",
        "-k",
        "1",
        "--problems",
        "p.jsonl",
    ),
    "train": ("train", "tiny-base", "--data", "t.jsonl"),
    "grade": ("grade", "s.jsonl", "--problems", "p.jsonl"),
    "curate": ("curate", "s.jsonl", "--problems", "p.jsonl"),
    "import": ("import", "i.jsonl", "--problems", "p.jsonl"),
}


@pytest.mark.parametrize("output", OUTPUTS, ids=lambda text: repr(text)[:20])
@pytest.mark.parametrize("command", COMMANDS)
def test_outputs_that_can_not_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, output: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("p.jsonl").write_bytes(lines(PROBLEMS))
    Path("s.jsonl").write_bytes(lines(SAMPLES))
    Path("t.jsonl").write_bytes(lines(PROBLEMS))
    Path("i.jsonl").write_bytes(lines([{"query": PROBLEMS[0]["question"], "response": "r"}]))
    Path("recipes").mkdir()
    Path("recipes/tiny-base.yaml").write_bytes((TINY.parent / "tiny-base.yaml").read_bytes())
    suffix = {"grade": ".parquet", "curate": ".jsonl"}.get(command, "") if output.startswith(("/", "x")) else ""
    done = CliRunner().invoke(main, [*COMMANDS[command], "-o", output + suffix])
    assert isinstance(done.exception, SystemExit) and done.exit_code in (1, 2), (done.exception, done.output)
    assert is_one_message(done.stderr) and not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("which", ["samples", "problems"])
@pytest.mark.parametrize("bomb", ["blank lines", "one line"])
def test_large_nothings_are_read_in_bounds(tmp_path: Path, which: str, bomb: str) -> None:
    good = tmp_path / "good.jsonl"
    path = tmp_path / ("bad.jsonl" if bomb == "blank lines" else "bad.jsonl.gz")
    good.write_bytes(lines(PROBLEMS if which == "samples" else SAMPLES))
    content = b"\n" * 30_000_000 if bomb == "blank lines" else gzip.compress(b'{"id": "' + b"a" * 300_000_000, 1)
    path.write_bytes(content)
    given = (path, "--problems", good) if which == "samples" else (good, "--problems", path)
    done = run_measured(["evaluate", *map(str, given)], environment())
    assert done.code == 1 and str(path) in done.errors and "Traceback" not in done.errors
    assert done.peak_bytes < 700 * 2**20
    assert done.cpu_seconds < 30
