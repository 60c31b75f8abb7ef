"""The answers of several models, side by side where the terminal is wide enough, with their equations marked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from qrft.cli.tables import plain_table
from qrft.report.words import EQUATION_TROUBLE, SOUNDNESS, plural

NARROWEST = 36  # columns of an answer beside another one
STYLES = {"right": "green", "wrong": "bold red", "answer": "bold"}
# A mark behind each equation: a colour alone would say nothing to a file, and little to many people.
MARKS = {"right": "✓", "wrong": "✗"}
PLAIN_MARKS = {"right": "[right]", "wrong": "[wrong]"}


def show_answers(console: Console, facts: Mapping[str, Any]) -> None:
    """Show what each model says to the question."""
    models = facts["models"]
    cells = [_cell(console, model) for model in models]
    if len(models) > 1 and console.width >= NARROWEST * len(models):
        console.print(_side_by_side(models, cells))
    else:
        for model, cell in zip(models, cells, strict=True):
            if len(models) > 1:
                console.print(f"\n{model['model']}", style="bold")
            console.print(cell, soft_wrap=False)
    if any(answer["equations"] for model in models for answer in model["answers"]):
        marks = _marks(console)
        console.print(f"\n{marks['right']} right equation, {marks['wrong']} wrong", style="dim", markup=False)


def _side_by_side(models: list[Mapping[str, Any]], cells: list[Text]) -> Table:
    table = plain_table()
    for model in models:
        table.add_column(model["model"], ratio=1, overflow="fold")
    table.add_row(*cells)
    return table


def _cell(console: Console, model: Mapping[str, Any]) -> Text:
    """Return a model's answer, or the vote of its answers with one for the winner."""
    answers, vote = model["answers"], model["vote"]
    if vote is None:
        return _answer(console, answers[0])
    lines = Text()
    for row in vote["answers"]:
        lines.append(f"{row['count']} of {vote['num_samples']}: {row['answer']}\n", style="bold" if not lines else "")
    if silent := vote["num_samples"] - vote["num_voting"]:
        lines.append(f"{silent} of {vote['num_samples']}: no answer that counts\n")
    winner = vote["answers"][0]["answer"] if vote["answers"] else None
    shown = next((answer for answer in answers if answer["answer"] == winner), answers[0])
    return lines.append("\n").append_text(_answer(console, shown))


def _answer(console: Console, answer: Mapping[str, Any]) -> Text:
    text, marks = Text(), _marks(console)
    for piece in answer["pieces"]:
        text.append(piece["text"], style=STYLES.get(piece["kind"], ""))
        if mark := marks.get(piece["kind"]):
            trouble = EQUATION_TROUBLE.get(piece["told"], "") if piece["told"] not in ("", "wrong") else ""
            text.append(f" {mark}{f' ({trouble})' if trouble else ''}", style=STYLES[piece["kind"]])
    return text.append(f"\n\n{told(answer)}", style="dim")


def told(answer: Mapping[str, Any]) -> str:
    """Say in a line what the answer is, how its equations are, and whether its path is sound."""
    words = [f"answer {answer['answer']}" if answer["answer"] else "no answer in the asked form"]
    wrong = sum(equation["status"] != "right" for equation in answer["equations"])
    if answer["equations"]:
        words.append(f"{plural(len(answer['equations']), 'equation')}, {wrong or 'none'} wrong")
    if answer["path"]:
        words.append("sound" if answer["path"] == "sound" else f"unsound: {SOUNDNESS[answer['path']]}")
    if answer["finish_reason"] == "length":
        words.append("cut off at the token limit")
    return "; ".join(words)


def _marks(console: Console) -> Mapping[str, str]:
    return MARKS if console.encoding.lower().startswith("utf") else PLAIN_MARKS
