"""qrft grade, curate and evaluate on files as people have them, through the command line."""

from __future__ import annotations

import collections
import json
import os
import random
import re
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.commands import command_line, facts_of, fails, fails_at_once, python, run_process, run_qrft, start_process
from helpers.jsonl import read_jsonl, write_jsonl
from helpers.paths import published
from helpers.processes import has_ended, members

from qrft import grading
from qrft.cli import main
from qrft.commands import spool
from qrft.data import schema
from qrft.data.problems.registry import load
from qrft.errors import DataError
from qrft.grading import latex, rules
from qrft.grading.rules import Selection

PROBLEMS = [
    {"question": "Two and three?", "answer": "2+3=<<2+3=5>>5\n#### 5"},
    {"question": "Six times seven?", "answer": "6*7=<<6*7=42>>42\n#### 42"},
    {"question": "Bare?", "answer": "10"},
    {"question": "Unsolved?", "answer": "1+0=<<1+0=1>>1\n#### 1"},
]
SAMPLES = [
    {"problem_id": 1, "completion": "7*6=<<7*6=42>>42\n#### 42"},
    {"problem_id": 0, "completion": "3+2=<<3+2=5>>5\n#### 5"},
    {"problem_id": 0, "completion": "2+3=<<2+3=5>>5 as the gold one\n#### 5.0"},
    {"problem_id": 0, "completion": "so <<3+2=5>>5\n#### 5"},
    {"problem_id": 0, "completion": "<<2+2=5>>\n#### 5"},
    {"problem_id": 1, "completion": "<<6*7=42>>\n#### 41"},
    {"problem_id": 1, "completion": "no idea"},
    {"problem_id": 1, "completion": "#### 41.00"},
    {"problem_id": 2, "completion": "<<5+5=10>>\n#### 10"},
    {"problem_id": 2, "completion": "#### $10"},
    {"problem_id": 2, "completion": "#### 3"},
    {"problem_id": 2, "completion": "#### 3"},
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with problems and samples, and nothing else."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QRFT_DATA", raising=False)
    write_jsonl("p.jsonl", PROBLEMS)
    write_jsonl("s.jsonl", SAMPLES)
    return tmp_path


def kept(path: str = "t.jsonl") -> list[tuple[str, str, int | None]]:
    return [(row["problem_id"], row["source"], row["sample_index"]) for row in read_jsonl(path)]


# ----------------------------------------------------------------------------------------------------------- grade ----

COUNTS = {
    "num_samples": 12,
    "num_answered": 11,
    "num_correct": 7,
    "num_equations_ok": 6,
    "num_cut_off": 0,
    "num_problems": 4,
    "num_malformed": 0,
    "answer_statuses": {"ok": 11, "no_marker": 1},
    "equation_statuses": {"ok": 11, "wrong": 1},
    "told_apart_by": {"equations": 5, "text": 1},
}


def test_grade() -> None:
    assert facts_of("grade", "s.jsonl", "--problems", "p.jsonl", "-o", "g.parquet") == COUNTS
    table = pq.read_table("g.parquet")
    expected = grading.grade([row["completion"] for row in SAMPLES], [gold(row["problem_id"]) for row in SAMPLES])
    assert table.select(schema.GRADED.names) == expected
    assert table["problem_id"].to_pylist() == [str(row["problem_id"]) for row in SAMPLES]
    assert table["sample_index"].to_pylist() == [0, 0, 1, 2, 3, 1, 2, 3, 0, 1, 2, 3]
    assert set(table["model"].to_pylist()) == {"s"}


def gold(problem: int) -> str:
    return str(PROBLEMS[problem]["answer"]).rpartition("#### ")[2]


