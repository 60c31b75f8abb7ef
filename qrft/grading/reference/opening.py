"""The reference's reading of what stands before an answer: signs, Markdown, LaTeX."""

from __future__ import annotations

from dataclasses import dataclass

from qrft.grading.reference.answer_numbers import number_starts
from qrft.grading.reference.numbers import skip_blanks
from qrft.grading.reference.patterns import BLANKS, CLOSER, COMMAND, CURRENCY, GAP, MATH, SIGN, TEXT, pattern


@dataclass
class Opening:
    """What stands before an answer, and whether one begins at `at`: a "number", an "expression" or "nothing"."""

    at: int
    kind: str = "nothing"
    number_start: int | None = None  # the first sign or currency
    expression_start: int | None = None  # that, or the first opener other than a box
    is_negative: bool = False
    is_math: bool = False
    is_whole: bool = False  # the answer is all of the text
    box: int | None = None  # where the content of the last box begins
    math: int | None = None  # where the last $, \( or \[ stands
    num_open: int = 0
    num_marks: int = 0


SIGN_HERE, CURRENCY_HERE, TEXT_HERE = pattern(SIGN), pattern(CURRENCY), pattern(TEXT)
BOX_HERE = pattern(rf"\\(?-i: boxed | fbox ) {BLANKS} \{{")
MATH_HERE, GAP_HERE, CLOSER_HERE = pattern(MATH), pattern(GAP), pattern(CLOSER)
BRACE_HERE, MARK_HERE = pattern(r"\{"), pattern(r"[*_`]")


def skip_gap(text: bytes, opening: Opening) -> int:
    """Return where the gap at the opening ends; a line break is a part of it in math only."""
    return next(GAP_HERE.finditer(text, opening.at)).end() if opening.is_math else skip_blanks(text, opening.at)


def read_prefix(text: bytes, opening: Opening) -> None:
    """Move the opening over what may stand before an answer, up to the first byte of something else."""
    sign_seen = currency_seen = False
    while True:
        at = opening.at = skip_gap(text, opening)
        if not sign_seen and (found := SIGN_HERE.match(text, at)):
            sign_seen, opening.is_negative = True, text[at] != ord("+")
            opening.number_start = at if opening.number_start is None else opening.number_start
        elif found := BOX_HERE.match(text, at):
            opening.is_math, opening.num_open, opening.math, opening.box = True, 1, None, found.end()
            opening.expression_start = opening.number_start
            opening.at = found.end()
            continue
        elif found := MATH_HERE.match(text, at):
            opening.is_math, opening.num_open, opening.math = True, opening.num_open + 1, at
        elif not currency_seen and (found := CURRENCY_HERE.match(text, at)):
            currency_seen = True
            opening.number_start = at if opening.number_start is None else opening.number_start
        elif found := TEXT_HERE.match(text, at) or BRACE_HERE.match(text, at):
            opening.num_open += 1
        elif found := MARK_HERE.match(text, at):
            opening.num_marks += 1
            opening.at = found.end()
            continue
        else:
            return
        opening.expression_start = at if opening.expression_start is None else opening.expression_start
        opening.at = found.end()


VARIABLE = rf"(?: [a-z] (?![a-z]) {BLANKS} (?: [-+*/^=<>] | − | × | ÷ ) )"
EXPRESSION_HERE = pattern(
    rf"""{COMMAND} | {VARIABLE}
    | (?: (?: \( | \[ | \| | \\\{{ ) {BLANKS} {SIGN}? ){{1,8}}
      (?: [.]?\d | {COMMAND} | {VARIABLE} | [a-z] {BLANKS} , )"""
)


def open_answer(text: bytes, at: int, is_math: bool = False, is_whole: bool = False) -> Opening:
    opening = Opening(at, is_math=is_math, is_whole=is_whole)
    read_prefix(text, opening)
    if number_starts(text, opening.at):
        opening.kind = "number"
    elif opening.is_math:
        is_empty = opening.at == len(text) or CLOSER_HERE.match(text, opening.at)
        opening.kind = "nothing" if is_empty else "expression"
    elif EXPRESSION_HERE.match(text, opening.at):
        opening.kind = "expression"
    return opening
