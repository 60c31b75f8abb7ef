"""Every example of docs/semantics.md, through the C core and through the reference."""

from __future__ import annotations

import pytest
from helpers.spec import examples, name_of

from qrft import grading
from qrft.grading import reference

TRACES = grading.Rules().traces


@pytest.mark.parametrize(("text", "gold", "status", "correct", "span"), examples("answers"), ids=name_of)
def test_answers(text: str, gold: str, status: str, correct: str, span: str) -> None:
    row = grading.grade([text], [gold]).to_pylist()[0]
    assert row == reference.grade(text, gold, traces=TRACES)._asdict()
    assert (row["status"], row["is_correct"]) == (status, correct == "yes")
    found = text.encode()[row["answer_start"] : row["answer_end"]].decode() if row["answer_start"] >= 0 else ""
    assert found == span


@pytest.mark.parametrize(("how", "text", "gold", "status", "correct", "span"), examples("formats"), ids=name_of)
def test_formats(how: str, text: str, gold: str, status: str, correct: str, span: str) -> None:
    """`marker` and the marker itself, or the name of a format."""
    marker = how.removeprefix("marker ") if how.startswith("marker ") else None
    rules = grading.Rules(marker=marker) if marker else grading.Rules(answer_format=how)  # type: ignore[arg-type]
    row = grading.grade([text], [gold], rules=rules).to_pylist()[0]
    assert row == reference.grade(text, gold, rules.answer_format, marker, traces=TRACES)._asdict()
    assert (row["status"], row["is_correct"]) == (status, correct == "yes")
    found = text.encode()[row["answer_start"] : row["answer_end"]].decode() if row["answer_start"] >= 0 else ""
    assert found == span


@pytest.mark.parametrize(("text", "status"), examples("equations"), ids=name_of)
def test_equations(text: str, status: str) -> None:
    assert grading.grade([text], ["0"])["equations_status"].to_pylist() == [status]
    assert reference.equations_status(reference.find_equations(text)) == status


@pytest.mark.parametrize(("first", "second", "same"), examples("keys"), ids=name_of)
def test_keys(first: str, second: str, same: str) -> None:
    keys = grading.grade([first, second], ["0", "0"])["equation_key"].to_pylist()
    assert keys == [reference.equation_key(first), reference.equation_key(second)]
    assert (keys[0] == keys[1]) == (same == "yes")


@pytest.mark.parametrize(("first", "second", "same"), examples("commutative keys"), ids=name_of)
def test_commutative_keys(first: str, second: str, same: str) -> None:
    rules = grading.Rules(order="commutative")
    keys = grading.grade([first, second], ["0", "0"], rules=rules)["equation_key"].to_pylist()
    assert keys == [reference.equation_key(text, order="commutative") for text in (first, second)]
    assert (keys[0] == keys[1]) == (same == "yes")


@pytest.mark.parametrize(("text", "equations", "status"), examples("running text"), ids=name_of)
def test_running_text(text: str, equations: str, status: str) -> None:
    found = reference.find_equations(text, "anywhere")
    assert "` `".join(text.encode()[e.start : e.end].decode() for e in found) == equations
    row = grading.grade([text], ["0"], rules=grading.Rules(equations="anywhere")).to_pylist()[0]
    assert (row["num_equations"], row["equations_status"]) == (len(found), status)
    assert row["equation_key"] == reference.equation_key(text, "anywhere")


def test_every_status_has_an_example() -> None:
    from qrft.grading.grader import ANSWER_STATUSES, EQUATION_STATUSES

    assert {row[2] for row in examples("answers")} == set(ANSWER_STATUSES)
    assert {row[1] for row in examples("equations")} | {"too_deep"} == set(EQUATION_STATUSES)


@pytest.mark.parametrize("depth", [1, 64, 65, 100_000])
def test_depth(depth: int) -> None:
    """Too long for a table."""
    text = "<<" + "(" * depth + "5" + ")" * depth + "=5>>"
    expected = "ok" if depth <= 64 else "too_deep"
    assert grading.grade([text], ["0"])["equations_status"].to_pylist() == [expected]
    assert reference.check_equation(text[2:-2]) == expected


@pytest.mark.parametrize(("question", "text", "gold", "status"), examples("sound paths"), ids=name_of)
def test_sound_paths(question: str, text: str, gold: str, status: str) -> None:
    assert reference.soundness_of(question, text, gold, traces=TRACES) == status
    assert grading.grade([text], [gold], questions=[question])["soundness"].to_pylist() == [status]
