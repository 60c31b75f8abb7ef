"""The reference's sound paths: whether what leads to a right answer does. docs/semantics.md says what is sound."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

from qrft.grading.reference.equations import counted, find_in_stretch
from qrft.grading.reference.known import UNIT, in_millionths, is_full, is_same, known_numbers, serves
from qrft.grading.reference.numbers import CURRENCIES, MINUS, as_bytes, literal_starts
from qrft.grading.traces import Traces

MOST_STEPS, MOST_RESULTS, MOST_OPERANDS, MOST_VALUES = 64, 128, 32, 4


class Step(NamedTuple):
    """An equation: its text without white space, the numbers before its last =, and those after it."""

    text: bytes
    operands: list[int | None]
    results: list[int | None]
    num_terms: int  # one more than its plus signs


@dataclass
class Result:
    """What a step derives, or with an empty text, what running text shows behind a =."""

    values: list[int]
    text: bytes
    is_derived: bool  # by an operation, and so to be used
    num_copies: int = 1
    uses: int = 0  # as an operand
    uses_before_copy: int = 0
    most_at_once: int = 0
    is_mentioned: bool = False

    def is_needed(self, answer: int | None) -> bool:
        return self.uses > 0 or self.is_mentioned or not self.is_derived or serves(answer, self.values)

    def is_repeated(self) -> bool:
        """Return whether a copy was needless: no step uses all of them, nor was each used before the next was made."""
        is_used_each = self.uses > self.uses_before_copy >= self.num_copies - 1
        return self.num_copies > 1 and not is_used_each and self.most_at_once < self.num_copies


def numbers_in(text: bytes) -> list[tuple[int, int | None]]:
    """Return where the literals of a text begin, and what they are worth."""
    found: list[tuple[int, int | None]] = []
    at = 0
    while at < len(text):
        if literal_starts(text, at):
            value, end = in_millionths(text, at)
            found.append((at, value))
            at = end
        else:
            at += 1
    return found


def without_signs(text: bytes) -> bytes:
    """Return what stands before a number, without the currency and the minus that belong to it."""
    return without_sign(without_sign(text.rstrip(b" \t"), CURRENCIES), MINUS)


def without_sign(text: bytes, signs: Iterable[str]) -> bytes:
    found = next((sign for sign in signs if text.endswith(sign.encode())), "")
    return text.removesuffix(found.encode()).rstrip(b" \t")


def read_step(equation: bytes) -> Step:
    left, _, right = equation.rpartition(b"=")
    operands, results = ([value for _, value in numbers_in(part)] for part in (left, right))
    return Step(re.sub(rb"[ \t-\r]", b"", equation), operands, results, left.count(b"+") + 1)


@dataclass
class Path:
    """A path as it is followed; `fault` is the first thing wrong with it."""

    known: set[int]
    results: list[Result] = field(default_factory=list)
    last: list[int] = field(default_factory=list)
    fault: str = ""
    num_steps: int = 0

    def blame(self, fault: str) -> None:
        self.fault = self.fault or fault

    def take(self, step: Step, is_shown: bool) -> None:
        """Follow a step. is_shown: a left side of a single number is no operand, since the text derives it."""
        if len(step.operands) > MOST_OPERANDS or len(step.results) > MOST_VALUES:
            self.blame("too_long")
            return
        is_derived = len(step.operands) > 1
        if is_derived or not is_shown:
            self.use(step)
        self.last = [value for value in step.results if value is not None]
        if step.num_terms <= MOST_OPERANDS:
            self.known.add(step.num_terms * UNIT)  # to divide by, for a mean
        self.add(Result(self.last, step.text, is_derived))

    def use(self, step: Step) -> None:
        for value in step.operands:
            if not (serves(value, self.derived()) or any(value is not None and is_same(value, k) for k in self.known)):
                self.blame("unknown_number")
        for result in self.results:
            uses = sum(serves(value, result.values) for value in step.operands)
            result.uses += uses
            result.most_at_once = max(result.most_at_once, uses)

    def derived(self) -> list[int]:
        return [value for result in self.results for value in result.values]

    def add(self, new: Result) -> None:
        copies = [result for result in self.results if result.text and result.text == new.text]
        for result in copies:
            result.num_copies += 1
            result.uses_before_copy = result.uses
            self.results.remove(result)
        self.results.append(copies[0] if copies else new)
        if len(self.results) > MOST_RESULTS:
            self.blame("too_long")

    def take_text(self, text: bytes, follows_mark: bool) -> None:
        """Read the running text between two equations: what it mentions is used, and what stands behind = is known."""
        for start, value in numbers_in(text):
            before = without_signs(text[:start])
            if value is None or (follows_mark and not before):  # <<2+3=5>>5 says it again
                continue
            for result in self.results:
                result.is_mentioned = result.is_mentioned or serves(value, result.values)
            if before.endswith(b"="):
                self.last = [value]
                self.add(Result([value], b"", False))

    def status(self, answer: int | None) -> str:
        if self.fault or not self.num_steps or not self.results:
            return self.fault or "no_equations"
        if answer is not None and not serves(answer, self.last):
            return "other_result"
        if not all(result.is_needed(answer) for result in self.results[:-1]):
            return "unused_result"
        return "repeated" if any(result.is_repeated() for result in self.results) else "sound"


def follow(path: Path, text: bytes, source: str, *, with_text: bool, skips_wrong: bool) -> None:
    """Follow the equations of a stretch; with_text: and what stands between them."""
    at, follows_mark = 0, False
    for start, end, status in find_in_stretch(text, source):
        path.num_steps += 1
        if path.num_steps > MOST_STEPS:
            path.blame("too_long")
        if status != "ok" and skips_wrong:
            continue
        if status != "ok":
            path.blame("wrong_equation")
        marks = 2 if text[:start].endswith(b"<<") else 0
        before = text[at : start - marks]
        if with_text:
            path.take_text(before, follows_mark)
        path.take(read_step(text[start:end]), with_text and without_signs(before).endswith(b"="))
        at, follows_mark = end + marks, marks > 0
    if with_text:
        path.take_text(text[at:], follows_mark)


def soundness(
    question: str | bytes,
    completion: str | bytes,
    answer: Fraction | None,
    equations: str = "marked",
    traces: Traces | None = None,
) -> str:
    """Return whether a path is sound, or why not; answer: that of the path, None if it is no number."""
    text, known, wanted = as_bytes(completion), known_numbers(question), answer_in_millionths(answer)
    if is_full(known):
        return "too_long"
    stretches = [text[start:end] for start, end in counted(text, traces)]
    alone, whole = Path(set(known)), Path(set(known))
    for stretch in stretches:
        follow(alone, stretch, equations, with_text=False, skips_wrong=False)
    status = alone.status(wanted)
    if status in ("sound", "repeated", "too_long"):
        return status
    for stretch in stretches:
        follow(whole, stretch, "anywhere", with_text=True, skips_wrong=status != "no_equations")
    second = whole.status(wanted)
    return second if status == "no_equations" or second == "sound" else status


def answer_in_millionths(answer: Fraction | None) -> int | None:
    """Return an answer without its sign, cut to six decimals; None where there is no number, or too large a one."""
    if answer is None:
        return None
    whole, rest = divmod(abs(answer.numerator), answer.denominator)
    if whole >= 10**12 or rest * UNIT >= 1 << 128:
        return None
    return whole * UNIT + rest * UNIT // answer.denominator
