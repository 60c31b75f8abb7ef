"""The reference's answers: where a text's answer stands, and its value."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import NamedTuple

from qrft.grading.reference.answer_numbers import Number, number_starts, read_number, read_sign
from qrft.grading.reference.follow import (
    end_of_line,
    end_of_math_parts,
    number_is_head,
    number_tail,
    what_follows,
)
from qrft.grading.reference.numbers import DIGITS, SPACES, as_bytes, is_in, skip
from qrft.grading.reference.opening import BOX_HERE, Opening, open_answer
from qrft.grading.reference.patterns import BLANK, BLANKS, CLOSE_MATH, CLOSER, CURRENCY, GAP, SIGN, pattern
from qrft.grading.traces import Traces, stretches


class Answer(NamedTuple):
    status: str
    start: int = -1
    end: int = -1
    value: Fraction | None = None


FOUND = ("ok", "too_big", "expression")  # the statuses of a text that has an answer

# ------------------------------------------------------------------------------------------------------ the span ----

CLOSE_MATH_HERE, PUNCTUATION = pattern(CLOSE_MATH), pattern(rf"(?: {GAP} (?: {CLOSER} | [.*_`] ) )* {GAP}")


def end_of_box(text: bytes, at: int) -> int:
    """Return where the box whose content begins at `at` is closed, or the end of the line when it never is."""
    depth = 0
    for found in re.compile(rb"\\.|[{}]", re.DOTALL).finditer(text, at):
        if found[0] == b"}" and depth == 0:
            return found.start()
        depth += {b"{": 1, b"}": -1}.get(found[0], 0)
    return end_of_line(text, at)


def trimmed(status: str, text: bytes, start: int, end: int, has_stop: bool = False) -> Answer:
    start = min(skip(text, start, SPACES), end)
    while end > start and (text[end - 1] in SPACES or (has_stop and has_full_stop(text[start:end]))):
        end -= 1
    return Answer(status, start, end)


def has_full_stop(text: bytes) -> bool:
    """Return whether it ends with a full stop; three dots are none."""
    return text.endswith(b".") and not text.endswith(b"..")


def no_number(text: bytes, at: int) -> Answer:
    """Return the span of what stands after a marker or in a box instead of an answer."""
    box = BOX_HERE.match(text, at)
    start, end = (box.end(), end_of_box(text, box.end())) if box else (at, end_of_line(text, at))
    return trimmed("not_a_number", text, start, end)


def expression(text: bytes, at: int, opening: Opening) -> Answer:
    start = opening.at if opening.expression_start is None else opening.expression_start
    if opening.box is not None:
        box_end = end_of_box(text, opening.box)
        if not opening.is_whole or PUNCTUATION.fullmatch(text, box_end):
            return trimmed("expression", text, start, box_end)
        start = at
    if opening.is_whole:
        return trimmed("expression", text, start, len(text), has_stop=True)
    if opening.math is not None and (found := CLOSE_MATH_HERE.match(text, opening.at)) is not None:
        return Answer("expression", start, end_of_math_parts(text, found.end()))
    return trimmed("expression", text, start, end_of_line(text, opening.at), has_stop=True)


def read_answer(text: bytes, at: int, opening: Opening) -> Answer:
    """Read the answer that begins at the opening, which was read from `at` on."""
    if opening.kind == "expression":
        return expression(text, at, opening)
    number = read_number(text, opening.at)
    status = what_follows(text, opening.at, number.end, opening) if number.is_number else "not_a_number"
    if status == "expression":
        return expression(text, at, opening)
    if status == "not_a_number":
        return no_number(text, at)
    return number_answer(text, at, opening, number)


def number_answer(text: bytes, at: int, opening: Opening, number: Number) -> Answer:
    if not number.is_number:
        return no_number(text, at)
    start = opening.at if opening.number_start is None else opening.number_start
    if number.value is None:
        return Answer("too_big", start, number.end)
    return Answer("ok", start, number.end, -number.value if opening.is_negative else number.value)


# --------------------------------------------------------------------------------------------------- the formats ----


HASHES = re.compile(rb"####+")
BOX = pattern(rf"(?= \\(?-i: boxed | fbox ) {BLANKS} \{{ ) | \\(?-i: boxed | fbox ) {BLANKS} (?= [.]?\d )")
ANSWER_IS = pattern(rf"(?<![a-z]) answer (?![a-z]) (?: {BLANK} | [*_`] )* (?: is (?![a-z]) (?: {BLANKS} : )? | [:=] )")
NEW_PROBLEM = "question | problem | q | instruction | exercise | human | user"
NEW_SOLUTION = f"{NEW_PROBLEM} | solution | response"


def heading(words: str) -> re.Pattern[bytes]:
    return pattern(rf"\n (?= (?: {BLANK} | [#*_>`] )* (?: {words} ) (?![a-z]) [ \t\r\d.*_`]* (?: : | \n | \Z ) )")


def cut(text: bytes, at: int, words: str) -> bytes:
    """Return the text up to the first heading after `at`."""
    found = heading(words).search(text, at)
    return text[: found.start()] if found else text


Place = tuple[int, Opening]


def places(text: bytes, marker: re.Pattern[bytes]) -> Iterator[Place]:
    """Yield what follows each marker; the search goes on where the reading stopped."""
    found = marker.search(text)
    while found is not None:
        opening = open_answer(text, found.end())
        yield found.end(), opening
        found = marker.search(text, max(opening.at, found.end()))


def first_answer(text: bytes, marker: re.Pattern[bytes]) -> Answer:
    first = None
    for at, opening in places(text, marker):
        if opening.kind != "nothing":
            return read_answer(text, at, opening)
        first = at if first is None else first
    return Answer("no_marker") if first is None else no_number(text, first)


def last_answer(text: bytes, marker: re.Pattern[bytes]) -> Answer:
    """Return the answer after the last marker of the first solution that an answer follows."""
    seen = [at for at, _ in places(text, marker)]
    found = [at for at, opening in places(text, marker) if opening.kind != "nothing"]
    if not found:
        return no_number(text, seen[0]) if seen else Answer("no_marker")
    text = cut(text, found[0], NEW_SOLUTION)
    answers = [(at, opening) for at, opening in places(text, marker) if opening.kind != "nothing"]
    return read_answer(text, *answers[-1]) if answers else no_number(text, seen[0])


MINUS_HERE = pattern(rf"(?! [+] ) {SIGN}")


def has_numeral(text: bytes, at: int) -> bool:
    """Return whether a digit or a sign such as ½ stands there."""
    return is_in(text, at, DIGITS) or read_sign(text, at) is not None


LEAD = pattern(rf"(?: {SIGN} {CURRENCY}? | {CURRENCY} {SIGN}? )?")
SIGN_AFTER_VALUE = pattern(rf"(?<= [a-z0-9)\]}}] ) {SIGN}")
POINT_IN_WORD = pattern(r"(?<= [a-z0-9] ) [.]")
IN_WORD = pattern(r"(?<= [a-z] ) \d | (?<= \^ ) | (?<= \^\{ )")


def last_number(text: bytes) -> Answer:
    numeral = next((at for at in range(len(text)) if has_numeral(text, at)), None)
    text = text if numeral is None else cut(text, numeral, NEW_PROBLEM)
    at, answer = 0, Answer("no_marker")
    while at < len(text):
        lead = LEAD.match(text, at)
        digits = lead.end() if lead else at
        if not number_starts(text, digits) or SIGN_AFTER_VALUE.match(text, at) or POINT_IN_WORD.match(text, at):
            at += 1
            continue
        number = read_number(text, digits)
        tail = number_tail(text, digits, number.end)
        if tail is not None or number_is_head(text, digits, number.end):
            number = Number(number.end if tail is None else tail, None, False)
        if not IN_WORD.match(text, at):
            is_negative = MINUS_HERE.search(text[at:digits]) is not None
            opening = Opening(digits, "number", at, is_negative=is_negative)
            answer = number_answer(text, at, opening, number)
        at = number.end
    return answer


TAG = re.compile(rb"<(/?)answer>", re.IGNORECASE)


def tags(text: bytes) -> Iterator[tuple[int, int]]:
    """Yield where the content of each tag begins and ends: from the last <answer> before a </answer>."""
    start = None
    for found in TAG.finditer(text):
        if not found[1]:
            start = found.end()
        elif start is not None:
            yield start, found.start()
            start = None


def answer_in_tag(text: bytes, start: int, end: int) -> Answer:
    content = text[start:end]
    answer = last_answer(content, BOX)
    if answer.status not in FOUND:
        answer = parse_number(content, "answer-tag")
    return answer._replace(start=start + answer.start, end=start + answer.end)


def last_tag(text: bytes) -> Answer:
    """Return the answer in the last tag of the first solution that holds one."""
    answers = {end: answer_in_tag(text, start, end) for start, end in tags(text)}
    first = next((end for end, answer in answers.items() if answer.status in FOUND), None)
    if first is None:
        return next(iter(answers.values()), Answer("no_marker"))
    of_first_solution = [answers[end] for _, end in tags(cut(text, first, NEW_SOLUTION))]
    return [answer for answer in of_first_solution if answer.status in FOUND][-1]


def auto(text: bytes) -> Answer:
    answers = [FORMATS[name](text) for name in ("answer-tag", "gsm8k", "boxed", "answer-is", "last-number")]
    found = [answer for answer in answers if answer.status in FOUND]
    marked = [answer for answer in answers if answer.status != "no_marker"]
    return (found or marked or answers)[0]


FORMATS: dict[str, Callable[[bytes], Answer]] = {
    "gsm8k": lambda text: first_answer(text, HASHES),
    "boxed": lambda text: last_answer(text, BOX),
    "answer-is": lambda text: last_answer(text, ANSWER_IS),
    "answer-tag": last_tag,
    "last-number": last_number,
    "auto": auto,
}


def find_answer(
    text: str | bytes,
    answer_format: str = "gsm8k",
    marker: str | bytes | None = None,
    traces: Traces | None = None,
) -> Answer:
    """Find the answer of a text: with traces the one behind them, or before the heading of a new problem."""
    text, answer = as_bytes(text), Answer("no_marker")
    spans, is_unclosed = stretches(text, traces)
    for start, end in spans:
        answer = find_in_stretch(text[start:end], answer_format, marker)
        is_over = answer.status in FOUND and heading(NEW_PROBLEM).search(text, start + answer.end, end)
        if answer.start >= 0:
            answer = answer._replace(start=start + answer.start, end=start + answer.end)
        if is_over:
            return answer
    return Answer("open_trace") if is_unclosed else answer


def find_in_stretch(text: bytes, answer_format: str, marker: str | bytes | None) -> Answer:
    if marker is not None:
        return first_answer(text, re.compile(re.escape(as_bytes(marker))))
    return FORMATS[answer_format](text)


def parse_number(text: str | bytes, answer_format: str = "gsm8k", marker: str | bytes | None = None) -> Answer:
    """Read a text as a gold answer."""
    text = as_bytes(text)
    at = skip(text, 0, SPACES)
    is_math = marker is None and answer_format in ("boxed", "answer-tag", "auto")
    opening = open_answer(text, at, is_math, is_whole=True)
    return no_number(text, at) if opening.kind == "nothing" else read_answer(text, at, opening)
