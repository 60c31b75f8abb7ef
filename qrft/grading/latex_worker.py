"""The process that compares expressions with Math-Verify: a pair of texts per line in, a verdict per line out, as JSON.

It is run as a file by qrft.grading.latex, which kills it when a pair takes too long. It imports nothing of qrft, so it
starts as fast as Math-Verify does.

Math-Verify leaves out what it can't parse, rounds to six decimals, and takes an equation for either of its sides. So
its "equal" counts only if nothing was left out of either text, and if the values are equal by the rules below; else the
verdict is "undecided".
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

MEMORY_BYTES = 4 << 30  # ten times what Math-Verify needs, so that 9^9^9^9 does not take all of the machine's


def limit(kind: int, amount: int) -> None:
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (amount if hard == resource.RLIM_INFINITY else min(amount, hard), hard))


def compare(gold: str, answer: str) -> bool | str:
    """Compare without Math-Verify's own time limits, which use signals; the parent process kills this one instead."""
    from math_verify import verify

    texts = [without_unit(text) for text in (gold, answer)]
    parsed = [parse(text) for text in texts]
    # Math-Verify returns only the text when it can't parse it, and nothing when it finds no expression.
    if not all(values and not isinstance(values[0], str) for values in parsed):
        return "error"
    if not verify(*parsed, timeout_seconds=None, raise_on_error=True):
        return False
    whole = all(is_whole(text, values[0]) for text, values in zip(texts, parsed, strict=True))
    return True if whole and are_equal(parsed[0][0], parsed[1][0]) else "undecided"


def parse(text: str) -> list[Any]:
    from math_verify import parse

    values: list[Any] = parse(f"${text}$", parsing_timeout=None)
    return values


# ------------------------------------------------------------------------------------------------ nothing left out ----

UNIT = re.compile(r"(?:\s|\\[ ,;:!])*\\(?:text(?:bf|it|rm)?|mathrm|mbox)\s*\{([^{}]*)\}(?:\^\{?[23]\}?)?\s*$")
NO_UNIT = re.compile(r"\d|\b(?:and|or|to|if|when|where|unless|otherwise|except|not|base)\b", re.IGNORECASE)
KNOWN_COMMAND = re.compile(
    r"""[dtc]?frac | sqrt | cdot | times | div | pm | mp | infty | leq? | geq? | lt | gt | neq? | in | cup | cap
    | emptyset | varnothing | left | right | [bB]ig[lr]? | (?:arc)?(?:sin|cos|tan) | cot | sec | csc | (?:sin|cos|tan)h
    | log | ln | exp | circ | degree | q?quad | begin | end | binom | alpha | beta | gamma | delta | epsilon | theta
    | lambda | mu | pi | rho | sigma | tau | phi | varphi | omega | Delta | Omega""",
    re.VERBOSE,
)
COMMAND = re.compile(r"\\(?:[A-Za-z]+|.)", re.DOTALL)
JOINING_WORD = re.compile(r"\\(?:text|mbox)\s*\{\s*(?:and|or)\s*\}")
PLAIN = re.compile(r"[A-Za-z0-9\s+\-*/^_(){}\[\]|=<>,.!:;'&%]*")
RELATION = re.compile(r"[<>=]|\\(?:le|leq|ge|geq|lt|gt|ne|neq|in)(?![A-Za-z])")
CHANGED = re.compile(r"\\[A-Za-z]+|(?P<digits>\d+)|(?P<letter>[A-Za-z])")
MAX_CHANGES = 24


def without_unit(text: str) -> str:
    """Return a text without the unit at its end, such as \\text{ cm}^2; a condition there is no unit."""
    found = UNIT.search(text)
    return text if found is None or NO_UNIT.search(found[1]) or found.start() == 0 else text[: found.start()]


def is_whole(text: str, value: Any) -> bool:
    """Return whether the value is of all of the text: of known signs alone, each digit and letter of which it needs."""
    rest = JOINING_WORD.sub(",", text)
    commands = [command[1:] for command in COMMAND.findall(rest)]
    is_known = all(KNOWN_COMMAND.fullmatch(name) or not name.isalpha() for name in commands)
    if not is_known or not PLAIN.fullmatch(COMMAND.sub("", rest)) or ".." in text:
        return False
    if RELATION.search(text) and not has_relation(value):
        return False
    changes = list(islice(changed(text), MAX_CHANGES + 1))
    return len(changes) <= MAX_CHANGES and all(differs(change, value) for change in changes)


def changed(text: str) -> Iterator[str]:
    """Yield the text with each of its numbers and letters changed in turn; the names of commands stay."""
    for found in CHANGED.finditer(text):
        if found["digits"]:
            other = found[0][:-1] + str((int(found[0][-1]) + 1) % 10)
        elif found["letter"]:
            other = "w" if found[0] in "vV" else "v"
        else:
            continue
        yield text[: found.start()] + other + text[found.end() :]


def differs(text: str, value: Any) -> bool:
    """Return whether a text is another value, or none."""
    from sympy import srepr

    try:
        values = parse(text)
    except Exception:
        return True
    return not values or isinstance(values[0], str) or srepr(values[0]) != srepr(value)


def has_relation(value: Any) -> bool:
    import sympy as sp

    is_statement = isinstance(value, sp.logic.boolalg.Boolean)
    return is_statement or (isinstance(value, sp.Basic) and bool(value.atoms(sp.Rel)))


