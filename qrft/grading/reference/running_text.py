"""The reference's equations in running text: docs/semantics.md's rules, over a list of tokens."""

from __future__ import annotations

import re
from typing import NamedTuple

MAX_DEPTH = 64

CURRENCY = "(?:\\$|€|£|¥)"
SEPARATOR = r"(?:,\\!|\\!,|\\,|\{,\}|,)"
NUMBER = rf"(?:(?:[1-9]\d{{0,2}}(?:{SEPARATOR}\d{{3}}(?!\d))+|\d+)(?:\.\d+)?|\.\d+)"
TOKENS = {
    "line": r"[\n\v\f\r]",
    "blank": r"[ \t]+",
    "number": NUMBER,
    "bold": r"\*\*",
    "times x": rf"[xX](?=[ \t]*(?:{CURRENCY}[ \t]*)?(?:\(|\.?\d))",
    "minus": "-|−",
    "operator": r"\+|\*|×|//|/|÷|\^",
    "currency": CURRENCY,
    "open": r"\(",
    "close": r"\)",
    "equals": "=",
    "percent": "%",
    "command": r"\\[A-Za-z_]+|–[A-Za-z_]*",
    "word": "[A-Za-z_]+",
    "point": "[.,:]",
    "other": r"[\x00-\xff]",
}
PATTERN = re.compile("|".join(f"({rule})" for rule in TOKENS.values()).encode(), re.DOTALL)
KINDS = list(TOKENS)
OPERATORS = ("operator", "minus", "times x")


class Token(NamedTuple):
    kind: str
    start: int
    end: int


END = Token("end", -1, -1)


def tokens_of(text: bytes, start: int, end: int) -> list[Token]:
    # Cut out first: what follows the stretch must not decide how its last number is read.
    found = PATTERN.finditer(text[start:end])
    return [Token(KINDS[(match.lastindex or 1) - 1], start + match.start(), start + match.end()) for match in found]


class Bracket(NamedTuple):
    start: int  # what is inside
    num_operators: int  # of the chain, before it


class Reader:
    """Reads one stretch; `before` is how a number would be joined to what has been read: "", "touches" or "joins"."""

    def __init__(self, text: bytes, start: int, end: int) -> None:
        self.text = text
        self.tokens = tokens_of(text, start, end)
        self.at = 0
        self.before = ""
        self.is_first_of_line = start == 0
        self.is_before_mark = end < len(text)
        self.found: list[tuple[int, int]] = []

    def peek(self, ahead: int = 0) -> Token:
        return self.tokens[self.at + ahead] if self.at + ahead < len(self.tokens) else END

    def peek_beyond_blanks(self) -> Token:
        return self.peek(1) if self.peek().kind == "blank" else self.peek()

    def take(self, *kinds: str) -> bool:
        """Take a token of these kinds, over blanks."""
        blank = self.peek().kind == "blank"
        if self.peek(blank).kind not in kinds:
            return False
        self.at += blank + 1
        return True

    def operand_starts(self) -> bool:
        token, after = self.peek(), self.peek(1)
        if token.kind == "currency":
            token = self.peek(2) if after.kind == "blank" else after
        return token.kind in ("number", "open")

    def read(self) -> list[tuple[int, int]]:
        while self.peek() is not END:
            if self.peek().kind in ("line", "blank"):
                self.read_space()
                continue
            if self.operand_starts():
                self.read_chain()
            else:
                self.pass_over()
            self.is_first_of_line = False
        return self.found

    def read_space(self) -> None:
        is_line = self.peek().kind == "line"
        self.is_first_of_line = self.is_first_of_line or is_line
        if is_line or self.before == "touches":
            self.before = ""
        self.at += 1

    def pass_over(self) -> None:
        kind = self.peek().kind
        if kind in OPERATORS:
            is_bullet = self.text[self.peek().start : self.peek().end] in (b"-", b"*", b"+")
            is_item = self.is_first_of_line and is_bullet and self.peek(1).kind == "blank"
            self.before = "" if is_item else "joins"
        elif kind == "command":
            self.before = "joins"
        elif kind in ("word", "close") or (kind == "point" and self.before == "joins"):
            self.before = "touches"
        else:
            self.before = ""
        self.at += 1

    def read_operand(self, brackets: list[Bracket], num_operators: int, may_be_negative: bool) -> bool:
        while True:
            if may_be_negative and self.take("minus"):
                self.before = "joins"
            blank = self.peek().kind == "blank"
            self.at += blank
            if not self.operand_starts():
                return False
            self.take("currency")
            if self.take("number"):
                return True
            if len(brackets) == MAX_DEPTH:
                return False
            self.take("open")
            brackets.append(Bracket(self.tokens[self.at - 1].end, num_operators))
            self.before, may_be_negative = "", True

    def close_operand(self, brackets: list[Bracket]) -> int:
        """Take the signs after an operand and the brackets that close; return where the operand ends."""
        while True:
            if self.peek().kind == "percent" or (self.peek().kind == "currency" and not self.operand_starts()):
                self.at += 1
            end = self.tokens[self.at - 1].end
            if not brackets or not self.take("close"):
                return end
            brackets.pop()

    def read_chain(self) -> None:
        start, is_joined = self.peek().start, bool(self.before)
        num_operators = num_equals = 0
        may_be_negative = False
        brackets: list[Bracket] = []
        while self.read_operand(brackets, num_operators, may_be_negative):
            end = self.close_operand(brackets)
            kind = self.peek_beyond_blanks().kind
            may_be_negative = kind != "times x"
            if self.take("equals"):
                if brackets:
                    start, is_joined = brackets[-1].start, False
                    num_operators, num_equals = num_operators - brackets[-1].num_operators, 0
                    brackets.clear()
                num_equals += 1
                self.before = ""
            elif self.take(*OPERATORS):
                num_operators += 1
                self.before = "joins"
            else:
                self.before = "joins"
                is_whole = not brackets and not is_joined and num_equals > 0 and num_operators > 0
                if is_whole and not self.is_joined_after():
                    self.found.append((start, end))
                return

    def is_joined_after(self) -> bool:
        first, second, beyond = self.peek(), self.peek(1), self.peek_beyond_blanks()
        if first.kind in ("open", "word") or (first.kind == "point" and second.kind == "number"):
            return True
        if beyond is END:
            return self.is_before_mark
        return beyond.kind in ("number", "command", *OPERATORS)


def find_running(text: bytes, start: int, end: int) -> list[tuple[int, int]]:
    """Return the spans of the equations in a stretch of running text that ends at a mark or with the text."""
    return Reader(text, start, end).read()
