"""The tables of a sweep's report: what they show of a row, as values to sort by and as text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from qrft.report.sweep.points import SEEDS, Row, mean_samples, points, settings, word
from qrft.report.words import duration, percent, plural, short


class Cell(NamedTuple):
    text: str
    note: str = ""  # its interval
    value: float | str | None = None  # to sort by
    link: str = ""


class Column(NamedTuple):
    title: str
    is_number: bool
    hint: str = ""


class Table(NamedTuple):
    columns: list[Column]
    rows: list[list[Cell]]


# What a row may show beside its settings: key, title, how it is written, what it is.
SHARE, POINTS, NUMBER, SECONDS, FLOPS, PAPER = "share", "points", "number", "seconds", "flops", "paper"
SHOWN = (
    ("base.accuracy", "Base", SHARE, "Accuracy of the base model"),
    ("base.flexible", "Base, any form", SHARE, "The same with answers in whatever form"),
    ("icl.accuracy", "ICL", SHARE, "Accuracy of the base model with worked examples in the prompt"),
    ("icl.flexible", "ICL, any form", SHARE, "The same with answers in whatever form"),
    ("paper.icl", "paper", PAPER, "Published accuracy of the base model with examples"),
    ("sft.accuracy", "SFT", SHARE, "Accuracy after supervised fine-tuning"),
    ("sft.flexible", "SFT, any form", SHARE, "The same with answers in whatever form"),
    ("paper.sft", "paper", PAPER, "Published accuracy after supervised fine-tuning"),
    ("rft.accuracy", "RFT", SHARE, "Accuracy after rejection-sampling fine-tuning"),
    ("rft.flexible", "RFT, any form", SHARE, "The same with answers in whatever form"),
    ("paper.rft", "paper", PAPER, "Published accuracy after rejection-sampling fine-tuning"),
    ("gain", "Gain", POINTS, "RFT over SFT, or over the base where there was none, in points"),
    ("control.accuracy", "SFT, RFT's steps", SHARE, "Accuracy after supervised fine-tuning for as many steps as RFT"),
    ("gain_over_control", "Gain, equal steps", POINTS, "RFT over SFT for as many steps, in points"),
    ("distinct_paths", "Paths", NUMBER, "Distinct right paths per problem, the gold one counted"),
    ("paper.distinct_paths", "paper", NUMBER, "Published distinct right paths per problem, the gold one counted"),
    ("icl.maj@100", "ICL maj@100", SHARE, "maj@100 of the base model with worked examples in the prompt"),
    ("paper.icl_maj100", "paper", PAPER, "Published maj@100 of the base model with examples"),
    ("sft.maj@100", "SFT maj@100", SHARE, "maj@100 after supervised fine-tuning"),
    ("paper.sft_maj100", "paper", PAPER, "Published maj@100 after supervised fine-tuning"),
    ("rft.maj@100", "RFT maj@100", SHARE, "maj@100 after rejection-sampling fine-tuning"),
    ("paper.rft_maj100", "paper", PAPER, "Published maj@100 after rejection-sampling fine-tuning"),
    ("unsound_share", "Unsound", SHARE, "Right paths whose reasoning is not sound, of all right paths"),
    ("num_rows", "Rows", NUMBER, "Rows of RFT's training set"),
    ("k", "k", NUMBER, "Samples per problem that were looked at, on average"),
    ("base_model.num_parameters", "Size", NUMBER, "Parameters of the base without embeddings"),
    ("base_model.loss", "Loss", NUMBER, "Pre-training loss on held-out text, nats per token"),
    ("flops", "FLOPs", FLOPS, "FLOPs of everything that the run's last model rests on"),
    ("seconds", "Time", SECONDS, "Time of all steps that the run rests on; what runs share counts in each"),
)


Entry = tuple[str, str, str, str]  # of SHOWN


def shown(rows: Sequence[Row]) -> list[Entry]:
    """Return the entries that some row has a value for. A base that was only measured with examples is ICL."""
    known = [entry for entry in SHOWN if any(_differs(row, entry[0]) for row in rows)]
    examples = [row.get("base.few_shot", 0) for row in rows]
    if any(examples) and examples == [row.get("icl.few_shot", 0) for row in rows]:
        known = [entry for entry in known if entry[0] not in ("icl.accuracy", "icl.flexible")]
    if any(examples) and len(set(examples)) == 1:
        key, title, kind, hint = SHOWN[0]
        known = [(key, f"{title}, {plural(examples[0], 'example')}", kind, hint), *known[1:]]
    return known


def _differs(row: Row, key: str) -> bool:
    """Return whether a row has a value of its own: one in any form is none where all answers have the asked one."""
    model, _, name = key.rpartition(".")
    return row.get(key) is not None and (name != "flexible" or row[key] != row.get(f"{model}.accuracy"))


def once(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with each model without RFT only once, and without RFT's settings, which don't affect it."""
    keys = {key for row in rows for key in row if key.startswith("sweep.") and key not in SEEDS}
    same = ["model", *SEEDS, *(key for key, *_ in SHOWN)]
    made: dict[str, Row] = {}
    for number, row in enumerate(rows):
        cell = str(number) if "rft.accuracy" in row else word([word(row.get(key)) for key in same])
        first = made.setdefault(cell, row)
        differing = {key for key in keys if first.get(key) != row.get(key)}
        made[cell] = {key: value for key, value in first.items() if key not in differing}
    return list(made.values())


