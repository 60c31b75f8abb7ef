"""The report's words for verdicts, statuses and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# The models of a run, in the order in which they are shown.
MODELS = {"base": "Base", "sft": "SFT", "control": "SFT, RFT's steps", "rft": "RFT"}
BEFORE = {"sft": "SFT", "base": "the base model"}  # what RFT is compared with

VERDICTS = {
    "kept": "kept",
    "duplicate": "same equations as a kept path",
    "duplicate_of_gold": "same equations as the gold solution",
    "over_limit": "beyond the limit of paths per problem",
    "cut_off": "right answer, but cut off at the token limit",
    "unsound": "right answer by unsound reasoning",
    "bad_equation": "right answer, wrong equation",
    "incorrect": "wrong answer or none",
}

ANSWERS = {
    "ok": "a number",
    "no_marker": "no answer",
    "open_trace": "no answer: the model was still thinking",
    "not_a_number": "no number where the answer should be",
    "too_big": "a number too big to compare",
    "expression": "an expression, which was not compared (pip install 'qrft[latex]')",
    "latex_equal": "the same expression as the gold answer",
    "latex_different": "a different expression from the gold answer",
    "latex_undecided": "an expression that may equal the gold answer, but was not read to its end",
    "latex_timeout": "an expression that took too long to compare",
    "latex_error": "an expression that can't be read, or whose gold answer can't be",
}

EQUATIONS = {
    "ok": "every equation right, or no equation",
    "wrong": "an equation is wrong",
    "malformed": "an equation can't be read",
    "empty": "an equation is empty",
    "unclosed": "an equation is never closed",
    "fractional_power": "an equation's exponent is not a whole number",
    "overflow": "an equation's numbers are too big",
    "division_by_zero": "an equation divides by zero",
    "too_deep": "an equation's brackets are nested too deeply",
}

SOUNDNESS = {
    "sound": "sound",
    "unknown_number": "a number comes from nowhere",
    "unused_result": "a result is never used",
    "repeated": "a step is repeated",
    "other_result": "the last result is not the answer",
    "wrong_equation": "an equation in the text is wrong",
    "no_equations": "no equation to follow",
    "too_long": "too long to follow",
    "not_judged": "it has no answer that reasoning could lead to",
}

JUDGES = {
    "answer": "the answer that the problem came with",
    "vote": "the answer that its samples voted for",
    "verdict": "the verdict of its file",
    "nothing": "nothing: there is no answer",
}

UNTOLD = "untold"
ENDINGS = {
    "stop": "the model ended the text",
    "length": "cut off at the token limit",
    UNTOLD: "made elsewhere, without word of how it ended",
}

# What is wrong with one equation, after its text.
EQUATION_TROUBLE = {
    "wrong": "is wrong",
    "malformed": "can't be read",
    "empty": "is empty",
    "unclosed": "is never closed",
    "fractional_power": "has an exponent that is not a whole number",
    "overflow": "has numbers too big to check",
    "division_by_zero": "divides by zero",
    "too_deep": "has brackets nested too deeply",
}


def plural(count: int, noun: str) -> str:
    """Return a count with its noun, such as 1 problem or 2,000 problems."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def points(difference: float) -> str:
    """Return a difference of shares in percentage points without its sign, such as 6.1 points."""
    shown = f"{abs(difference) * 100:.1f}"
    return f"{shown} point" if shown == "1.0" else f"{shown} points"


def signed(difference: float) -> str:
    """Return a difference of shares in percentage points with its sign, such as +6.1 points."""
    sign = "" if round(difference, 3) == 0 else "+" if difference > 0 else "\u2212"
    return f"{sign}{points(difference)}"


# The forms in which answers are looked for (qrft.evaluation.forms), with what each is.
FORMS = {
    "found": ("answer found", "An answer in the form that was asked for, right or wrong"),
    "strict": ("strict", "Right in the form that was asked for"),
    "flexible": ("flexible", "Right in the form that was asked for, or where there is no answer in it, in any other"),
    "last_number": ("last number", "The last number of the text is right"),
}


def evidence(facts: Mapping[str, Any]) -> str:
    """Return the evidence for the gain: its interval, and what that counts."""
    shown = interval(facts["gain_low"], facts["gain_high"])
    if number := facts.get("num_clusters"):
        return f"{shown}, over {plural(number, 'cluster')} of alike problems"
    if facts["p_value"] is None:
        return f"{shown}, paired bootstrap"
    return f"{shown}, {p_value(facts['p_value'])} by exact McNemar if the problems are independent"


def interval(low: float, high: float) -> str:
    """Return the 95% interval of a difference of shares, in points."""
    ends = (f"{100 * end:+.1f}".replace("-", "−") for end in (low, high))
    return f"95% interval {' to '.join(ends)} points"


def p_value(p: float) -> str:
    """Return a p-value in words, such as p = 0.030, p = 0.0003 or p < 0.0001."""
    if p < 0.0001:
        return "p < 0.0001"
    return f"p = {p:.4f}" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def percent(share: float) -> str:
    return f"{share * 100:.1f}%"


def duration(seconds: float) -> str:
    """Return a time in two units at most, such as 0.4 s, 12 s, 3 min 5 s or 2 h 10 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def short(value: float, unit: str) -> str:
    """Return a cost as its column shows it, such as 3.1e13, 4,096, 3 min 5 s or 12.4 kJ."""
    if unit == "flops":
        digits, _, exponent = f"{value:.1e}".partition("e")
        return f"{digits}e{int(exponent)}"
    if unit.endswith("_seconds"):
        return duration(value)
    return f"{value / 1000:,.1f} kJ" if unit.endswith("_joules") else f"{value:,.0f}"
