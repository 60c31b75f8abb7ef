"""All ways to compute an expression in steps of two numbers: what the paths of a tiny-paths problem are.

A step takes two known numbers of one sum, or of one product. Sums may be taken in any order and grouping, and a product
of a sum may be taken apart: (a+b)*c is a*c+b*c. No other step leads on, so a right path is one of these, or broken.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from itertools import combinations
from typing import NamedTuple, TypeAlias, TypeVar

T = TypeVar("T")


class Sum(NamedTuple):
    """Terms with their signs, 1 or -1, at least two of them."""

    terms: tuple[tuple[int, Expression], ...]


class Product(NamedTuple):
    factors: tuple[Expression, ...]


Expression: TypeAlias = "int | Sum | Product"


class Step(NamedTuple):
    left: int
    sign: str
    right: int
    value: int

    @property
    def expression(self) -> str:
        return f"{self.left}{self.sign}{self.right}"

    def __str__(self) -> str:
        return f"{self.expression}={self.value}"


Path = tuple[Step, ...]


def value(expression: Expression) -> int:
    """Return what the expression is worth."""
    if isinstance(expression, int):
        return expression
    if isinstance(expression, Sum):
        return sum(sign * value(term) for sign, term in expression.terms)
    return math.prod(map(value, expression.factors))


def magnitude(expression: Expression) -> int:
    """Return a bound on every number of every path: what it is worth with all signs positive."""
    if isinstance(expression, int):
        return expression
    if isinstance(expression, Sum):
        return sum(magnitude(term) for _, term in expression.terms)
    return math.prod(map(magnitude, expression.factors))


def paths(expression: Expression) -> frozenset[Path]:
    """Return all paths from the expression to its value; none that takes a step again."""
    return frozenset(path for path in _paths(expression) if len({*path}) == len(path))


@lru_cache(maxsize=1 << 14)
def _paths(expression: Expression) -> frozenset[Path]:
    if isinstance(expression, int):
        return frozenset([()])
    found: set[Path] = set()
    for form in forms(expression):
        for step, rest in _steps(form):
            found.update((step, *path) for path in _paths(rest))
    return frozenset(found)


def forms(expression: Expression) -> frozenset[Expression]:
    """Return the expression with its products of sums taken apart in every way, or left as they are."""
    found, new = {expression}, [expression]
    while new:
        for form in _taken_apart(new.pop()):
            if form not in found:
                found.add(form)
                new.append(form)
    return frozenset(found)


def _taken_apart(expression: Expression) -> Iterator[Expression]:
    """Yield the expression with one of its sums split in two inside its product."""
    if isinstance(expression, int):
        return
    for at, part in enumerate(_parts(expression)):
        for form in _taken_apart(part):
            yield _with(expression, at, form)
        if isinstance(expression, Product) and isinstance(part, Sum):
            for halves in _halves(part.terms):
                yield total([(sign, _with(expression, at, half)) for sign, half in halves])


def _halves(terms: tuple[tuple[int, Expression], ...]) -> Iterator[tuple[tuple[int, Expression], ...]]:
    """Yield each way to divide the terms into two sums, with the sign that makes each of them positive."""
    for number in range(1, len(terms)):
        for chosen in combinations(range(len(terms)), number):
            if 0 in chosen:
                rest = [i for i in range(len(terms)) if i not in chosen]
                yield tuple(_signed([terms[i] for i in half]) for half in (list(chosen), rest))


def _signed(terms: list[tuple[int, Expression]]) -> tuple[int, Expression]:
    sign = 1 if sum(s * value(term) for s, term in terms) > 0 else -1
    return sign, total([(sign * s, term) for s, term in terms])


def _steps(expression: Expression) -> Iterator[tuple[Step, Expression]]:
    """Yield each step that two known numbers allow, and what is left to compute."""
    if isinstance(expression, int):
        return
    parts = _parts(expression)
    for at, part in enumerate(parts):
        for step, rest in _steps(part):
            yield step, _with(expression, at, rest)
    for i, j in combinations(range(len(parts)), 2):
        left, right = parts[i], parts[j]
        if not (isinstance(left, int) and isinstance(right, int)):
            continue
        if isinstance(expression, Product):
            step = Step(left, "*", right, left * right)
            yield step, times(_joined(expression.factors, i, j, step.value))
        else:
            sign, step = _added(expression.terms[i][0], left, expression.terms[j][0], right)
            yield step, total(_joined(expression.terms, i, j, (sign, step.value)))


def _added(first: int, left: int, second: int, right: int) -> tuple[int, Step]:
    """Return a step over two signed numbers, and the sign of its result: the smaller is taken from the larger."""
    if first == second:
        return first, Step(left, "+", right, left + right)
    if left > right:
        return first, Step(left, "-", right, left - right)
    return second, Step(right, "-", left, right - left)


def _parts(expression: Sum | Product) -> tuple[Expression, ...]:
    return expression.factors if isinstance(expression, Product) else tuple(term for _, term in expression.terms)


def _with(expression: Sum | Product, at: int, part: Expression) -> Expression:
    """Return the expression with another part in that place."""
    if isinstance(expression, Product):
        return times([*expression.factors[:at], part, *expression.factors[at + 1 :]])
    terms = expression.terms
    return total([*terms[:at], (terms[at][0], part), *terms[at + 1 :]])


def _joined(items: tuple[T, ...], i: int, j: int, item: T) -> list[T]:
    """Return the items with one in the place of number i and number j."""
    return [*items[:i], item, *items[i + 1 : j], *items[j + 1 :]]


def total(terms: list[tuple[int, Expression]]) -> Expression:
    """Return the sum, with sums among its terms opened; a single term stands for itself."""
    opened: list[tuple[int, Expression]] = []
    for sign, term in terms:
        inner = term.terms if isinstance(term, Sum) else ((1, term),)
        opened += [(sign * s, t) for s, t in inner]
    return opened[0][1] if len(opened) == 1 else Sum(tuple(opened))


def times(factors: list[Expression]) -> Expression:
    """Return the product, with products among its factors opened, and without factors of one."""
    opened: list[Expression] = []
    for factor in factors:
        opened += factor.factors if isinstance(factor, Product) else [factor]
    opened = [factor for factor in opened if factor != 1]
    return opened[0] if len(opened) == 1 else Product(tuple(opened))
