"""The reference's reading of what follows a number: whether the number is the whole answer."""

from __future__ import annotations

from qrft.grading.reference.answer_numbers import number_starts, read_number
from qrft.grading.reference.numbers import DIGITS, is_in, skip, skip_blanks
from qrft.grading.reference.opening import Opening
from qrft.grading.reference.patterns import (
    BLANKS,
    CLOSE_MATH,
    CLOSER,
    COMMAND,
    CURRENCY,
    DEGREE,
    GAP,
    LATEX_SPACE,
    MAKES_EXPRESSION,
    MATH,
    NUMERIC,
    OPERATOR,
    SEPARATOR,
    SIGN,
    TEXT,
    character,
    pattern,
)

CONDITION = "(?: (?: and | or | to | if | when | where | unless | otherwise | except | not | base ) (?![a-z]) )"
PREPOSITION = (
    "(?: (?: of | in | at | per | by | for | from | on | with | than | as | is | are | was | were ) (?![a-z]) )"
)

# ------------------------------------------------------------------------------------------------------ in math ----

POWER_OF_UNIT = r"(?: \^ (?: \d | \{\d\} ) )?"
SAYS_MORE = pattern(rf"(?<! [a-z^] ) \d | (?<! [a-z] ) {CONDITION}")
SIGN_OF_UNIT = pattern(rf"[.%*`] | _ (?! [a-z\d{{\\] ) | \\% | {LATEX_SPACE} | {DEGREE} | \\\$ | € | £ | ¥")
WORD_OF_UNIT = pattern(rf"(?! (?: pi (?![a-z]) | {CONDITION} ) ) [a-z][a-z]+ {POWER_OF_UNIT}")
TEXT_OF_UNIT = pattern(rf"{TEXT} (?P<words> [^}}]* ) (?: \Z | \}} {POWER_OF_UNIT} )")
GAP_HERE, CLOSER_HERE = pattern(GAP), pattern(CLOSER)


def read_unit(text: bytes, at: int) -> int | None:
    """Return where the unit at `at` ends, such as \\text{ cm}^2, which says no more than that."""
    if (found := TEXT_OF_UNIT.match(text, at)) is not None:
        return None if SAYS_MORE.search(found["words"]) else found.end()
    found = SIGN_OF_UNIT.match(text, at) or WORD_OF_UNIT.match(text, at)
    return found.end() if found else None


def skip_units(text: bytes, at: int, num_open: int, is_whole: bool) -> int | None:
    """Return where all that is open is closed, or the end; None if anything but units stands before."""
    while True:
        at = next(GAP_HERE.finditer(text, at)).end()
        if at == len(text):
            return at
        if (unit := read_unit(text, at)) is not None:
            at = unit
        elif (closer := CLOSER_HERE.match(text, at)) is not None:
            num_open, at = num_open - 1, closer.end()
            if num_open <= 0 and not is_whole:
                return at
        else:
            return None


# ------------------------------------------------------------------------------------------------ directly after ----

LINK = pattern(rf"(?: e {SIGN}? | \.\( | [._(] | {SEPARATOR} | {LATEX_SPACE} ) (?= \d )")
SIGNS = pattern(r"[\x80-\xff]{1,6} (?= \d )")
HEX, LETTERS = pattern("x [a-z]+"), pattern(r"[a-z]+ (?! [a-z] | [23] (?![a-z\d]) ) (?= \d )")
GROUP = pattern(r"\ (?= \d{3} (?!\d) )")
DOTS = pattern(r"… | \.\.\.")


def next_digits(text: bytes, start: int, at: int) -> int | None:
    """Return where the number from `start` to `at` goes on, behind what joins it to that."""
    if found := LINK.match(text, at):
        return found.end()
    if (sign := character(text, at)) in NUMERIC:
        return at + len(sign.encode())
    if found := SIGNS.match(text, at):
        return found.end()
    number = text[start:at]
    if (found := HEX.match(text, at) if number == b"0" else None) or (found := LETTERS.match(text, at)):
        return found.end()
    may_be_group = len(number) <= 3 and not number.startswith(b"0") and b"." not in number
    return found.end() if may_be_group and (found := GROUP.match(text, at)) else None


def number_tail(text: bytes, start: int, at: int) -> int | None:
    """Return where that ends of which the number from `start` to `at` is only the head."""
    tail = None
    while (digits := next_digits(text, start, at)) is not None:
        start, tail = digits, skip(text, digits, DIGITS)
        at = tail
    return tail


def is_truncated(text: bytes, start: int, at: int) -> bool:
    """Return whether it is the 3.33 of 3.33...; dots after a whole number are only punctuation."""
    return DOTS.match(text, at) is not None and b"." in text[start:at]


# ----------------------------------------------------------------------------------------------------- operators ----

NAMES = "(?: half | halves | (?: third | quarter | fourth | fifth | sixth | eighth | tenth ) s? )"
BASE = rf"\(? {BLANKS} (?: in (?![a-z]) )? {BLANKS} base (?![a-z])"
FRACTION_IN_WORDS = rf"and (?![a-z]) {BLANKS} (?: [a-z]* (?![a-z]) -? {BLANKS} )? {NAMES} (?![a-z])"
DEGREE_HERE, COMMAND_HERE, POWER_HERE = pattern(DEGREE), pattern(COMMAND), pattern(r"\^ [^ \t\n\v\f\r]")
OPERATOR_HERE, WORDS_HERE = pattern(OPERATOR), pattern(f"{BASE} | {FRACTION_IN_WORDS}")
OPERAND_HERE = pattern(rf"{BLANKS} {CURRENCY}? (?: [.]?\d | {COMMAND} )")