# --------------------------------------------------------------------------------------------------- equal values ----

DIGITS = 60  # computed with
CLOSE = 40  # and compared to
POINTS = 5


def are_equal(gold: Any, answer: Any) -> bool:
    """Return whether two values are surely equal: numbers to forty digits, formulas at five points, sets by element."""
    import sympy as sp

    gold, answer = (stated(value) for value in (gold, answer))
    if gold is None or answer is None:
        return False
    if isinstance(gold, sp.Expr) and isinstance(answer, sp.Expr):
        return are_equal_expressions(gold, answer)
    if isinstance(gold, sp.MatrixBase) and isinstance(answer, sp.MatrixBase):
        return gold.shape == answer.shape and are_equal_lists(list(gold), list(answer))
    if type(gold) is not type(answer):
        return False
    if isinstance(gold, sp.Rel):
        return are_equal_relations(gold, answer)
    if isinstance(gold, sp.Interval):
        is_open = (gold.left_open, gold.right_open) == (answer.left_open, answer.right_open)
        return is_open and are_equal_lists(gold.args[:2], answer.args[:2])
    if isinstance(gold, (sp.FiniteSet, sp.Union, sp.Intersection, sp.And, sp.Or)):
        return are_equal_in_any_order(list(gold.args), list(answer.args))
    if isinstance(gold, sp.Tuple):
        return are_equal_lists(gold.args, answer.args)
    return bool(gold == answer)


def stated(value: Any) -> Any:
    """Return what an equation says: 5 of x = 5, 72 of 70+2 = 72; None for a false one; itself for any other."""
    import sympy as sp

    if value in (sp.true, sp.false):
        return None
    if not isinstance(value, sp.Eq):
        return value
    left, right = value.args
    if not value.free_symbols and isinstance(left, sp.Expr) and isinstance(right, sp.Expr):
        return right if are_equal_expressions(left, right) else None
    for name, other in ((left, right), (right, left)):
        if isinstance(name, (sp.Symbol, sp.core.function.AppliedUndef)) and not other.has(name):
            return other
    return value


def are_equal_lists(gold: Sequence[Any], answer: Sequence[Any]) -> bool:
    return len(gold) == len(answer) and all(map(are_equal, gold, answer))


def are_equal_in_any_order(gold: list[Any], answer: list[Any]) -> bool:
    if len(gold) != len(answer):
        return False
    for one in gold:
        place = next((place for place, other in enumerate(answer) if are_equal(one, other)), None)
        if place is None:
            return False
        del answer[place]
    return True


def are_equal_expressions(gold: Any, answer: Any) -> bool:
    if gold == answer:
        return True
    pairs = at_points(gold, answer)
    return pairs is not None and all(is_close(one, other) for one, other in pairs)


def are_equal_relations(gold: Any, answer: Any) -> bool:
    """Return whether the sides of two relations differ by a number times each other, above 0 where they are ordered."""
    import sympy as sp

    pairs = at_points(gold.lhs - gold.rhs, answer.lhs - answer.rhs)
    if not pairs:
        return False
    factors = [one / other if other else sp.nan for one, other in pairs]
    is_ordered = not isinstance(gold, (sp.Eq, sp.Ne))
    return all(is_close(factor, factors[0]) and (factor > 0 or not is_ordered) for factor in factors)


def at_points(*expressions: Any) -> list[tuple[Any, ...]] | None:
    """Return the values of expressions of numbers, or at points; None where too few points have one."""
    import sympy as sp

    exact = [each.xreplace({f: sp.Rational(str(f)) for f in each.atoms(sp.Float)}) for each in expressions]
    names = sorted(set().union(*(each.free_symbols for each in exact)), key=str)
    if not names:
        values = [sp.N(each, DIGITS) for each in exact]
        return [tuple(values)] if all(value.is_number and value.is_finite for value in values) else None
    found = []
    for number in range(3 * POINTS):
        point = {name: place(number, index) for index, name in enumerate(names)}
        values = [sp.N(each.subs(point), DIGITS) for each in exact]
        if all(value.is_number and value.is_finite for value in values):
            found.append(tuple(values))
    return found[:POINTS] if len(found) >= POINTS else None


def place(point: int, index: int) -> Any:
    """Return a number for the symbol of an index: of both signs, and small, so that powers can be computed."""
    import sympy as sp

    return sp.Rational((-1) ** (point + index) * (7 + 5 * point + 3 * index), 11 + 2 * ((3 * point + index) % 7))


def is_close(one: Any, other: Any) -> bool:
    if not (one.is_number and other.is_number) or not (one.is_finite and other.is_finite):
        return False
    return bool(abs(one - other) <= max(abs(one), abs(other)) * 10**-CLOSE)


def serve(seconds_a_pair: int) -> None:
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not be taken for a reply
    limit(resource.RLIMIT_AS, MEMORY_BYTES)
    import math_verify  # noqa: F401

    print("ready", file=replies, flush=True)
    for line in sys.stdin:
        # If the parent dies, this process must not compute on for ever.
        used = resource.getrusage(resource.RUSAGE_SELF)
        limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + seconds_a_pair + 5)
        try:
            verdict = compare(*json.loads(line))
        except (Exception, RecursionError, MemoryError):
            verdict = "error"
        print(json.dumps(verdict), file=replies, flush=True)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