def test_rules_reach_the_core() -> None:
    rules = [{}, {"mode": "paper"}, {"marker": "answer:"}, {"answer_format": "boxed"}, {"order": "commutative"}]
    for given in rules:
        words = [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", value)]
        facts_of("grade", "s.jsonl", "--problems", "p.jsonl", "-o", "g.parquet", *words)
        texts, answers = [row["completion"] for row in SAMPLES], [gold(row["problem_id"]) for row in SAMPLES]
        expected = grading.grade(texts, answers, rules=grading.Rules(**given))  # type: ignore[arg-type]
        assert pq.read_table("g.parquet").select(schema.GRADED.names) == expected


def test_a_marker_may_be_any_bytes() -> None:
    pq.write_table(pa.table({"id": [0], "output": pa.array(["ä5"])}), "a.parquet")
    facts = facts_of("grade", "a.parquet", "--problems", "p.jsonl", "-o", "g.parquet", "--marker", os.fsdecode(b"\xa4"))
    assert facts["num_correct"] == 1


def test_the_choices_are_those_of_the_rules() -> None:
    offered = {option.name: option.type for option in main.grade.get_params(click.Context(main.grade))}
    for name, kind in (
        ("mode", rules.Mode),
        ("answer_format", rules.AnswerFormat),
        ("equations", rules.EquationSource),
        ("order", rules.KeyOrder),
    ):
        choice = offered[name]
        assert isinstance(choice, click.Choice) and tuple(choice.choices) == get_args(kind)


# ---------------------------------------------------------------------------------------------------------- curate ----


def test_curate() -> None:
    facts = facts_of("curate", "s.jsonl", "--problems", "p.jsonl", "-o", "t.jsonl", "--keep", "first")
    rows = read_jsonl("t.jsonl")
    assert kept() == [
        ("0", "gold", None),
        ("0", "s", 0),
        ("1", "gold", None),
        ("1", "s", 0),
        ("2", "s", 0),  # a bare answer is no path: it is not written, and its lack of equations is not taken
        ("2", "s", 1),
        ("3", "gold", None),
    ]
    assert list(rows[0]) == schema.TRAINING.names
    assert (rows[0]["completion"], rows[1]["completion"]) == (PROBLEMS[0]["answer"], SAMPLES[1]["completion"])
    assert all(row["question"] == PROBLEMS[int(row["problem_id"])]["question"] for row in rows)
    distinct = {"distinct_per_problem": 1.0, "distinct_per_problem_with_gold": 7 / 4}
    assert facts == COUNTS | distinct | {"num_kept": 4, "num_right_cut_off": 0}


@pytest.mark.parametrize("form", ["jsonl", "parquet", "lists.jsonl", "lists.parquet"])
def test_a_sample_that_was_cut_off_is_no_training_row_unless_asked(form: str) -> None:
    """A right one is none, nor is a wrong one the rejected path of a pair; all of them are counted."""
    ended, cut, unknown = "1+1=2\n#### 2", "2-0=2\n#### 2", "3-1=2\n#### 2"
    texts = [(ended, "stop"), (cut, "length"), (unknown, None), ("#### 3", "length"), ("#### 4", "stop")]
    rows = [{"problem_id": "p", "completion": text, "finish_reason": end} for text, end in texts]
    if "lists" in form:
        listed = {name: [row[name] for row in rows] for name in ("completion", "finish_reason")}
        none = {"problem_id": "p", "completion": [unknown], "finish_reason": None}
        rows = [{"problem_id": "p", **listed}, none]
    if form.endswith("parquet"):
        pq.write_table(pa.Table.from_pylist(rows), f"c.{form}")
    else:
        write_jsonl(f"c.{form}", rows)
    write_jsonl("c.problems.jsonl", [{"problem_id": "p", "question": "?", "answer": "2"}])
    words = ("curate", f"c.{form}", "--problems", "c.problems.jsonl", "-o", "t.jsonl", "--pairs", "pairs.jsonl")
    words = (*words, "--equations", "anywhere")
    facts = facts_of(*words)
    assert [row["completion"] for row in read_jsonl("t.jsonl")] == [ended, unknown]
    assert {row["rejected"] for row in read_jsonl("pairs.jsonl")} == {"#### 4"}
    assert (facts["num_cut_off"], facts["num_right_cut_off"], facts["num_kept"]) == (2, 1, 2)
    facts = facts_of(*words, "--cut-off", "keep")
    assert [row["completion"] for row in read_jsonl("t.jsonl")] == [ended, cut, unknown]
    assert {row["rejected"] for row in read_jsonl("pairs.jsonl")} == {"#### 3", "#### 4"}
    assert (facts["num_cut_off"], facts["num_right_cut_off"], facts["num_kept"]) == (2, 0, 3)


def test_sound_paths() -> None:
    texts = ["2+3 = <<2+3=5>>5\n#### 5", "<<9-4=5>>5\n#### 5", "<<9-5=4>>\n#### 4"]
    write_jsonl("w.jsonl", [{"problem_id": "p", "completion": text} for text in texts])
    write_jsonl("w.problems.jsonl", [{"problem_id": "p", "question": "Two and 3?", "answer": "5"}])
    words = ("w.jsonl", "--problems", "w.problems.jsonl", "-o")
    facts = facts_of("grade", *words, "w.parquet", "--sound")
    assert facts["soundness"] == {"sound": 1, "unknown_number": 1}
    table = pq.read_table("w.parquet")
    assert table["soundness"].to_pylist() == ["sound", "unknown_number", "not_judged"]
    facts_of("grade", *words, "plain.parquet")
    assert pq.read_table("plain.parquet").equals(table.drop_columns("soundness"))
    kept = {}
    for choice in ("off", "flag", "require"):
        facts = facts_of("curate", *words, "t.jsonl", "--pairs", "pairs.jsonl", "--sound", choice)
        kept[choice] = [row["completion"] for row in read_jsonl("t.jsonl")]
        assert [row["chosen"] for row in read_jsonl("pairs.jsonl")] == kept[choice]
        assert ("soundness" in facts, facts.get("num_unsound")) == (choice != "off", 1 if choice == "require" else None)
    assert kept == {"off": texts[:2], "flag": texts[:2], "require": texts[:1]}
    message = fails(2, "grade", *words, "w.parquet", "--sound", "--mode", "paper")
    assert "--sound: found with --mode paper, which judges no path. Leave one of the two out." in message


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_as_many_endings_as_completions(form: str) -> None:
    rows = [
        {"problem_id": "0", "completion": ["#### 1", "#### 2"], "finish_reasons": ["stop", "length"]},
        {"problem_id": "0", "completion": ["#### 1", "#### 2"], "finish_reasons": ["stop"]},
    ]
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), "l.parquet")
    else:
        write_jsonl("l.jsonl", rows)
    message = fails(1, "grade", f"l.{form}", "--problems", "p.jsonl", "-o", "g.parquet", "--strict")
    assert f"l.{form}:2: found another number of finish reasons than of completions." in message


