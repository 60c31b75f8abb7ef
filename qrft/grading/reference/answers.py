"""The reference's answers: where a text's answer stands, and its value."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from qrft.grading.reference.numbers import (
    DIGITS,
    SPACES,
    Literal,
    add,
    as_bytes,
    is_in,
    literal_starts,
    multiply,
    read_literal,
    skip,
    skip_blanks,
)


class Answer(NamedTuple):
    status: str
    start: int = -1
    end: int = -1
    value: Fraction | None = None


FOUND = ("ok", "too_big", "expression")  # the statuses of a text that has an answer


def pattern(source: str) -> re.Pattern[bytes]:
    """Return a pattern over bytes that ignores case; white space in the source does not count."""
    return re.compile(source.encode(), re.VERBOSE | re.DOTALL | re.IGNORECASE)


BLANKS = r"(?: [ \t] | \xc2\xa0 )*"
SIGN = r"(?: [+-] | − )"
CURRENCY = r"(?: \\?\$ | € | £ | ¥ )"
TIMES = r"(?: [*xX] | × )"
OPERATOR = rf"(?: \^ | : | {SIGN} | {TIMES} | // | / | ÷ )"
SEPARATOR = r"(?: ,\\! | \\!, | \\, | \{,\} | , )"
TEXT = r"(?: \\(?-i: text(?:bf|it|rm)? | mathrm | mathbf | mbox ) \{ )"
DEGREE = r"(?: \^\\(?-i:circ)(?![a-z]) | \^\{\\(?-i:circ)\} | ° )"

# ------------------------------------------------------------------------------------------- what an answer opens ----


@dataclass
class Opening:
    """What stands before an answer, and whether one begins at `at`: a "number", an "expression" or "nothing"."""

    at: int
    kind: str = "nothing"
    number_start: int | None = None  # the first sign or currency
    expression_start: int | None = None  # that, or the first opener other than a box
    is_negative: bool = False
    is_math: bool = False
    box: int | None = None  # where the content of the last box begins
    math: int | None = None  # where the last $, \( or \[ stands
    num_open: int = 0
    num_marks: int = 0


SIGN_HERE, CURRENCY_HERE, TEXT_HERE = pattern(SIGN), pattern(CURRENCY), pattern(TEXT)
BOX_HERE = pattern(rf"\\(?-i: boxed | fbox ) {BLANKS} \{{")
MATH_HERE = pattern(r"\$\$ | \\[(\[] | (?<!\\) \$(?= (?: \\[^\n] | [^$\\\n] )* (?<![ \t]) \$ (?!\d) )")
BRACE_HERE, MARK_HERE = pattern(r"\{"), pattern(r"[*_`]")
GAP = pattern(r"(?: [ \t\n\v\f\r] | \xc2\xa0 )*")


def skip_gap(text: bytes, opening: Opening) -> int:
    """Return where the gap at the opening ends; a line break is a part of it in math only."""
    return next(GAP.finditer(text, opening.at)).end() if opening.is_math else skip_blanks(text, opening.at)


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


COMMAND = rf"(?: (?! {TEXT} | \\(?-i: circ | q?quad )(?![a-z]) ) \\[a-z] )"
VARIABLE = rf"(?: [a-z] (?![a-z]) {BLANKS} (?: [-+*/^=<>] | − | × | ÷ ) )"
EXPRESSION_HERE = pattern(
    rf"""{COMMAND} | {VARIABLE}
    | (?: (?: \( | \[ | \| | \\\{{ ) {BLANKS} {SIGN}? ){{1,8}}
      (?: [.]?\d | {COMMAND} | {VARIABLE} | [a-z] {BLANKS} , )"""
)
CLOSER = r"(?: \} | \$ | \\\) | \\\] )"
CLOSER_HERE = pattern(CLOSER)


def open_answer(text: bytes, at: int, is_math: bool = False) -> Opening:
    opening = Opening(at, is_math=is_math)
    read_prefix(text, opening)
    if literal_starts(text, opening.at) or read_frac(text, opening.at):
        opening.kind = "number"
    elif opening.is_math:
        is_empty = opening.at == len(text) or CLOSER_HERE.match(text, opening.at)
        opening.kind = "nothing" if is_empty else "expression"
    elif EXPRESSION_HERE.match(text, opening.at):
        opening.kind = "expression"
    return opening


# ---------------------------------------------------------------------------------------------------- the number ----


class Number(NamedTuple):
    """A number as it was read. Its value is None when it is too big, or when its denominator is 0."""

    end: int
    value: Fraction | None
    is_number: bool = True


class Fractional(NamedTuple):
    end: int
    numerator: Fraction | None
    denominator: Fraction | None


FRAC = pattern(r"\\(?-i: [dt]?frac )")
ARGUMENT = pattern(rf"{BLANKS} (?: (?P<digit> \d ) | \{{ {BLANKS} (?P<sign> {SIGN} )? {BLANKS} (?P<number> (?=\d) ) )")
CLOSE_ARGUMENT = pattern(rf"{BLANKS} \}}")
POWER = pattern(
    rf"{BLANKS} (?: {TIMES} | \\(?-i: times | cdot )(?![a-z]) ) {BLANKS} 10\^ (?: {SIGN}?\d+ | \{{{SIGN}?\d+\}} )"
)
EXPONENT = pattern(rf"e {SIGN}? \d+")


def read_whole(text: bytes, at: int) -> Literal | None:
    if not is_in(text, at, DIGITS):
        return None
    literal = read_literal(text, at)
    return literal if literal.places == 0 else None


def read_argument(text: bytes, at: int, may_be_signed: bool) -> tuple[int, Fraction | None] | None:
    """Read the {3} or 3 of a \\frac: where it ends, and its value."""
    if (found := ARGUMENT.match(text, at)) is None or (found["sign"] and not may_be_signed):
        return None
    if found["digit"]:
        return found.end(), Fraction(int(found["digit"]))
    literal = read_whole(text, found.end())
    if literal is None or (close := CLOSE_ARGUMENT.match(text, literal.end)) is None:
        return None
    is_negative = found["sign"] not in (None, b"+")
    return close.end(), -literal.value if is_negative and literal.value is not None else literal.value


def read_frac(text: bytes, at: int) -> Fractional | None:
    if (found := FRAC.match(text, at)) is None:
        return None
    if (n := read_argument(text, found.end(), True)) is None or (d := read_argument(text, n[0], False)) is None:
        return None
    return Fractional(d[0], n[1], d[1])


def read_slash(text: bytes, at: int) -> Fractional | None:
    """Read the 3/4 at `at`."""
    if (n := read_whole(text, at)) is None or not is_in(text, slash := skip_blanks(text, n.end), b"/"):
        return None
    d = read_whole(text, skip_blanks(text, slash + 1))
    return Fractional(d.end, n.value, d.value) if d is not None else None


def read_proper(text: bytes, at: int) -> Fractional | None:
    """Read the 1/2 of "1 1/2" or 1\\frac{1}{2}, from the end of the whole number on."""
    start = skip_blanks(text, at)
    fraction = read_frac(text, start) or (read_slash(text, start) if start > at else None)
    if fraction is None or fraction.numerator is None or fraction.denominator is None:
        return fraction
    return fraction if 0 <= fraction.numerator < fraction.denominator else None


def quotient(whole: Fraction | None, fraction: Fractional) -> Number:
    if whole is None or fraction.numerator is None or fraction.denominator is None:
        return Number(fraction.end, None)
    if fraction.denominator == 0:
        return Number(fraction.end, None, False)
    return Number(fraction.end, add(whole, fraction.numerator / fraction.denominator))


def scale(value: Fraction | None, exponent: bytes) -> Fraction | None:
    digits = exponent.lstrip("+-−".encode()).lstrip(b"0") or b"0"
    if value is None or len(digits) > 2 or int(digits) > 38:
        return None
    power = Fraction(10 ** int(digits))
    return multiply(value, 1 / power if exponent[:1] in (b"-", b"\xe2") else power)


def read_number(text: bytes, at: int) -> Number:
    if (frac := read_frac(text, at)) is not None:
        return quotient(Fraction(0), frac)
    literal = read_literal(text, at)
    if (found := EXPONENT.match(text, literal.end)) is not None:
        return Number(found.end(), scale(literal.value, found[0][1:]))
    if (found := POWER.match(text, literal.end)) is not None:
        return Number(found.end(), scale(literal.value, found[0].split(b"^")[1].strip(b"{}")))
    if literal.places == 0 and (slash := read_slash(text, at)) is not None:
        return quotient(Fraction(0), slash)
    if literal.places == 0 and (proper := read_proper(text, literal.end)) is not None:
        return quotient(literal.value, proper)
    return Number(literal.end, literal.value)


# ----------------------------------------------------------------------------------------------- what follows it ----

LATEX_SPACE = r"(?: ~ | \\[ ,;:!] | \\(?-i: q?quad )(?![a-z]) )"
POWER_OF_UNIT = r"(?: \^ (?: \d | \{\d\} ) )?"
UNITS_HERE = pattern(
    rf"""(?: [ \t\n\v\f\r] | \xc2\xa0 | {LATEX_SPACE} | \\?% | \\\$ | € | £ | ¥ | {DEGREE} | [.*_`]
    | {TEXT} [^}}]* (?: \}} | \Z ) {POWER_OF_UNIT} | (?! pi (?![a-z]) ) [a-z][a-z]+ {POWER_OF_UNIT} )+"""
)
CUT_SHORT = pattern(rf"(?: [.] | {SEPARATOR} )? \d | e {SIGN}? \d")
GOES_ON = pattern(
    rf"{BLANKS} (?! {DEGREE} ) (?: \^\S | {OPERATOR} {BLANKS} {CURRENCY}? (?: [.]?\d | {COMMAND} ) | {COMMAND} )"
)


def is_whole_in_math(text: bytes, end: int, num_open: int) -> bool:
    """Return whether only units follow, up to where all that the prefix opened is closed."""
    while True:
        if (found := UNITS_HERE.match(text, end)) is not None:
            end = found.end()
        elif end == len(text):
            return True
        elif (found := CLOSER_HERE.match(text, end)) is not None:
            num_open, end = num_open - 1, found.end()
            if num_open <= 0:
                return True
        else:
            return False


def what_follows(text: bytes, end: int, opening: Opening) -> str:
    """Return the status of a number that ends at `end`."""
    if opening.is_math:
        return "ok" if is_whole_in_math(text, end, opening.num_open) else "expression"
    num_closed = 0
    while num_closed < opening.num_marks and is_in(text, end, b"*_`"):
        num_closed, end = num_closed + 1, end + 1
    if CUT_SHORT.match(text, end):
        return "not_a_number"
    return "expression" if GOES_ON.match(text, end) else "ok"


# ------------------------------------------------------------------------------------------------------ the span ----

CLOSE_MATH = pattern(r"(?: \\[^)\]] | [^$\\] )* ( \$\$? | \\[)\]] )")


def end_of_line(text: bytes, at: int) -> int:
    end = text.find(b"\n", at)
    return len(text) if end < 0 else end


def end_of_box(text: bytes, at: int) -> int:
    """Return where the box whose content begins at `at` is closed, or the end of the line when it never is."""
    depth = 0
    for found in re.compile(rb"\\.|[{}]", re.DOTALL).finditer(text, at):
        if found[0] == b"}" and depth == 0:
            return found.start()
        depth += {b"{": 1, b"}": -1}.get(found[0], 0)
    return end_of_line(text, at)


def trimmed(status: str, text: bytes, start: int, end: int, extra: bytes = b"") -> Answer:
    start = min(skip(text, start, SPACES), end)
    while end > start and text[end - 1] in SPACES + extra:
        end -= 1
    return Answer(status, start, end)


def no_number(text: bytes, at: int) -> Answer:
    """Return the span of what stands after a marker or in a box instead of an answer."""
    box = BOX_HERE.match(text, at)
    start, end = (box.end(), end_of_box(text, box.end())) if box else (at, end_of_line(text, at))
    return trimmed("not_a_number", text, start, end)


def expression(text: bytes, opening: Opening) -> Answer:
    start = opening.at if opening.expression_start is None else opening.expression_start
    if opening.box is not None:
        return trimmed("expression", text, start, end_of_box(text, opening.box))
    if opening.math is not None and (found := CLOSE_MATH.match(text, opening.at)) is not None:
        return Answer("expression", start, found.end())
    return trimmed("expression", text, start, end_of_line(text, opening.at), b".")


def read_answer(text: bytes, at: int, opening: Opening) -> Answer:
    """Read the answer that begins at the opening, which was read from `at` on."""
    if opening.kind == "expression":
        return expression(text, opening)
    number = read_number(text, opening.at)
    status = what_follows(text, number.end, opening) if number.is_number else "not_a_number"
    if status == "expression":
        return expression(text, opening)
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
ANSWER_IS = pattern(
    rf"(?<![a-z]) answer (?![a-z]) (?: [ \t*_`] | \xc2\xa0 )* (?: is (?![a-z]) (?: {BLANKS} : )? | [:=] )"
)
NEW_PROBLEM = "question | problem | q | instruction | exercise | human | user"
NEW_SOLUTION = f"{NEW_PROBLEM} | solution | response"


def heading(words: str) -> re.Pattern[bytes]:
    return pattern(rf"\n (?= (?: [ \t#*_>`] | \xc2\xa0 )* (?: {words} ) (?![a-z]) [ \t\r\d.*_`]* (?: : | \n | \Z ) )")


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


LEAD = pattern(rf"(?: {SIGN} {CURRENCY}? | {CURRENCY} {SIGN}? )?")
SIGN_AFTER_VALUE = pattern(rf"(?<= [a-z0-9)\]}}] ) {SIGN}")
POINT_IN_WORD = pattern(r"(?<= [a-z0-9] ) [.]")
IN_WORD = pattern(r"(?<= [a-z] ) \d | (?<= \^ ) | (?<= \^\{ )")


def last_number(text: bytes) -> Answer:
    digit = re.search(rb"\d", text)
    text = cut(text, digit.start(), NEW_PROBLEM) if digit else text
    at, answer = 0, Answer("no_marker")
    while at < len(text):
        lead = LEAD.match(text, at)
        digits = lead.end() if lead else at
        starts = literal_starts(text, digits) or read_frac(text, digits) is not None
        if not starts or SIGN_AFTER_VALUE.match(text, at) or POINT_IN_WORD.match(text, at):
            at += 1
            continue
        number = read_number(text, digits)
        if not IN_WORD.match(text, at):
            opening = Opening(
                digits, "number", at, is_negative=b"-" in text[at:digits] or "−".encode() in text[at:digits]
            )
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


def find_answer(text: str | bytes, answer_format: str = "gsm8k", marker: str | bytes | None = None) -> Answer:
    text = as_bytes(text)
    if marker is not None:
        return first_answer(text, re.compile(re.escape(as_bytes(marker))))
    return FORMATS[answer_format](text)


def parse_number(text: str | bytes, answer_format: str = "gsm8k", marker: str | bytes | None = None) -> Answer:
    """Read a text as a gold answer."""
    text = as_bytes(text)
    at = skip(text, 0, SPACES)
    opening = open_answer(text, at, is_math=marker is None and answer_format in ("boxed", "answer-tag", "auto"))
    return no_number(text, at) if opening.kind == "nothing" else read_answer(text, at, opening)
