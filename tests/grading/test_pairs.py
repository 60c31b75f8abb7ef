"""Preference pairs: which right and wrong paths meet, in which columns, by the command and in a recipe."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from helpers.paths import RECIPES

from qrft import grading
from qrft.cli.main import main
from qrft.config.load import load
from qrft.data.schema import PROBLEMS
from qrft.grading.pairing import Pairing
from qrft.grading.pairs import preference_pairs
from qrft.models.find import BUILTIN
from qrft.pipeline.flow import plan

QUESTIONS = ["How many are 2 and 3?", "How many are 4 and 5?"]
PROMPTS = [f"{question}\n" for question in QUESTIONS]


def pairs_of(samples: list[tuple[int, str]], pairing: Pairing | None = None) -> list[dict[str, object]]:
    """The pairs of samples, each with its problem's number; the answers are 5 and 9."""
    rows = [
        {"problem_id": str(number), "question": question, "solution": "", "answer": answer}
        for number, (question, answer) in enumerate(zip(QUESTIONS, ["5", "9"], strict=True))
    ]
    problems = pa.Table.from_pylist(rows, schema=PROBLEMS)
    problem = np.array([number for number, _ in samples])
    texts = pa.chunked_array([pa.array([text for _, text in samples], pa.large_string())])
    graded = grading.grade(texts, problems["answer"].take(pa.array(problem)))
    table = preference_pairs(problems, problem, pa.table({"completion": texts}), graded, pairing or Pairing())
    return list(table.to_pylist())


def row(number: int, chosen: str, rejected: str) -> dict[str, object]:
    return {"prompt": PROMPTS[number], "chosen": chosen, "rejected": rejected}


def test_right_and_wrong_paths_meet_side_by_side_and_the_shorter_list_starts_over() -> None:
    one, two = "<<2+3=5>>\n#### 5", "<<3+2=5>>\n#### 5"
    samples = [(0, "#### 6"), (0, one), (1, "#### 9"), (0, "#### 7"), (0, two), (0, "#### 8"), (1, "nine")]
    assert pairs_of(samples) == [row(0, one, "#### 6"), row(0, two, "#### 7"), row(0, one, "#### 8")]


def test_a_pair_has_distinct_paths_right_equations_and_an_answer_that_differs() -> None:
    right = "<<2+3=5>>\n#### 5"
    samples = [
        (0, right),
        (0, "<<2 + 3 = 5>> the same path.\n#### 5"),
        (0, "<<2+2=5>>\n#### 5"),  # right by a wrong equation: neither chosen nor rejected
        (0, "I do not know."),
        (0, "#### 6"),
        (0, "#### 6"),
    ]
    assert len(pairs_of(samples)) == 1
    assert pairs_of(samples)[0]["rejected"] == "#### 6"


def test_there_are_at_most_so_many_per_problem() -> None:
    samples = [(0, f"<<{i}+{5 - i}=5>>\n#### 5") for i in range(5)] + [(0, f"#### {i}") for i in range(10, 20)]
    assert len(pairs_of(samples)) == 4
    assert len(pairs_of(samples, Pairing(pairs_per_problem=100))) == 10


def test_a_chat_prompt_gives_turns() -> None:
    pairs = pairs_of([(1, "#### 9"), (1, "#### 8")], Pairing(prompt="chat"))
    user, right, wrong = (
        [{"role": role, "content": text}]
        for role, text in (("user", QUESTIONS[1]), ("assistant", "#### 9"), ("assistant", "#### 8"))
    )
    assert pairs == [{"prompt": user, "chosen": right, "rejected": wrong}]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    problem = {"question": QUESTIONS[0], "answer": "<<2+3=5>>\n#### 5"}
    Path("p.jsonl").write_text(json.dumps(problem) + "\n")
    samples = [{"problem_id": "0", "completion": text} for text in ("<<2+3=5>>\n#### 5", "#### 6")]
    Path("s.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in samples))


CURATE = ["curate", "s.jsonl", "--problems", "p.jsonl", "-o", "t.jsonl"]


@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.parquet"])
def test_the_command_writes_them_beside_the_training_set(files: None, name: str) -> None:
    """A right path with the gold one's equations is no new training row, and still the better half of a pair."""
    done = CliRunner().invoke(main, [*CURATE, "--pairs", name, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["num_pairs"] == 1 and json.loads(done.stdout)["num_kept"] == 0
    lines = Path(name).read_text().splitlines() if name.endswith("jsonl") else []
    rows = [json.loads(line) for line in lines] or pq.read_table(name).to_pylist()
    assert rows == [row(0, "<<2+3=5>>\n#### 5", "#### 6")]
    assert Path("t.jsonl").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--pairs", "t.jsonl"], "--pairs t.jsonl: is the training set's file. Name another one."),
        (["--pairs", "x.csv"], "x.csv: the name gives no format. Expected one that ends in .jsonl or .parquet."),
        (["--prompt", "alpaca"], "--prompt: has no effect without --pairs. Leave it out, or add --pairs."),
    ],
)
def test_what_can_not_be_is_one_clear_error_and_writes_nothing(files: None, words: list[str], message: str) -> None:
    done = CliRunner().invoke(main, [*CURATE, *words])
    assert done.exit_code == 2
    assert done.stderr == f"Error: {message}\n"
    assert not Path("t.jsonl").exists()


def test_a_recipe_has_the_stage_once_per_round_where_it_asks_for_pairs() -> None:
    steps = plan(load(RECIPES / "tiny.yaml", ["curate.pairs=3", "rounds=2"]), BUILTIN["tiny-base"])
    pairs = [step for step in steps if step.stage == "pairs"]
    assert [step.path for step in pairs] == ["round-1/pairs", "round-2/pairs"]
    assert sorted(pairs[0].inputs) == ["graded", "problems", "samples"]
    without = plan(load(RECIPES / "tiny.yaml", ["rounds=2"]), BUILTIN["tiny-base"])
    assert {step.path for step in steps} - {step.path for step in without} == {"round-1/pairs", "round-2/pairs"}