def test_samples_without_marked_equations_are_told_apart() -> None:
    write_jsonl(
        "q.jsonl", [{"question": "5 rows of 3 and 2 more?", "answer": "Five times 3 is 15, and 2: 17.\n#### 17"}]
    )
    texts = [
        "5*3 = 15 and 15+2 = 17.\n#### 17",
        "At first 5*3 = 15, then 15+2 = 17!\n#### 17",  # the same equations
        "Take 15, add 2.\n#### 17",
        "take 15,  **add** 2\n\n#### 17",  # the same words
        "Five times 3 is 15, and 2: 17.\n#### 17",  # the gold solution
        "Add 2 to 15.\n#### 17",
    ]
    write_jsonl("t.jsonl", [{"id": 0, "output": text} for text in texts])
    facts = facts_of("curate", "t.jsonl", "--problems", "q.jsonl", "-o", "o.jsonl", "--keep", "first")
    assert [row["sample_index"] for row in read_jsonl("o.jsonl")] == [None, 0, 2, 5]
    assert facts["told_apart_by"] == {"text": 4, "running_text": 2} and facts["num_kept"] == 3
    paper = facts_of("curate", "t.jsonl", "--problems", "q.jsonl", "-o", "o.jsonl", "--mode", "paper")
    assert paper["told_apart_by"] == {"equations": 6} and paper["num_kept"] == 1
    shown = run_qrft("grade", "t.jsonl", "--problems", "q.jsonl", "-o", "g.parquet").stdout
    assert re.search(r"told apart by +text 4, running_text 2", shown)


def test_the_gold_path_counts_as_the_paper_does() -> None:
    """Left out of the pool, the gold path may be found again: it is one path all the same."""
    facts = facts_of("curate", "s.jsonl", "--problems", "p.jsonl", "-o", "t.jsonl", "--keep", "first", "--no-gold")
    assert kept() == [("0", "s", 0), ("0", "s", 1), ("1", "s", 0), ("2", "s", 0), ("2", "s", 1)]
    assert facts["distinct_per_problem"] == 5 / 4
    assert facts["distinct_per_problem_with_gold"] == 7 / 4


def test_curate_writes_parquet_too() -> None:
    facts_of("curate", "s.jsonl", "--problems", "p.jsonl", "-o", "t.jsonl")
    facts_of("curate", "s.jsonl", "--problems", "p.jsonl", "-o", "t.parquet")
    assert pq.read_table("t.parquet").schema == schema.TRAINING
    assert pq.read_table("t.parquet").to_pylist() == read_jsonl("t.jsonl")


