"""The pages of `qrft browse`. They are plain HTML: links and forms, no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

import numpy as np

from qrft.browse.bank import VERDICTS, Bank
from qrft.browse.query import PAGE, Query, find
from qrft.errors import UsageError
from qrft.grading.marks import Piece, compared, pieces
from qrft.report.page import asset, content_hash, environment

if TYPE_CHECKING:
    from jinja2 import Template

CLASSES = (*["incorrect"] * 3, "cut_off", "bad_equation", "kept", "unsound")  # of the style sheet, by VERDICTS


class Sample(NamedTuple):
    """A sample as a page shows it."""

    row: int
    part: str
    problem_id: str
    model: str
    sample_index: int
    verdict: str
    style: str
    pieces: list[Piece]


def policy() -> str:
    """Return the content security policy of the pages: nothing is loaded, and nothing runs."""
    return f"default-src 'none'; style-src '{content_hash(asset('style.css'))}'; form-action 'self'; base-uri 'none'"


def listing(bank: Bank, name: str, asked: Mapping[str, str]) -> str:
    """Return a page of the samples that are asked for. Raises UsageError for a page that is no number."""
    query = Query(**{key: value for key, value in asked.items() if key in Query._fields})
    rows = find(bank, query)
    last = max(1, -(-len(rows) // PAGE))
    page = min(_number(asked.get("page", "1"), "page"), last)
    shown = [sample(bank, int(row)) for row in rows[(page - 1) * PAGE : page * PAGE]]

    def link(number: int) -> str:
        return "/?" + urlencode({**{key: value for key, value in query._asdict().items() if value}, "page": number})

    return _template("listing.html").render(
        **_shared(bank, name),
        query=query,
        samples=shown,
        questions=_asked(bank, [one.row for one in shown]) if query.problem else [],
        num_found=len(rows),
        first=(page - 1) * PAGE + 1,
        previous=link(page - 1) if page > 1 else None,
        following=link(page + 1) if page < last else None,
    )


def comparison(bank: Bank, name: str, asked: Mapping[str, str]) -> str:
    """Return a page with two samples side by side. Raises UsageError for a sample that is not there."""
    rows = [_number(asked.get(side, ""), "sample") for side in ("a", "b")]
    if max(rows) >= len(bank):
        raise UsageError(f"There are {len(bank):,} samples. Choose two of them in the list.")
    sides = compared(*(bank.text(row) for row in rows))
    both = [
        (sample(bank, row)._replace(pieces=side), _asked(bank, [row])[0]) for row, side in zip(rows, sides, strict=True)
    ]
    return _template("comparison.html").render(**_shared(bank, name), both=both)


def sample(bank: Bank, row: int) -> Sample:
    """Return what is shown of a row."""
    rows = bank.rows
    part = bank.parts[rows.part[row]]
    span = int(rows.answer_start[row]), int(rows.answer_end[row])
    return Sample(
        row,
        part.name,
        bank.problems["problem_id"][int(rows.problem[row])].as_py(),
        bank.models[rows.model[row]],
        int(rows.sample_index[row]),
        VERDICTS[rows.verdict[row]],
        CLASSES[rows.verdict[row]],
        pieces(bank.text(row), part.rules, span),
    )


def _asked(bank: Bank, rows: Sequence[int]) -> list[dict[str, Any]]:
    """Return the problems of some rows, each once: sets that number their problems may share an id."""
    return [bank.problems.slice(number, 1).to_pylist()[0] for number in np.unique(bank.rows.problem[rows])]


def _shared(bank: Bank, name: str) -> dict[str, Any]:
    parts = [part.name for part in bank.parts if part.name]
    return {
        "style": asset("style.css"),
        "name": name,
        "num_samples": len(bank),
        "choices": {"verdict": VERDICTS, "model": bank.models, "part": parts},
    }


def _number(text: str, what: str) -> int:
    if not text.isdecimal() or len(text) > 12:
        raise UsageError(f"{what}: found {text[:40]!r}, expected a number.")
    return max(int(text), 1 if what == "page" else 0)


@lru_cache
def _template(name: str) -> Template:
    return environment(Path(__file__).parent).get_template(name)
