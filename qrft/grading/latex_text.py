"""The texts of expressions: the same ones in different spellings, answers of several parts, times of day."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from qrft.grading.reference.patterns import FRACTIONS, SUPERSCRIPTS

DELIMITERS = re.compile(r"(?<!\\)(?:\\[()\[\]]|\$+)")
WIDE_SPACES = re.compile("[\u00a0\u2000-\u200a\u202f\u205f\u3000]")
RAISED = re.compile(f"(⁻?)([{SUPERSCRIPTS}]+)")
LOWERED = re.compile("[₀-₉]+")
SIGNS = re.compile("([" + "".join(FRACTIONS) + "])")
MIXED = re.compile(r"(?<![\d.,])(\d+)\s*([" + "".join(FRACTIONS) + "])")
ROOT = re.compile(r"√\s*(\d+|[a-z])")
SPELLINGS = {
    **dict.fromkeys("−‐‑‒–﹣－", "-"),
    **{"×": r"\times ", "÷": r"\div ", "·": r"\cdot ", "⋅": r"\cdot ", "⁄": "/", "∕": "/", "π": r"\pi "},
    **{"∞": r"\infty ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "±": r"\pm ", "°": r"^\circ ", "∪": r"\cup "},
    **{"∩": r"\cap ", "∈": r"\in ", "∅": r"\emptyset ", "…": r"\ldots "},
}
MARKS = " \t\n\v\f\r*_`"


def plain(answer: bytes) -> str:
    """Return an answer's text in LaTeX, without the marks of math, such as $, and without Markdown around it."""
    text = DELIMITERS.sub(" ", answer.decode("utf-8", "replace"))
    text = (text if text.isascii() else in_latex(text)).strip(MARKS)
    return text if text.endswith("..") else text.removesuffix(".").strip(MARKS)


def in_latex(text: str) -> str:
    """Return a text with the signs that LaTeX writes in letters written so."""
    text = MIXED.sub(lambda found: _fraction(int(found[1]) + FRACTIONS[found[2]]), WIDE_SPACES.sub(" ", text))
    text = SIGNS.sub(lambda found: _fraction(FRACTIONS[found[1]]), text)
    text = RAISED.sub(lambda found: f"^{{{'-' * bool(found[1])}{_digits(found[2], SUPERSCRIPTS)}}}", text)
    text = LOWERED.sub(lambda found: f"_{{{_digits(found[0], '₀₁₂₃₄₅₆₇₈₉')}}}", text)
    text = ROOT.sub(r"\\sqrt{\1}", text)
    return "".join(SPELLINGS.get(sign, sign) for sign in text)


def _fraction(value: Fraction) -> str:
    return rf"\frac{{{value.numerator}}}{{{value.denominator}}}"


def _digits(text: str, digits: str) -> str:
    return text.translate(str.maketrans(digits, "0123456789"))


# --------------------------------------------------------------------------------------------------- equal texts ----

TEXT = re.compile(r"\\(?:text(?:bf|it|rm)?|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
NOTHING = re.compile(r"\\(?:left|right|[bB]igg?[lr]?|displaystyle)(?![A-Za-z])|\\[ ,;:!]|\\q?quad(?![A-Za-z])|~")
FRAC = re.compile(r"\\[dtc]frac(?![A-Za-z])")
SHORT_FRAC = re.compile(r"\\frac\s*(\d)\s*(\d)")
BRACED = re.compile(r"([\^_])\{(\w)\}")
SPACE = re.compile(r"(?<!\d)\s+|\s+(?!\d)")


def is_same(gold: str, answer: str) -> bool:
    """Return whether two plain texts are the same but for their spelling, without any mathematics."""
    if gold == answer or normal(gold) == normal(answer):
        return True
    if (time := time_of(gold)) is not None:
        return time == time_of(answer)
    return are_same_parts(parts(gold), parts(answer))


def normal(text: str) -> str:
    """Return a text without what changes nothing in LaTeX: spaces, sizes, words set as words, braces about one sign."""
    text = NOTHING.sub(" ", TEXT.sub(r" \1 ", text))
    text = SHORT_FRAC.sub(r"\\frac{\1}{\2}", FRAC.sub(r"\\frac", text))
    return SPACE.sub("", BRACED.sub(r"\1\2", text).strip())


TIME = re.compile(r"(\d{1,2})(?::(\d\d))?([ap]m)?")


def time_of(text: str) -> tuple[int, bool] | None:
    """Return a time of day in minutes, and whether it is told from the one twelve hours later; None for no time."""
    found = TIME.fullmatch(re.sub(r"[\s.]", "", TEXT.sub(r"\1", text)).lower())
    if found is None or not (found[2] or found[3]):
        return None
    hour, minute = int(found[1]), int(found[2] or 0)
    if minute > 59 or hour > (12 if found[3] else 24):
        return None
    hour = hour % 12 + 12 * (found[3] == "pm") if found[3] else hour
    return 60 * hour + minute, bool(found[3]) or hour > 12 or hour == 0


# --------------------------------------------------------------------------------------------------------- parts ----


class Part(NamedTuple):
    value: Fraction
    unit: str  # its first word, without the s of many


JOINT = r"\s*(?:[,;]\s*)?(?:&|(?:and|or)\b)?\s*"
WORD = r"(?:(?!(?:and|or|to)\b)[A-Za-z]+\.?)"
NUMBER = r"([-+]?)\s*[$€£¥]?\s*(\d{1,3}(?:,\d{3})+|\d+)(\.\d+)?(?:/(\d+))?(?![\d.,/]*\d)"
PART = rf"{NUMBER}\s*(\([^()]*\)|{WORD}(?:\s+{WORD})?|%|)"
PARTS = re.compile(rf"{PART}({JOINT})")


def parts(text: str) -> list[Part]:
    """Return the numbers, with their units, that an answer lists and nothing else; none where it is another text."""
    text, at, found = NOTHING.sub(" ", TEXT.sub(r" \1 ", text)).strip(), 0, []
    while at < len(text):
        if (part := PARTS.match(text, at)) is None or part.end() == at:
            return []
        sign, whole, decimals, denominator, unit, joint = part.groups()
        if (denominator and not int(denominator)) or (part.end() < len(text) and not unit and not joint.strip()):
            return []
        value = Fraction(whole.replace(",", "") + (decimals or "")) / int(denominator or 1)
        name = (unit.strip("(). ").lower().split() or [""])[0].removesuffix("s")
        found.append(Part(-value if sign == "-" else value, name))
        at = part.end()
    return found


def are_same_parts(gold: list[Part], answer: list[Part]) -> bool:
    """Return whether two lists are of the same numbers in the same order, and of the same units where both have one."""
    if len(gold) < 2 or len(gold) != len(answer):
        return False
    return all(
        one.value == other.value and (one.unit == other.unit or not one.unit or not other.unit)
        for one, other in zip(gold, answer, strict=True)
    )