def many_samples(num: int = 3000) -> list[dict[str, Any]]:
    rng = random.Random(3)
    rows = []
    for _ in range(num):
        a, b = rng.randint(1, 4), rng.randint(1, 4)
        text = f"{'é ' * rng.randint(0, 3)}<<{a}+{b}={a + b}>>{'x' * rng.randint(0, 9)} #### {a + b}"
        rows.append({"id": f"p{rng.randint(0, 99)}", "response": text, "model": rng.choice("mn")})
    return rows


@dataclass
class Made:
    """Made problems and samples in files, and what the core says of the whole table at once."""

    texts: list[str]
    problems: list[int]
    golds: list[str]

    def expected(self, **options: Any) -> list[tuple[str, str]]:
        graded = grading.grade(self.texts, [gold.rpartition("#### ")[2] for gold in self.golds])
        rows = grading.curate(self.texts, self.problems, graded, gold_texts=self.golds, selection=Selection(**options))
        assert len(rows) > 50
        return [(f"p{problem}", self.texts[i]) for problem, i in sorted((self.problems[i], i) for i in rows.tolist())]

    def found(self, *words: str) -> list[tuple[str, str]]:
        facts_of("curate", "r.jsonl", "--problems", "q.jsonl", "-o", "t.jsonl", "--threads", "2", *words)
        return [(row["problem_id"], row["completion"]) for row in read_jsonl("t.jsonl") if row["source"] != "gold"]


@pytest.fixture
def made(folder: Path) -> Made:
    golds = [f"<<{i % 8}+0={i % 8}>> #### {i % 8}" for i in range(100)]
    rows = many_samples()
    write_jsonl("q.jsonl", [{"id": f"p{i}", "question": "?", "answer": gold} for i, gold in enumerate(golds)])
    write_jsonl("r.jsonl", rows)
    problems = [int(row["id"][1:]) for row in rows]
    return Made([row["response"] for row in rows], problems, [golds[problem] for problem in problems])


