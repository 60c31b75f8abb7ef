"""`qrft import`: files in the forms of the paper's repository become a training set or samples."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from helpers import commands
from helpers.commands import facts_of
from helpers.jsonl import read_jsonl, write_jsonl
from helpers.paths import published

from qrft.data.problems.registry import draw
from qrft.data.schema import SAMPLES, TRAINING
from qrft.models.prompts import TEMPLATES

PROBLEMS = draw("tiny-math/train", 0, 20).to_pylist()
WRONG = "I say\n#### 999999"


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    path = tmp_path / "problems.jsonl"
    rows = ({"id": f"p{i}", "question": p["question"], "answer": p["solution"]} for i, p in enumerate(PROBLEMS))
    return write_jsonl(path, rows)


def facts(*words: object) -> Any:
    return facts_of("import", *words)


def fails(code: int, *words: object) -> str:
    return commands.fails(code, "import", *words)


def training_file(path: Path, extra: int = 1) -> Path:
    """Each question's gold solution, then sampled ones: the form of data/rft."""
    with path.open("w") as file:
        for p in PROBLEMS:
            for response in [p["solution"], *(f"{path.stem} path {i}.\n{p['solution']}" for i in range(extra))]:
                file.write(json.dumps({"query": p["question"], "response": response}) + "\n")
    return path


def raw_generation(
    folder: Path, seed: int, shard: slice = slice(None), name: str = "raw_generation_0.7_{}.json"
) -> Path:
    """A line a problem, the last three again: what the repository's samplers write."""
    folder.mkdir(exist_ok=True)
    path, r = folder / name.format(seed), random.Random(seed)
    rows = [*PROBLEMS[shard], *PROBLEMS[shard][-3:]]
    with path.open("w") as file:
        for number, p in enumerate(rows):
            prompt = TEMPLATES["alpaca"].format(question=p["question"].replace(".", " ."))  # as some decoders space it
            prompt = prompt[60:] if number % 2 else prompt  # cut off on its left
            completion = WRONG if r.random() < 0.5 else f"seed {seed}: {p['solution']}"
            file.write(json.dumps([[prompt, completion]]) + "\n")
    return path