def table(rows: Sequence[Row]) -> Table:
    """Return a row for every run and model, except those that `once` merges; columns without any value are left out."""
    rows = [
        {**row, "flops": row.get("cost.rft.flops", row.get("cost.sft.flops")), "k": mean_samples(row)} for row in rows
    ]
    keys = settings(rows)
    keys += [key for row in rows for key in row if key in SEEDS and key not in keys]
    keys = list(dict.fromkeys(["model", *keys]))
    rows = once(rows)
    known = shown(rows)
    columns = [Column(key.removeprefix("sweep.").rpartition(".")[2], _is_number(rows, key), key) for key in keys]
    columns += [Column(title, True, hint) for _, title, _, hint in known]
    return Table(columns, [[*_named(row, keys), *(_cell(row, key, kind) for key, _, kind, _ in known)] for row in rows])


def _is_number(rows: Sequence[Row], key: str) -> bool:
    values = [row[key] for row in rows if key in row]
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _named(row: Row, keys: Sequence[str]) -> list[Cell]:
    cells = [Cell(word(row[key]), value=_sortable(row[key])) if key in row else Cell("") for key in keys]
    return [cells[0]._replace(link=row.get("report", "")), *cells[1:]]


def _sortable(value: Any) -> float | str:
    return float(value) if isinstance(value, int | float) else word(value)


def _cell(row: Row, key: str, kind: str) -> Cell:
    value = row.get(key)
    if value is None:
        return Cell("")
    stem = key.removesuffix(".accuracy") + "."
    low, high = (
        row.get(bound) for bound in ((f"{stem}low", f"{stem}high") if kind == SHARE else (f"{key}_low", f"{key}_high"))
    )
    note = "" if low is None or high is None or low == high else f"{_said(low, kind)} to {_said(high, kind)}"
    return Cell(_said(value, kind), note, float(value))


def _said(value: float, kind: str) -> str:
    if kind == SHARE:
        return percent(value)
    if kind == PAPER:
        return f"{value:.1f}%"
    if kind == POINTS:
        return f"{100 * value:+.1f}".replace("-", "−")
    if kind == SECONDS:
        return duration(value)
    if kind == FLOPS:
        return short(value, "flops")
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}"


def means(rows: Sequence[Row]) -> Table | None:
    """Return the means over seeds for each combination of settings; None where every one has a single run."""
    keys = list(dict.fromkeys(["model", *settings(rows)]))
    rows = once(rows)
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(str([word(row[key]) if key in row else "" for key in keys]), []).append(row)
    if max(map(len, groups.values()), default=1) < 2:
        return None
    known = [entry for entry in shown(rows) if entry[2] in (SHARE, POINTS, PAPER) or entry[0] == "distinct_paths"]
    columns = [Column(key.removeprefix("sweep.").rpartition(".")[2], _is_number(rows, key), key) for key in keys]
    columns += [Column("runs", True, "Seeds"), *(Column(title, True, hint) for _, title, _, hint in known)]
    made = []
    for group in groups.values():
        named = [cell._replace(link="") for cell in _named(group[0], keys)]
        numbers = [_mean(group, key, kind) for key, _, kind, _ in known]
        made.append([*named, Cell(str(len(group)), value=float(len(group))), *numbers])
    return Table(columns, made)


def _mean(group: Sequence[Row], key: str, kind: str) -> Cell:
    found = points([{**row, "one": 0} for row in group], "one", key).listed
    if not found:
        return Cell("")
    point = found[0]
    is_known = point.high > point.low
    return Cell(
        _said(point.y, kind), f"{_said(point.low, kind)} to {_said(point.high, kind)}" if is_known else "", point.y
    )


def markdown(made: Table) -> str:
    """Return the table for people who read plain text."""
    lines = ["| " + " | ".join(escaped(column.title) for column in made.columns) + " |"]
    lines.append("|" + "".join("--:|" if column.is_number else "---|" for column in made.columns))
    for row in made.rows:
        texts = [f"{cell.text} ({cell.note})" if cell.note else cell.text for cell in row]
        lines.append("| " + " | ".join(map(escaped, texts)) + " |")
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """Return a text from data in one line, with what Markdown or HTML would take for markup escaped."""
    return re.sub(r"[\\|`*\[<&]", r"\\\g<0>", " ".join(text.splitlines()))