@pytest.mark.parametrize("budget", [1 << 30, 20_000, 0])
@pytest.mark.parametrize("block_bytes", [1 << 22, 1000])
def test_curate_decides_as_the_core_does_on_the_whole_table(
    made: Made, budget: int, block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However the rows are cut into blocks and parts, and whether they went through the disk."""
    monkeypatch.setattr(spool, "BUDGET_BYTES", budget)
    monkeypatch.setattr("qrft.data.files.BLOCK_BYTES", block_bytes)
    assert made.found() == made.expected()
    firsts = {row["problem_id"]: row["source"] for row in reversed(read_jsonl("t.jsonl"))}
    assert set(firsts.values()) == {"gold"}
    assert sorted(path.name for path in Path().iterdir()) == [f"{name}.jsonl" for name in "pqrst"]


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (["--keep", "first"], {"keep": "first"}),
        (["--keep", "shortest"], {"keep": "shortest"}),
        (["--keep", "longest", "--max-per-problem", "1"], {"keep": "longest", "max_per_problem": 1}),
        (["--no-dedup"], {"dedup": False}),
    ],
)
def test_options_of_selection_reach_the_core(made: Made, words: list[str], options: dict[str, Any]) -> None:
    assert made.found(*words) == made.expected(**options)


def test_samples_of_several_files_and_forms_are_pooled() -> None:
    table = pa.Table.from_pylist(SAMPLES[:6]).append_column("model", pa.array(["m"] * 6))
    pq.write_table(table, "a.parquet")
    write_jsonl("b.jsonl", SAMPLES[6:])
    facts = facts_of("curate", "a.parquet", "b.jsonl", "--problems", "p.jsonl", "-o", "t.jsonl", "--keep", "first")
    assert facts["num_samples"] == 12 and facts["num_kept"] == 4
    assert [source for _, source, _ in kept() if source != "gold"] == ["m", "m", "b", "b"]


def test_an_older_output_is_replaced() -> None:
    Path("t.jsonl").write_text("old")
    facts_of("curate", "s.jsonl", "--problems", "p.jsonl", "-o", "t.jsonl")
    assert len(read_jsonl("t.jsonl")) == 7


# -------------------------------------------------------------------------------------------------------- evaluate ----


def test_evaluate() -> None:
    facts = facts_of("evaluate", "s.jsonl", "--problems", "p.jsonl", "--maj", "1,4", "--pass", "1,2,4")
    assert {name: value for name, value in facts.items() if name in COUNTS} == COUNTS
    assert facts["num_unsampled"] == 1
    values = {name: metric["value"] for name, metric in facts.items() if isinstance(metric, dict) and "low" in metric}
    of_sampled = {name: values.pop(f"{name}_of_sampled") for name in list(values) if f"{name}_of_sampled" in values}
    assert of_sampled == pytest.approx({name: value * 4 / 3 for name, value in values.items()})
    # Problem 0: 5 5.0 5 5, all right. 1: 42, 41, nothing, 41.00: 41 wins. 2: 10, $10, 3, 3: a tie. 3: no samples.
    share = (1 + 1 / 4 + 2 / 4) / 4
    expected = {"maj1@1": share, "maj@1": share, "maj@4": (1 + 0 + 0.5) / 4, "pass@1": share, "pass@4": 3 / 4}
    expected |= {"found": (1 + 3 / 4 + 1) / 4, "flexible": share, "last_number": share}  # no answer in another form
    assert values == pytest.approx(expected | {"pass@2": (1 + 1 / 2 + 5 / 6) / 4})
    assert facts["pass@4"] | {"value": None} == dict(zip(("value", "low", "high"), (None, *wilson(3, 4)), strict=True))
    assert all(facts[name]["low"] <= value <= facts[name]["high"] for name, value in values.items())


def wilson(successes: int, trials: int) -> tuple[float, float]:
    from qrft.evaluation import stats

    return stats.wilson(successes, trials)


def test_evaluate_chooses_k_by_the_fewest_samples() -> None:
    write_jsonl("r.jsonl", [{"id": i % 4, "output": "#### 5"} for i in range(27)])  # six or seven each
    facts = facts_of("evaluate", "r.jsonl", "--problems", "p.jsonl")
    metrics = [name for name in facts if "@" in name]
    assert metrics == ["maj1@1", "maj@2", "maj@4", "maj@6", "pass@2", "pass@4", "pass@6"]


def test_greedy_samples_get_a_wilson_interval() -> None:
    write_jsonl("r.jsonl", [{"id": i, "output": "#### 5"} for i in range(4)])
    facts = facts_of("evaluate", "r.jsonl", "--problems", "p.jsonl")
    low, high = wilson(1, 4)
    assert [name for name in facts if "@" in name] == ["maj1@1"]
    assert facts["maj1@1"] == {"value": 0.25, "low": low, "high": high}


def test_more_votes_than_samples() -> None:
    message = fails_at_once(1, "evaluate", "s.jsonl", "--problems", "p.jsonl", "--maj", "5")
    assert message.startswith("K = 5: problem_id '0' has 4 samples (3 problems have too few). Ask for a K up to 4,")
    assert "'0,5' is not a list of whole numbers above 0 with commas, such as 1,4,16." in fails_at_once(
        2, "evaluate", "s.jsonl", "--problems", "p.jsonl", "--pass", "0,5"
    )


# ----------------------------------------------------------------------------------------------------- expressions ----

needs_math_verify = pytest.mark.skipif(not latex.is_available(), reason="pip install 'qrft[latex]'")
ENDLESS = r"\boxed{9^{9^{9^9}}}"
HALF_ROOT = r"\frac{\sqrt{2}}{2}"
EXPRESSIONS = [
    (0, r"<<1+1=2>> \boxed{\frac{1}{\sqrt2}}", "latex_equal"),
    (0, rf"\boxed{{{HALF_ROOT}}}", "latex_equal"),
    (0, r"\boxed{\sqrt{2}}", "latex_different"),
    (0, r"\boxed{ \sqrt{2} }", "latex_different"),
    (0, r"\boxed{3}", "latex_different"),
    (1, r"\boxed{2\cdot 21}", "latex_equal"),
    (1, r"\boxed{42}", "ok"),
    (1, r"\boxed{x+}", "latex_error"),
    (1, "nothing", "no_marker"),
]
BOXED = ["--problems", "e.jsonl", "--answer-format", "boxed"]


@pytest.fixture
def expressions(folder: Path) -> None:
    write_jsonl("e.jsonl", [{"question": "sin 45?", "answer": HALF_ROOT}, {"question": "6 * 7?", "answer": "42"}])
    write_jsonl("x.jsonl", [{"id": problem, "output": text} for problem, text, _ in EXPRESSIONS])


@needs_math_verify
@pytest.mark.parametrize("block_bytes", [1 << 22, 60])
def test_expressions_are_judged(expressions: None, block_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qrft.data.files.BLOCK_BYTES", block_bytes)
    facts = facts_of("grade", "x.jsonl", *BOXED, "-o", "g.parquet")
    table = pq.read_table("g.parquet")
    expected = [status for *_, status in EXPRESSIONS]
    assert table["status"].to_pylist() == expected
    assert facts["answer_statuses"] == dict(collections.Counter(expected))
    right = [status == "latex_equal" or text == r"\boxed{42}" for _, text, status in EXPRESSIONS]
    assert table["is_correct"].to_pylist() == right
    assert (facts["num_answered"], facts["num_correct"]) == (7, 4)

    facts = facts_of("curate", "x.jsonl", *BOXED, "-o", "t.jsonl", "--no-dedup")
    assert [row["completion"] for row in read_jsonl("t.jsonl")] == [EXPRESSIONS[i][1] for i in (0, 1, 5, 6)]
    assert facts["num_kept"] == facts["num_equations_ok"] == 4

    # Votes of problem 0: two right, two the same wrong one, 3. Of 1: two right; what can't be compared does not vote.
    facts = facts_of("evaluate", "x.jsonl", *BOXED, "--maj", "4", "--pass", "1")
    assert facts["pass@1"]["value"] == pytest.approx((2 / 5 + 2 / 4) / 2)
    assert facts["maj@4"]["value"] == pytest.approx(((2 / 5 * 0 + 2 / 5 * 1 + 1 / 5 * 0.5) + 1) / 2, abs=0.02)


def test_without_math_verify_expressions_are_counted_and_one_line_says_how_to_judge_them(expressions: None) -> None:
    code = "import sys; sys.modules['math_verify'] = None; from qrft.cli.main import main; main(sys.argv[1:])"
    words = ["grade", "x.jsonl", *BOXED, "-o", "g.parquet", "--json"]
    done = run_process(python(code, *words))
    facts = json.loads(done.stdout)
    assert facts["answer_statuses"]["expression"] == 6 and (facts["num_answered"], facts["num_correct"]) == (2, 1)
    assert done.stderr.splitlines() == [
        "1 of 2 gold answers are not numbers, so no answer equals them (problem_id '0': '\\\\frac{\\\\sqrt{2}}{2}').",
        "6 answers are expressions, which were not judged. "
        "Comparing expressions needs Math-Verify: run `pip install 'qrft[latex]'`.",
    ]


def test_paper_mode_knows_no_expressions(expressions: None) -> None:
    words = ["grade", "x.jsonl", "--problems", "e.jsonl", "--mode", "paper", "-o", "g.parquet", "--json"]
    done = run_qrft(*words)
    assert json.loads(done.stdout)["answer_statuses"] == {"no_marker": 9}
    assert "Math-Verify" not in done.stderr


@needs_math_verify
@pytest.mark.parametrize("words", [["grade", "-o", "g.parquet"], ["curate", "-o", "t.jsonl"], ["evaluate"]])
def test_ctrl_c_ends_it_at_once_with_all_its_processes(expressions: None, words: list[str]) -> None:
    write_jsonl("x.jsonl", [{"id": 0, "output": ENDLESS.replace("9", str(i))} for i in range(9, 99)])
    before = sorted(Path().iterdir())
    command = command_line(words[0], "x.jsonl", *BOXED, *words[1:], "--threads", "2")
    with start_process(command, stderr=subprocess.PIPE) as process:
        while len(members(process.pid)) < 3:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate()  # left alone, it would go on for minutes
    assert (process.returncode, told) == (130, "\nStopped. Nothing was written.\n")
    assert all(has_ended(member, 5) for member in members(process.pid)) and sorted(Path().iterdir()) == before


# ----------------------------------------------------------------------------------------------------- for people ----


def test_without_json_a_table() -> None:
    words = ["evaluate", "s.jsonl", "--problems", "p.jsonl"]
    shown = run_qrft(*words).stdout
    rows = {tuple(line.split()[:3]) for line in shown.splitlines()}
    assert ("samples", "12") in rows and ("maj1@1", "43.8%", "95%") in rows
    assert "answer statuses" in shown and "ok 11, no_marker 1" in shown


def test_malformed_rows_are_named_counted_and_skipped() -> None:
    with Path("s.jsonl").open("a") as file:
        file.write("{\n" * 9)
    done = run_qrft("grade", "s.jsonl", "--problems", "p.jsonl", "-o", "g.parquet", "--json")
    assert json.loads(done.stdout)["num_malformed"] == 9 and json.loads(done.stdout)["num_samples"] == 12
    skipped = done.stderr.splitlines()
    assert skipped[0].startswith("Skipped: s.jsonl:13: not JSON in UTF-8 (") and len(skipped) == 6
    assert skipped[-1] == "Skipped: 4 more rows."
    message = fails_at_once(1, "grade", "s.jsonl", "--problems", "p.jsonl", "-o", "h.parquet", "--strict")
    assert message.startswith("s.jsonl:13: not JSON in UTF-8 (") and message.endswith("out to skip such rows.")


def test_gold_answers_that_are_no_numbers_are_told() -> None:
    write_jsonl("q.jsonl", [*PROBLEMS, {"question": "Who?", "answer": "Mrs. Hilt"}])
    done = run_qrft("evaluate", "s.jsonl", "--problems", "q.jsonl", "--json")
    assert "1 of 5 gold answers are not numbers, so no answer equals them (problem_id '4': 'Mrs. Hilt')." in done.stderr


# ------------------------------------------------------------------------------------------------------- bad input ----


@pytest.mark.parametrize(
    ("code", "words", "message"),
    [
        (1, "none.jsonl --problems p.jsonl -o t.jsonl", "none.jsonl: can't be read (No such file or directory). "),
        (
            1,
            "s.jsonl --problems pp.jsonl -o t.jsonl",
            "known set. Did you mean p.jsonl? Name a file (JSONL, JSON, ",
        ),
        (
            1,
            "s.jsonl --problems gsm8k/tset -o t.jsonl",
            "known set. Did you mean gsm8k/test? Name a file (JSONL, JSON, ",
        ),
        (
            1,
            "s.jsonl --problems . -o t.jsonl",
            ".: is a folder. Name a file (JSONL, JSON, CSV, Parquet), or one of gsm8k/train, ",
        ),
        (
            1,
            "s.jsonl --problems svamp/test -o t.jsonl",
            "svamp/test: not on this machine (QRFT_DATA is not set). Set QRFT_DATA ",
        ),
        (1, "p.jsonl --problems p.jsonl -o t.jsonl", "p.jsonl:1: no column for the problem; found question, answer. "),
        (2, "s.jsonl --problems p.jsonl -o t.json", "t.json: the name gives no format. Expected one that ends in "),
        (2, "s.jsonl --problems p.jsonl -o no/t.jsonl", "no/t.jsonl: there is no folder no. Make it, or name another "),
        (2, "s.jsonl --problems p.jsonl -o ./s.jsonl", "s.jsonl: is also an input, and would be overwritten. Name "),
        (2, "s.jsonl --problems p.jsonl -o p.jsonl", "p.jsonl: is also an input, and would be overwritten. Name "),
        (
            2,
            "s.jsonl --problems p.jsonl -o t.jsonl --mode paper --order commutative",
            "--order: found 'commutative' with mode paper, ",
        ),
        (
            2,
            "s.jsonl --problems p.jsonl -o t.jsonl --marker=",
            "--marker: found the text ''. Allowed: text, not empty.",
        ),
        (2, "--problems p.jsonl -o t.jsonl", "Missing argument 'SAMPLES...'."),
    ],
)
def test_bad_input(code: int, words: str, message: str) -> None:
    assert message in fails_at_once(code, "curate", *words.split())


def test_a_sample_that_is_there_twice() -> None:
    write_jsonl("s.jsonl", [{"id": 1, "sample_index": 0, "output": ""}] * 2)
    for command in ("grade", "curate"):
        message = fails_at_once(1, command, "s.jsonl", "--problems", "p.jsonl", "-o", "t.parquet")
        assert message.startswith("s.jsonl:2: problem_id '1', sample_index 0, model 's' is already at s.jsonl:1")


@pytest.mark.parametrize("budget", [0, 1 << 30])
def test_a_full_disk_leaves_nothing(budget: int) -> None:
    """A limit on the size of files stands in for a full disk; the output before it stays as it was."""
    write_jsonl("r.jsonl", [{"id": 0, "output": f"<<{i}+5={i + 5}>> {'x' * 900} #### 5"} for i in range(1000)])
    Path("t.jsonl").write_text("old")
    before = sorted(Path().rglob("*"))
    code = f"""
import resource, sys
from qrft.cli.main import main
from qrft.commands import spool
spool.BUDGET_BYTES = {budget}
resource.setrlimit(resource.RLIMIT_FSIZE, (99_000, 99_000))
main(["curate", "r.jsonl", "--problems", "p.jsonl", "-o", "t.jsonl"])
"""
    done = run_process(python(code), 1)
    assert done.stdout == ""
    assert "a file grew over the limit" in done.stderr and "Traceback" not in done.stderr
    assert sorted(Path().rglob("*")) == before and Path("t.jsonl").read_text() == "old"


def test_starting_is_light() -> None:
    code = "import sys, qrft.cli.main; print({'numpy', 'pyarrow', 'rich', 'pydantic'} & set(sys.modules))"
    done = run_process(python(code))
    assert done.stdout.strip() == "set()"


# -------------------------------------------------------------------------------------------------------- problems ----


@pytest.mark.parametrize(
    ("name", "num", "first", "readable"),
    [
        ("gsm8k/train", 7473, ("0", "72"), 7473),
        ("gsm8k/test", 1319, ("0", "18"), 1319),
        ("svamp/test", 1000, ("chal-1", "51"), 1000),
        ("asdiv/test", 2305, ("nluds-0001", "9"), 2094),
    ],
)
def test_published_sets(
    name: str, num: int, first: tuple[str, str], readable: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QRFT_DATA", str(published(name.partition("/")[0]).parent))
    table = load(name)
    assert table.num_rows == num and (table["problem_id"][0].as_py(), table["answer"][0].as_py()) == first
    statuses = collections.Counter(grading.parse_numbers(table["answer"]).statuses.to_pylist())
    assert statuses["ok"] == readable
    assert not np.isin(table["question"].to_pylist(), [""]).any()


def test_the_gold_solutions_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    test = published("gsm8k/test.jsonl")
    monkeypatch.setenv("QRFT_DATA", str(test.parents[1]))
    rows = read_jsonl(test)
    write_jsonl("gold.jsonl", [{"id": i, "output": row["answer"]} for i, row in enumerate(rows)])
    facts = facts_of("evaluate", "gold.jsonl", "--problems", "gsm8k/test")
    assert facts["num_correct"] == 1319 and facts["maj1@1"]["value"] == 1.0


def test_a_set_brings_its_answer_format(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QRFT_DATA", str(folder))
    (folder / "math-500").mkdir()
    write_jsonl(
        "math-500/test.jsonl", [{"problem": "3+4?", "solution": r"So \boxed{7}.", "answer": "7", "unique_id": "a"}]
    )
    write_jsonl("m.jsonl", [{"id": "a", "output": r"It is \boxed{7}"}, {"id": "a", "output": "#### 7"}])
    named = ["m.jsonl", "--problems", "math-500/test"]
    assert facts_of("evaluate", *named)["answer_statuses"] == {"ok": 1, "no_marker": 1}
    assert facts_of("evaluate", *named, "--answer-format", "gsm8k")["num_correct"] == 1
    assert facts_of("curate", *named, "-o", "t.jsonl")["num_kept"] == 1  # the words of its one right sample are others
    a_file = ["m.jsonl", "--problems", "math-500/test.jsonl"]
    facts_of("grade", *a_file, "-o", "g.parquet")
    assert pq.read_table("g.parquet")["is_correct"].to_pylist() == [False, True]


def test_problems_of_a_run_are_read_with_their_solutions() -> None:
    own = pa.table([["a"], ["?"], ["<<1+1=2>> #### 2"], ["2"]], schema=schema.PROBLEMS)
    pq.write_table(own, "problems.parquet")
    assert load("problems.parquet") == own
    pq.write_table(pa.table({"question": ["?"], "answer": ["#### "]}), "problems.parquet")
    with pytest.raises(DataError, match=r"problems.parquet:1: found nothing after ####"):
        load("problems.parquet")


def test_compressed_problems() -> None:
    data = Path("p.jsonl").read_bytes()
    Path("p.jsonl.zst").write_bytes(pa.compress(data, "zstd", asbytes=True))
    assert load("p.jsonl.zst") == load("p.jsonl")


def test_a_set_that_the_hub_does_not_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QRFT_DATA", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(Path.cwd() / "cache"))
    done = run_process(python("from qrft.data.problems.registry import load; load('gsm8k/test')"), 1)
    where = "not on this machine (QRFT_DATA is not set), and main/test-00000-of-00001.parquet"
    assert f"DataError: gsm8k/test: {where} of openai/gsm8k could not be downloaded" in done.stderr
    assert "Set QRFT_DATA to a folder that holds gsm8k/test.jsonl, or give the file" in done.stderr
