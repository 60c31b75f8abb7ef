"""`qrft ask`: the models of a run answer side by side, and what they write is judged."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers.commands import facts_of, fails, run_qrft
from helpers.finished import make_run
from rich.console import Console

from qrft.cli.answers import show_answers, told
from qrft.cli.main import main
from qrft.commands.ask import judged, judging, vote
from qrft.grading.rules import Rules
from qrft.sampling.api import Completion

QUESTION = "Sam sold half of 36 coins and then made 30 more. How many coins does Sam have at the end?"
RULES = judging(Rules(answer_format="gsm8k"))
RIGHT = "Sold: 36/2=<<36/2=18>>18.\nLeft: 18+30=<<18+30=48>>48.\n#### 48"
WRONG = "Sold: 36/2=<<36/2=17>>17.\nLeft: 17+30=47.\n#### 47"
UNSOUND = "Sold: 36/2=<<36/2=18>>18.\nAll: 36+30=<<36+30=66>>66.\n#### 66"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("COLUMNS", "80")
        yield make_run(tmp_path_factory.mktemp("runs"), "tiny-base", "evaluate.max_new_tokens=40")


def completions(*texts: str, reason: str = "stop") -> list[Completion]:
    return [Completion("0", i, [1], reason, 0.0, text) for i, text in enumerate(texts)]  # type: ignore[arg-type]


def test_models_answer_side_by_side_and_greedily(run: Path) -> None:
    facts = facts_of("ask", run, QUESTION, "--compare", "base,rft", "--threads", 1)
    base, rft = facts["models"]
    assert (base["model"], rft["model"], base["vote"]) == ("base", "rft", None)
    assert {"text": "36/2=18", "status": "right"} in base["answers"][0]["equations"], "those of running text"
    assert rft["answers"][0]["finish_reason"] in ("stop", "length") and "pieces" not in rft["answers"][0]
    assert facts_of("ask", run, QUESTION, "--model", "base", "--threads", 1)["models"] == [base]


def test_several_answers_vote(run: Path) -> None:
    words = ("ask", run, QUESTION, "--compare", "sft", "-n", 3, "--seed", 1, "--threads", 1)
    (model,) = facts_of(*words)["models"]
    assert len(model["answers"]) == model["vote"]["num_samples"] == 3
    assert sum(row["count"] for row in model["vote"]["answers"]) == model["vote"]["num_voting"] <= 3
    assert "of 3: " in run_qrft(*words).output


def test_equations_are_right_or_wrong_and_paths_sound_or_not() -> None:
    right, wrong, unsound = judged(QUESTION, completions(RIGHT, WRONG, UNSOUND), RULES)
    assert [one["status"] for one in right["equations"]] == ["right", "right"] and right["path"] == "sound"
    assert [one["status"] for one in wrong["equations"]] == ["wrong", "right"] and wrong["path"] is None
    assert (unsound["path"], unsound["answer"]) == ("unused_result", "66")
    assert told(right) == "answer 48; 2 equations, none wrong; sound"
    assert told(unsound) == "answer 66; 2 equations, none wrong; unsound: a result is never used"
    (cut,) = judged(QUESTION, completions("Sold: 36", reason="length"), RULES)
    assert told(cut) == "no answer in the asked form; cut off at the token limit"


def test_votes_go_to_values() -> None:
    given = completions("#### 48", "#### 48.0", "#### 1,000", "none")
    found = vote(given, list(judged(QUESTION, given, RULES)), RULES)
    assert found["answers"] == [{"answer": "48", "count": 2}, {"answer": "1,000", "count": 1}]
    assert (found["num_samples"], found["num_voting"]) == (4, 3)


@pytest.mark.parametrize(("width", "encoding"), [(80, "utf-8"), (60, "utf-8"), (80, "ascii")])
def test_marks_are_characters_and_lines_fit(width: int, encoding: str) -> None:
    given = completions(RIGHT, WRONG)
    answers = list(judged(QUESTION, given, RULES))
    models = [{"model": name, "answers": [answer], "vote": None} for name, answer in zip("ab", answers, strict=True)]
    stream = TextIOWrapper(BytesIO(), encoding=encoding)
    show_answers(Console(file=stream, width=width), {"question": QUESTION, "models": models})
    stream.seek(0)
    said = stream.read()
    assert max(map(len, said.splitlines())) <= width
    right, wrong = ("✓", "✗") if encoding == "utf-8" else ("[right]", "[wrong]")
    assert f"36/2=18 {right}>>18" in said and f"36/2=17 {wrong}>>17" in said and f"{right} right equation" in said
    assert (said.splitlines()[0].split() == ["a", "b"]) == (width == 80)


def test_questions_come_from_a_pipe_too(run: Path) -> None:
    done = CliRunner().invoke(main, ["ask", str(run), "--model", "base", "--threads", "1"], input=QUESTION)
    assert done.exit_code == 0, done.output
    assert "36/2=18 ✓" in done.output


def test_what_can_not_be_asked_is_one_message(run: Path) -> None:
    assert "has no model control. Its finished models: rft, sft, base" in fails(
        2, "ask", run, "?", "--compare", "control"
    )
    assert "the question is empty" in fails(2, "ask", run, " ")
    assert "all answers would be equal" in fails(2, "ask", run, "?", "-n", 2, "--temperature", 0)
    assert "there is no such folder" in fails(2, "ask", run / "gone", "?")
