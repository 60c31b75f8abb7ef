"""ASDiv: diverse story problems of primary school, with bare answers (Miao et al. 2020, arXiv 2106.15772).

A row in its form; the units in brackets are left out of the answer, which may have several parts ("17 (years old); 12
(years old)" is "17; 12"):

    <Problem ID="nluds-0001" Grade="1"><Body>Ann has 7 pears and 2 nuts.</Body><Question>How many fruits does she have?
    </Question><Solution-Type>Addition</Solution-Type><Answer>9 (fruits)</Answer><Formula>7+2=9</Formula></Problem>
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from qrft.data.files import read_errors
from qrft.data.problems.formulas import solution
from qrft.data.problems.problem_set import ProblemSet
from qrft.data.problems.table import Fields, joined, make_table
from qrft.errors import DataError

WAY_OUT = "Put ASDiv.xml there as it was published."


def read(path: Path) -> pa.Table:
    """Return the problems of ASDiv.xml, with bare answers."""
    return _read(path, _fields)


def read_worked(path: Path) -> pa.Table:
    """Return the problems of ASDiv.xml, with the solutions that their formulas give."""
    return _read(path, _worked_fields)


def _read(path: Path, fields_of: Callable[[ElementTree.Element], Fields]) -> pa.Table:
    try:
        with read_errors(path):
            problems = list(ElementTree.parse(path).getroot().iter("Problem"))
    except ElementTree.ParseError as error:
        raise DataError(f"{path}: is not XML ({error}). {WAY_OUT}") from None
    if not problems:
        raise DataError(f"{path}: found no <Problem> in it. {WAY_OUT}")
    return make_table(((f"{path}:{number}", fields_of(row)) for number, row in enumerate(problems, 1)), path)


def _fields(row: ElementTree.Element) -> dict[str, str]:
    body, question, answer = (row.findtext(key, "") for key in ("Body", "Question", "Answer"))
    parts = (part.partition("(")[0].strip() for part in answer.split(";"))
    return {"id": row.get("ID", ""), "question": joined(body, question), "answer": "; ".join(parts)}


def _worked_fields(row: ElementTree.Element) -> dict[str, str]:
    fields = _fields(row)
    return {**fields, "solution": solution(row.findtext("Formula", ""), fields["answer"])}


SET = ProblemSet(splits=("test",), file="asdiv/ASDiv.xml", read=read)
