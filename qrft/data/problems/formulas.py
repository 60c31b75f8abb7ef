"""Worked solutions made from formulas such as "(14-8)*2=12": each operation one line, marked as GSM8K marks it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction

_MOST = 200  # characters of a formula: parsing takes a stack as deep as its brackets
_UNIT = re.compile(r"\(\s*[A-Za-z$][^()]*\)")  # "(min/hour)" behind a number
_STATEMENT = re.compile(r"([\d.+\-*/()\s]+)=\s*[\d.]+\s*")
_SIGNS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}


def solution(formula: str, answer: str) -> str:
    """Return the formula's calculations, which stand apart by ";", as steps that end in the answer after "#### ".

    "" for a formula with anything but sums, differences, products and quotients of numbers, one whose results are
    negative or no finite decimals, and one that does not give the answer.
    """
    try:
        statements = [_STATEMENT.fullmatch(part) for part in _UNIT.sub("", formula[:_MOST]).split(";")]
        lines, result = [], ""
        for statement in statements:
            if statement is None:
                return ""
            *steps, result = _steps(ast.parse(statement[1].strip(), mode="eval").body)
            lines += steps
        return "\n".join([*lines, f"#### {result}"]) if lines and Fraction(result) == Fraction(answer) else ""
    except (ArithmeticError, SyntaxError, ValueError):
        return ""


def _steps(node: ast.expr) -> Iterator[str]:
    """Yield a line for every operation, then the result. Raises ValueError for what is no such expression."""
    if isinstance(node, ast.Constant):
        yield _decimal(Fraction(str(node.value)))
        return
    if not isinstance(node, ast.BinOp) or type(node.op) not in _SIGNS:
        raise ValueError(ast.dump(node))
    *before, left = _steps(node.left)
    *between, right = _steps(node.right)
    result = _decimal(_computed(Fraction(left), node.op, Fraction(right)))
    calculation = f"{left}{_SIGNS[type(node.op)]}{right}"
    yield from (*before, *between, f"{calculation}=<<{calculation}={result}>>{result}", result)


def _computed(left: Fraction, sign: ast.operator, right: Fraction) -> Fraction:
    if isinstance(sign, ast.Add):
        return left + right
    if isinstance(sign, ast.Sub):
        return left - right
    return left * right if isinstance(sign, ast.Mult) else left / right


def _decimal(number: Fraction) -> str:
    """Return a number that is not negative as a finite decimal. Raises ValueError for any other."""
    quotient = Decimal(number.numerator) / number.denominator
    text = f"{quotient.normalize():f}"
    if number < 0 or Fraction(text) != number:
        raise ValueError(text)
    return text