def goes_on(text: bytes, at: int) -> bool:
    """Return whether the number before `at` is the first of an expression, such as 10 - 3, 2^5, 2√3."""
    at = skip_blanks(text, at)
    if DEGREE_HERE.match(text, at):
        return False
    if COMMAND_HERE.match(text, at) or POWER_HERE.match(text, at) or character(text, at) in MAKES_EXPRESSION:
        return True
    if (operator := OPERATOR_HERE.match(text, at)) is None:
        return WORDS_HERE.match(text, at) is not None
    return OPERAND_HERE.match(text, operator.end()) is not None


def number_is_head(text: bytes, start: int, at: int) -> bool:
    """Return whether the number from `start` to `at` is the head of an expression, with nothing between."""
    if DEGREE_HERE.match(text, at):
        return False
    is_joined = COMMAND_HERE.match(text, at) or POWER_HERE.match(text, at) or character(text, at) in MAKES_EXPRESSION
    return bool(is_joined) or is_truncated(text, start, at)


# --------------------------------------------------------------------------------------------------------- parts ----

JOINT = pattern(rf"{BLANKS} (?: [,;] {BLANKS} )? (?: & | (?: and | or | to ) (?![a-z]) )?")
LEAD_OF_PART, MATH_HERE, CLOSE_MATH_HERE = pattern(f"{SIGN}? {CURRENCY}?"), pattern(MATH), pattern(CLOSE_MATH)
SIGN_OF_PART = pattern(rf"[%'\"*_`] | {DEGREE} | ′ | ″ | \\\$ | € | £ | ¥")
REMARK = pattern(r"\( [^)]* \)")
WORD_OF_PART = pattern(rf"(?! {CONDITION} ) (?: [a-z]{{1,3}} (?![a-z]) [.] | (?! {PREPOSITION} ) [a-z]+ (?![a-z]) )")
END_OF_ANSWER = pattern(rf"{BLANKS} [.!*_`\r]* \Z")


def end_of_line(text: bytes, at: int) -> int:
    end = text.find(b"\n", at)
    return len(text) if end < 0 else end


def skip_joint(text: bytes, at: int) -> int:
    return next(JOINT.finditer(text, at)).end()


def read_math(text: bytes, at: int) -> int | None:
    """Return where the math that opens at `at` ends."""
    opening = MATH_HERE.match(text, at)
    close = CLOSE_MATH_HERE.match(text, opening.end()) if opening else None
    return close.end() if close else None


def read_part(text: bytes, at: int) -> int | None:
    at = skip_blanks(text, at)
    if (math := read_math(text, at)) is not None:
        return math
    at = next(LEAD_OF_PART.finditer(text, at)).end()
    return read_number(text, at).end if number_starts(text, at) else None


def skip_unit(text: bytes, at: int) -> int:
    """Skip a unit of up to two words, remarks and signs."""
    num_words = 0
    while True:
        start = at = skip_blanks(text, at)
        if found := SIGN_OF_PART.match(text, at):
            at = found.end()
        if found := REMARK.match(text, at):
            at = found.end()
        if num_words < 2 and (found := WORD_OF_PART.match(text, at)):
            num_words, at = num_words + 1, found.end()
        if at == start:
            return at


def has_other_parts(text: bytes, at: int) -> bool:
    """Return whether the rest of the text is nothing but other parts and units: "5 feet 6 inches", "17 and 12"."""
    num_parts, needs_unit = 0, False
    while True:
        unit = skip_unit(text, at)
        joint = skip_joint(text, unit)
        has_unit = unit > skip_blanks(text, at)
        if needs_unit and not has_unit:
            return False
        part = read_part(text, joint) if has_unit or joint > unit else None
        if part is None:
            return num_parts > 0 and END_OF_ANSWER.match(text, unit) is not None
        at, needs_unit, num_parts = part, joint == unit, num_parts + 1


def end_of_math_parts(text: bytes, at: int) -> int:
    """Return where the parts in math end that `at`, the end of the first, is joined to."""
    line = text[: end_of_line(text, at)]
    while (joint := skip_joint(line, at)) > skip_blanks(line, at):
        if (part := read_math(line, skip_blanks(line, joint))) is None:
            break
        at = part
    return at


# ----------------------------------------------------------------------------------------------------- the whole ----


def what_follows(text: bytes, start: int, end: int, opening: Opening) -> str:
    """Return the status of a number from `start` to `end`."""
    if is_truncated(text, start, end):
        return "expression"
    if opening.is_math:
        closed = skip_units(text, end, opening.num_open, opening.is_whole)
        if closed is None:
            return "expression"
        if opening.box is not None:
            return "ok"
        end = closed
    num_closed = 0
    while num_closed < opening.num_marks and is_in(text, end, b"*_`"):
        num_closed, end = num_closed + 1, end + 1
    if end == len(text) or text[end] == ord("\n"):
        return "ok"
    if goes_on(text, end):
        return "expression"
    if next_digits(text, start, end) is not None:
        return "not_a_number"
    if opening.is_whole:
        return "expression" if SAYS_MORE.search(text[end:]) else "ok"
    return "expression" if has_other_parts(text[: end_of_line(text, end)], end) else "ok"
