"""Escape sequences in data never reach the terminal: they are shown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers.jsonl import write_jsonl

from qrft.cli.console import Terminal
from qrft.cli.main import main
from qrft.cli.tables import plain_console, plain_table

EVIL = "\x1b]0;owned\x07\x1b[31m\x9b2J\x7f\r\u202e\u2066\u2028"
GOLD = {"question": "2+3?", "answer": "#### 5"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def said(*words: str) -> str:
    """Return what a command printed, as to a terminal: click drops some sequences elsewhere."""
    done = CliRunner().invoke(main, list(words), color=True)
    assert done.exception is None or isinstance(done.exception, SystemExit)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]", done.output), repr(done.output)
    return done.output


def grade(problems: str, samples: str) -> list[str]:
    return ["grade", samples, "--problems", problems, "-o", "out.parquet"]


def test_in_an_id_of_a_problem() -> None:
    write_jsonl("p.jsonl", [{**GOLD, "problem_id": EVIL}] * 2)
    write_jsonl("s.jsonl", [{"problem_id": EVIL, "completion": "#### 5"}])
    assert "Error: " in said(*grade("p.jsonl", "s.jsonl"))


def test_in_a_key_and_in_a_question() -> None:
    write_jsonl("p.jsonl", [{EVIL: 1, "question": EVIL}])
    assert "Error: " in said("train", "tiny-base", "--data", "p.jsonl", "-o", "out")
    assert "Error: " in said(*grade("p.jsonl", "p.jsonl"))


def test_in_the_name_of_a_file() -> None:
    name = EVIL.replace("/", "") + ".jsonl"
    Path(name).write_text("not JSON\n")
    for words in (["loss", "tiny-base", "--text", name], ["train", "tiny-base", "--data", name], grade(name, name)):
        assert "\\x1b" in said(*words)
    assert "\\x1b" in said("run", name + ".yaml")


def test_in_a_template() -> None:
    write_jsonl("d.jsonl", [{"question": "2+3?", "completion": "#### 5"}])
    said("train", "tiny-base", "--data", "d.jsonl", "-o", "out", "--set", f"prompt={EVIL}")


def test_in_a_table_a_line_and_the_name_of_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    console = plain_console()
    table = plain_table("title")
    table.add_row(EVIL)
    console.print(table)
    console.print(EVIL, markup=False)
    with Terminal(console).bar(EVIL) as progress:
        progress(1, 1, EVIL)
    shown = capsys.readouterr().out
    assert shown.count("\\x1b") >= 4
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", shown)


def test_a_warning_without_a_handler_is_shown_too(capsys: pytest.CaptureFixture[str]) -> None:
    import logging

    from qrft.cli import visible

    visible._LastResort(logging.WARNING).handle(
        logging.makeLogRecord({"msg": "named \x1b[2J", "levelno": logging.WARNING})
    )
    assert capsys.readouterr().err == "named \\x1b[2J\n"