def test_a_training_set(problems: Path, tmp_path: Path) -> None:
    found = facts(training_file(tmp_path / "llama_7b.jsonl", 2), "--problems", problems, "-o", tmp_path / "out")
    assert (found["num_rows"], found["num_gold"]) == (60, 20)
    assert found["rows_by_source"] == {"llama_7b": 40, "gold": 20}
    table = pq.read_table(tmp_path / "out" / "training.parquet")
    assert table.schema.equals(TRAINING)
    rows = table.to_pylist()
    assert [row["problem_id"] for row in rows] == [f"p{i}" for i in range(20) for _ in range(3)]
    assert [(row["source"], row["sample_index"]) for row in rows[:3]] == [
        ("gold", None),
        ("llama_7b", 0),
        ("llama_7b", 1),
    ]
    assert rows[0]["completion"] == PROBLEMS[0]["solution"]
    lines = (tmp_path / "out" / "training.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == rows
    card = json.loads((tmp_path / "out" / "import.json").read_text())
    assert card["files"][0]["name"] == "llama_7b.jsonl" and len(card["files"][0]["blake2b"]) == 20


def test_pooled_training_sets_hold_each_gold_solution_once(problems: Path, tmp_path: Path) -> None:
    files = [training_file(tmp_path / f"llama_{name}.jsonl") for name in ("7b", "13b")]
    with files[1].open("a") as file:  # a path that is the gold solution word for word stays a path
        file.write(json.dumps({"query": PROBLEMS[0]["question"], "response": PROBLEMS[0]["solution"]}) + "\n")
    found = facts(*files, "--problems", problems, "-o", tmp_path / "out")
    assert found["rows_by_source"] == {"llama_13b": 21, "gold": 20, "llama_7b": 20}
    assert found["num_gold_twice"] == 20


def test_samples_go_on_to_curate(problems: Path, tmp_path: Path) -> None:
    files = [raw_generation(tmp_path / "sft_llama7b", seed) for seed in (10, 2, 0)]
    found = facts(*files, "--problems", problems, "-o", tmp_path / "out")
    assert found["num_rows"] == 60 and found["num_repeated"] == 9 and found["rows_by_source"] == {"sft_llama7b": 60}
    table = pq.read_table(tmp_path / "out" / "samples.parquet")
    assert table.schema.equals(SAMPLES)
    rows = table.to_pylist()
    assert [(row["problem_id"], row["sample_index"]) for row in rows[:4]] == [
        ("p0", 0),
        ("p0", 2),
        ("p0", 10),
        ("p1", 0),
    ]
    assert all(row["completion"] == WRONG or f"seed {row['sample_index']}:" in row["completion"] for row in rows)

    words = ["curate", str(tmp_path / "out"), "--problems", str(problems), "-o", str(tmp_path / "t.jsonl")]
    curated = facts_of(*words)
    assert curated["num_samples"] == 60
    assert curated["num_correct"] == sum(row["completion"] != WRONG for row in rows) > 0


def test_shards_of_a_seed_are_one(problems: Path, tmp_path: Path) -> None:
    name = "raw_generation_0.7sampled_on_train_seed_{}_shard_"
    halves = (slice(0, 10), slice(10, 20))
    files = [raw_generation(tmp_path / "m", 4, half, f"{name}{i}.json") for i, half in enumerate(halves)]
    found = facts(*files, "--problems", problems, "-o", tmp_path / "out", "--model", "llama-33b")
    assert found["rows_by_source"] == {"llama-33b": 20} and found["num_problems_with_rows"] == 20
    assert set(pq.read_table(tmp_path / "out" / "samples.parquet")["sample_index"].to_pylist()) == {4}


def test_what_can_not_be(problems: Path, tmp_path: Path) -> None:
    out, of = tmp_path / "out", ("--problems", problems, "-o", tmp_path / "out")
    training, raw = training_file(tmp_path / "t.jsonl"), raw_generation(tmp_path / "m", 1)
    message = fails(2, training, raw, *of)
    assert message.startswith("found training sets and samples together: t.jsonl (training), raw_generation_0.7_1.json")
    (tmp_path / "x.jsonl").write_text('{"question": "a", "answer": "b"}\n')
    assert "x.jsonl:1: found the keys question, answer. Expected" in fails(1, tmp_path / "x.jsonl", *of)
    (tmp_path / "x.jsonl").write_text("\n{\n")
    assert "x.jsonl:2: not JSON in UTF-8" in fails(1, tmp_path / "x.jsonl", *of)
    (tmp_path / "x.jsonl").write_text("")
    assert "x.jsonl: found nothing. Expected" in fails(1, tmp_path / "x.jsonl", *of)
    with training.open("a") as file:
        file.write('{"query": "Who?", "response": "Me"}\n')
    assert "t.jsonl:41: the question 'Who?' is not in" in fails(1, training, *of)
    with raw.open("a") as file:
        file.write('[["Who?"]]\n')
    assert "raw_generation_0.7_1.json:24: found [['Who?']]. Expected [[prompt" in fails(1, raw, *of)
    first, second = (
        raw_generation(tmp_path / "m", 1),
        raw_generation(tmp_path / "m", 1, name="raw_generation_1.0_{}.json"),
    )
    assert "is in" in (message := fails(1, first, second, *of)) and "apart with --model" in message
    assert not out.exists() and not list(tmp_path.glob(".*"))
    out.mkdir()
    assert "already exists. Name a new folder with -o." in fails(2, first, *of)


def test_every_question_of_gsm8k_is_found_by_itself_and_by_its_end(tmp_path: Path) -> None:
    source = published("gsm8k/train.jsonl")
    rows = read_jsonl(source)
    with (tmp_path / "raw_generation_0.7_0.json").open("w") as file:
        for row in rows:
            prompt = TEMPLATES["alpaca"].format(question=row["question"])
            file.write(json.dumps([[prompt[-600:], row["answer"]]]) + "\n")
    found = facts(file.name, "--problems", source, "-o", tmp_path / "out")
    assert found["num_rows"] == found["num_problems_with_rows"] == 7473 and "num_repeated" not in found
    ids = pq.read_table(tmp_path / "out" / "samples.parquet")["problem_id"].to_pylist()
    assert ids == [str(i) for i in range(7473)]
