"""Preference pairs: a right and a wrong path of one problem, in the columns that TRL's preference trainers read.

The stage `pairs` and `qrft curate --pairs` both make their rows here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from qrft.grading.pairing import Pairing
from qrft.grading.paths import is_cut_off, is_wrong
from qrft.grading.rules import DEFAULT_RULES, DEFAULT_SELECTION, Rules, Selection
from qrft.grading.selection import select
from qrft.grading.traces import without_traces
from qrft.models.prompts import prompt_text, system_turns, turn
from qrft.models.wording import CHAT, Wording

Ints = npt.NDArray[np.int64]

TEXT = pa.large_string()
TURNS = pa.list_(pa.struct([("role", pa.string()), ("content", TEXT)]))
TEMPLATE_ARGS = "chat_template_kwargs"  # only where there are arguments
NAMES = ("prompt", "chosen", "rejected")  # https://huggingface.co/docs/trl/dataset_formats#preference


def pairs_schema(wording: Wording) -> pa.Schema:
    """Return the schema of the pairs: texts, or with the prompt "chat" lists of turns (TRL's conversational form).

    TRL applies the chat template itself, with the arguments that a row has for it.
    """
    args = [(TEMPLATE_ARGS, pa.scalar(wording.chat_template_args).type)] if wording.chat_template_args else []
    return pa.schema([*((name, TURNS if wording.prompt == CHAT else TEXT) for name in NAMES), *args])


def preference_pairs(
    problems: pa.Table,
    problem: Ints,
    samples: pa.Table,
    graded: pa.Table,
    pairing: Pairing,
    selection: Selection = DEFAULT_SELECTION,
    *,
    rules: Rules = DEFAULT_RULES,
    num_threads: int | None = None,
) -> pa.Table:
    """Return pairs (pairs_schema), problem by problem: chosen is a right path, rejected a wrong one.

    The right ones are those that `selection` keeps, which may have the gold path's equations; the wrong ones are
    the different texts that `is_wrong`. A sample without a readable answer is neither, nor is one that was cut off,
    unless the selection keeps such.
    Both lists are walked side by side in the order of the samples, the shorter list starting over, so no pair comes
    twice; at most pairing.pairs_per_problem. Columns are as in `training_table`.
    """
    cut_off = is_cut_off(samples)
    kept = select(
        samples["completion"],
        pa.array(problem),
        graded,
        cut_off=cut_off,
        selection=selection,
        rules=rules,
        num_threads=num_threads,
    ).kept
    completions = samples["completion"]
    dropped = rules.traces if selection.traces == "drop" else None
    is_rejected = is_wrong(graded) if selection.cut_off == "keep" else is_wrong(graded) & ~cut_off
    right, wrong = by_problem(kept, problem), by_problem(np.flatnonzero(is_rejected), problem)
    rows: list[dict[str, Any]] = []
    for number in sorted(right.keys() & wrong.keys()):
        others = list(dict.fromkeys(without_traces(completions[row].as_py(), dropped) for row in wrong[number]))
        question = problems["question"][number].as_py()
        for chosen, rejected in side_by_side(right[number], others, pairing.pairs_per_problem):
            kept_text = without_traces(completions[chosen].as_py(), dropped)
            rows.append(pair(question, kept_text, rejected, pairing.wording))
    return pa.Table.from_pylist(rows, schema=pairs_schema(pairing.wording))


def by_problem(rows: Ints, problem: Ints) -> dict[int, list[int]]:
    """Return the rows of each problem that has rows, in their order."""
    groups: dict[int, list[int]] = {}
    for row in rows.tolist():
        groups.setdefault(int(problem[row]), []).append(row)
    return groups


def side_by_side(right: Sequence[int], wrong: Sequence[str], most: int) -> Iterator[tuple[int, str]]:
    for number in range(min(most, max(len(right), len(wrong)))):
        yield right[number % len(right)], wrong[number % len(wrong)]


def pair(question: str, chosen: str, rejected: str, wording: Wording) -> dict[str, Any]:
    """Return a row. Its texts are those that the model was trained on and wrote, so the prompt ends as in training:
    as a chat, once the template is applied with the row's arguments."""
    if wording.prompt != CHAT:
        return dict(zip(NAMES, (prompt_text(question, wording), chosen, rejected), strict=True))
    asked = [*system_turns(wording), turn("user", question)]
    row = dict(zip(NAMES, (asked, [turn("assistant", chosen)], [turn("assistant", rejected)]), strict=True))
    return row | ({TEMPLATE_ARGS: wording.chat_template_args} if wording.chat_template_args else {})
