"""Mode "paper": every decision as the paper's script makes it. docs/semantics.md states the differences.

The script runs `eval` on the left side of an equation. Here Python's own parser reads it, and a small evaluator
computes what is arithmetic on numbers; all other code fails.

Production needs this file: `qrft.grading.undecided` sends here every text that C leaves undecided, so its answers enter
people's data. Texts of any bytes come in, and work and memory are bounded for each (MAX_BITS, MAX_LENGTH).
"""

from __future__ import annotations

import ast
import operator
import re
import struct
import warnings
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from qrft.grading.reference.grades import Grade
from qrft.grading.reference.keys import murmur3
from qrft.grading.reference.numbers import SPACES, as_bytes, skip

Number: TypeAlias = int | float

ANSWER = re.compile(rb"#### (-?[0-9.,]+)")
GOLD = re.compile(rb"-?[0-9.,]+")
TOLERANCE = 1e-3

# A power of any size would take any time. Python refuses an integer literal of more than 4,300 digits; this is more.
MAX_BITS = 16384
# Python fails at about 3,000 operators in a row, which are 6,000 characters.
MAX_LENGTH = 16384
# Whatever else Python allows needs another character, comments aside.
ARITHMETIC = re.compile(r"(?:[0-9A-FXOJa-fxoj_.+*/%^&|~<()\s\\-]|#[^\r\n]*)*", re.ASCII)

# ------------------------------------------------------------------------------------------------------ answers ----


class Answer(NamedTuple):
    status: str
    start: int = -1
    end: int = -1
    value: float | None = None


def read_answer(found: re.Match[bytes] | None, group: int) -> Answer:
    if found is None:
        return Answer("no_marker")
    try:
        return Answer("ok", *found.span(group), float(found[group].replace(b",", b"")))
    except ValueError:
        return Answer("not_a_number", *found.span(group))


def find_answer(text: str | bytes) -> Answer:
    return read_answer(ANSWER.search(as_bytes(text).partition(b"\0")[0]), 1)


def parse_number(text: str | bytes) -> Answer:
    """Read the text, from its first byte that is not white space, as if it followed the marker."""
    text = as_bytes(text)
    return read_answer(GOLD.match(text, skip(text, 0, SPACES)), 0)


def value_bytes(value: float | None) -> bytes:
    """Return a qrft_value: the double's bits, and a denominator that no exact value has."""
    if value is None:
        return bytes(32)
    return struct.pack("<dQQQ", value + 0.0, 0, 0, 1 << 63)  # -0.0 + 0.0 is 0.0


# ---------------------------------------------------------------------------------------------------- equations ----


class NotArithmetic(Exception):
    """Says that the left side is not arithmetic on numbers, or has no value."""


def bounded(value: Number) -> Number:
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise NotArithmetic
    return value


def power(base: Number, exponent: Number) -> Number:
    if isinstance(base, int) and isinstance(exponent, int) and (abs(base).bit_length() - 1) * exponent >= MAX_BITS:
        raise NotArithmetic
    value: object = base**exponent
    if not isinstance(value, int | float):  # complex: the script's float() refuses it in the end
        raise NotArithmetic
    return value


def shift_left(value: int, places: int) -> int:
    if value and places > MAX_BITS:
        raise NotArithmetic
    if not value and isinstance(places, int):
        places = min(places, 1)
    return value << places


BINARY: dict[type[ast.operator], Callable[..., Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: power,
    ast.LShift: shift_left,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
    ast.BitAnd: operator.and_,
}
UNARY: dict[type[ast.unaryop], Callable[..., Number]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Invert: operator.invert,
}


def postorder(root: ast.expr) -> list[ast.expr]:
    """Return operands before their operator, the left one first; without recursion, since sums are as deep as long."""
    stack, order = [root], []
    while stack:
        node = stack.pop()
        order.append(node)
        if isinstance(node, ast.BinOp):
            stack += [node.left, node.right]
        elif isinstance(node, ast.UnaryOp):
            stack.append(node.operand)
    return order[::-1]


def evaluate(root: ast.expr) -> Number:
    values: list[Number] = []
    for node in postorder(root):
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            values.append(node.value)  # type: ignore[arg-type]
        elif isinstance(node, ast.BinOp) and type(node.op) in BINARY:
            right = values.pop()
            values.append(bounded(BINARY[type(node.op)](values.pop(), right)))
        elif isinstance(node, ast.UnaryOp) and type(node.op) in UNARY:
            values.append(UNARY[type(node.op)](values.pop()))
        else:
            raise NotArithmetic
    return values.pop()


def left_value(code: str) -> float:
    if len(code) > MAX_LENGTH or not ARITHMETIC.fullmatch(code):
        raise NotArithmetic
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as "invalid decimal literal"
        tree = ast.parse(code.lstrip(" \t"), mode="eval")  # eval leaves these out, ast.parse does not
    return float(evaluate(tree.body))


def check_equation(text: str) -> bool:
    left, *rest = text.split("=")
    if not rest:
        return False
    try:
        return abs(left_value(left) - float(rest[0])) < TOLERANCE
    except (NotArithmetic, ArithmeticError, SyntaxError, TypeError, ValueError, MemoryError, RecursionError):
        return False


def find_equations(text: str | bytes) -> list[bytes]:
    """Return what re.findall(b"<<([^>]*)>>", text) does, which takes quadratic time on many << without >."""
    text = as_bytes(text)
    found, opening = [], text.find(b"<<")
    while opening >= 0 and (closing := text.find(b">", opening + 2)) >= 0:
        is_equation = text.startswith(b">>", closing)
        if is_equation:
            found.append(text[opening + 2 : closing])
        opening = text.find(b"<<", closing + 1 + is_equation)
    return found


def equations_status(equations: list[bytes]) -> str:
    # Bytes that are no UTF-8 become characters that no number has.
    right = all(check_equation(equation.decode("utf-8", "surrogateescape")) for equation in equations)
    return "ok" if right else "wrong"


def equation_key(text: str | bytes) -> bytes:
    return murmur3(b"|".join(find_equations(text)).replace(b" ", b""))


# -------------------------------------------------------------------------------------------------------- grade ----


def grade(completion: str | bytes, gold_answer: str | bytes) -> Grade:
    answer, gold = find_answer(completion), parse_number(gold_answer)
    equations = find_equations(completion)
    return Grade(
        answer.start,
        answer.end,
        answer.status,
        answer.value is not None and answer.value == gold.value,
        len(equations),
        equations_status(equations),
        equation_key(completion),
        "equations",
    )
