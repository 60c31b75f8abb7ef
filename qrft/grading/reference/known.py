"""The reference's known numbers: what a question says, in digits and in words, and what goes without saying.

A number counts in millionths, so that 0.25 is 250,000: docs/semantics.md, "Sound paths".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from qrft.grading.reference.numbers import as_bytes, is_in, literal_starts, read_literal, skip

UNIT = 1_000_000
LIMIT = 1 << 62
COUNTED = range(7)  # people count so far without saying it
MOST_KNOWN = 28  # numbers of a question, beside the whole ones below 256


class Word(NamedTuple):
    """What a word says: a number of its own, a scale (hundred), the parts of a whole (third), what goes with it."""

    number: int | None = None
    scale: int = 0
    parts: int = 0
    facts: tuple[float, ...] = ()


WORDS: dict[bytes, Word] = {}


def define(names: str, word: Word) -> None:
    WORDS.update(dict.fromkeys(names.encode().split(), word))


SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
PARTS = "third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"
for _value, _name in enumerate(SMALL.split()):
    define(_name, Word(number=_value))
for _value, _name in enumerate(TENS.split(), 2):
    define(_name, Word(number=10 * _value))
for _value, _name in enumerate(PARTS.split(), 3):
    define(_name, Word(parts=_value, facts=(_value,)))
for _name, _value in {"hundred": 100, "thousand": 1000, "million": 1_000_000, "dozen": 12}.items():
    define(_name, Word(scale=_value, facts=(_value,)))
for _names, _facts in {
    "half halve halved halfway": (2, 0.5),
    "twice double doubled doubling both pair couple twin": (2,),
    "thrice triple tripled tripling trio triplet triangle tricycle": (3,),
    "quadruple quadrupled": (4,),
    "second": (2, 60),
    "minute": (60, 0.5, 0.25),
    "hour hourly": (60, 24),
    "day daily": (7, 24, 30, 365),
    "week weekly": (7, 4, 52, 5),
    "month monthly": (12, 30, 31),
    "year yearly annual annually": (12, 365, 52),
    "decade": (10,),
    "century centuries": (100,),
    "january march may july august october december": (31,),
    "april june september november": (30,),
    "february": (28, 29),
    "noon midnight pm am": (12, 24),
    "percent percentage cent penny pennies": (100,),
    "nickel": (5,),
    "dime": (10,),
    "inch inches foot feet": (12,),
    "yard": (3, 36),
    "mile": (5280, 1760),
    "ounce oz pound lb": (16, 2000),
    "ton": (2000, 1000),
    "cup pint quart gallon": (2, 4, 8, 16),
    "km kilometer kilometre kg kilogram gram liter litre ml milliliter millilitre": (1000,),
    "meter metre cm centimeter centimetre": (10, 100, 1000),
    "circle": (360,),
    "finger toe": (10, 20),
    "insect ant hexagon": (6,),
    "spider octopus octagon": (8,),
}.items():
    define(_names, Word(facts=_facts))
define("quarter", Word(parts=4, facts=(4, 0.25, 25, 3)))

LETTERS = re.compile(rb"[A-Za-z]+")


def word_of(text: bytes) -> Word:
    """Return what a word says, in any case, as a plural too."""
    text = text.lower()
    return WORDS.get(text.removesuffix(b"s")) or WORDS.get(text) or Word()


def in_millionths(text: bytes, at: int) -> tuple[int | None, int]:
    """Return the literal at `at`, cut to six decimals, or None when it is too large; and where it ends."""
    end = read_literal(text, at).end
    whole, _, decimals = text[at:end].partition(b".")
    digits = re.sub(rb"\D", b"", whole).lstrip(b"0")
    if len(digits) > 12:
        return None, end
    return int(digits or b"0") * UNIT + int(decimals[:6].ljust(6, b"0")), end


class Question:
    """Reads a question from left to right; `known` is what it says."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.known = {value * UNIT for value in COUNTED}
        self.before: int | None = None  # the number just said: nothing but white space, hyphens, "and", "a" behind it
        self.is_worded = False  # it was said in words
        self.whole: int | None = None  # the one before that: the 1 of "1 1/2", while 1/2 is read
        self.read()

    def read(self) -> None:
        at = 0
        while at < len(self.text):
            if literal_starts(self.text, at):
                value, at = in_millionths(self.text, at)
                self.say(value, is_worded=False)
            elif letters := LETTERS.match(self.text, at):
                self.hear(letters.group())
                at = letters.end()
            elif is_in(self.text, at, b"/") and self.before is not None:
                at = self.read_denominator(skip(self.text, at + 1, b" \t"))
            else:
                if is_in(self.text, at, b"%"):
                    self.say_percent()
                if not is_in(self.text, at, b" \t\n\v\f\r-"):
                    self.before = None
                at += 1

    def add(self, *values: int | None) -> None:
        self.known |= {value for value in values if value is not None and 0 <= value < LIMIT}

    def say(self, value: int | None, is_worded: bool) -> None:
        self.add(value)
        self.whole, self.before, self.is_worded = self.before, value, is_worded

    def hear(self, letters: bytes) -> None:
        word = word_of(letters)
        self.add(*(int(value * UNIT) for value in word.facts))
        if word.number is not None:
            self.say(self.with_room_for(word.number * UNIT), is_worded=True)
        elif word.scale:
            scaled = (UNIT if self.before is None else self.before) * word.scale
            self.say(scaled if scaled < LIMIT else None, is_worded=True)
        elif letters.lower() == b"half" and self.before is not None:
            self.add(self.before + UNIT // 2)  # two and a half
            self.before = None
        elif letters.lower() == b"percent":
            self.say_percent()
        elif word.parts:
            self.say_parts(word.parts * UNIT)
        elif letters.lower() not in (b"and", b"a"):
            self.before = None

    def with_room_for(self, value: int) -> int:
        """Return a number in words with what stands before it, if that leaves room for it: the 25 of twenty-five."""
        room = (10 if value < 10 * UNIT else 100) * UNIT
        return value + self.before if self.is_worded and self.before and self.before % room == 0 else value

    def say_percent(self) -> None:
        self.add(100 * UNIT)
        if self.before is not None:
            rest, more = 100 * UNIT - self.before, 100 * UNIT + self.before
            self.add(self.before // 100, rest, rest // 100, more, more // 100)
        self.before = None

    def read_denominator(self, at: int) -> int:
        value, end = in_millionths(self.text, at) if literal_starts(self.text, at) else (None, at)
        self.add(value)
        self.say_parts(value)
        return end

    def say_parts(self, parts: int | None) -> None:
        """Add the share that `before` of so many parts are, what they leave and what they make: 3/4, and 1 and 7."""
        if self.before is not None and parts:
            share = self.before * UNIT // parts
            self.add(share, abs(parts - self.before), parts + self.before)
            if self.whole is not None:
                self.add(self.whole + share)
        self.before = None


def known_numbers(question: str | bytes) -> set[int]:
    """Return the numbers that a path may use without deriving them, in millionths."""
    return Question(as_bytes(question)).known


def is_full(known: set[int]) -> bool:
    """Return whether a question says more numbers than are kept of one."""
    return sum(value % UNIT != 0 or value >= 256 * UNIT for value in known) > MOST_KNOWN


def is_same(value: int, known: int) -> bool:
    """Return whether two numbers are equal, or one is the hundredfold of the other, which has decimals: 0.25 and 25."""
    has_decimals = value % UNIT != 0 or known % UNIT != 0
    return value == known or (has_decimals and (value * 100 == known or value == known * 100))


def is_rounded(value: int, result: int) -> bool:
    """Return whether `value` is a whole number next to `result`, which is none."""
    return value % UNIT == 0 and result % UNIT != 0 and abs(value - result) < UNIT


def serves(value: int | None, numbers: Iterable[int]) -> bool:
    """Return whether a number is one of some results, as it is or rounded."""
    return value is not None and any(is_same(value, one) or is_rounded(value, one) for one in numbers)
