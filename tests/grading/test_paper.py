"""Mode "paper": the table of its decisions, the reference against Python's own `eval`, and C against the reference."""

from __future__ import annotations

import ast
import re
import time
import warnings

import pytest
from helpers.spec import examples, name_of
from helpers.texts import ANY_TEXT, QUICK, SOLUTION, fraction_of, gsm8k
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from qrft import grading
from qrft.grading.reference import paper

PATTERN = re.compile(rb"<<([^>]*)>>")  # the script's
PAPER = grading.Rules(mode="paper")

# ----------------------------------------------------------------------------------------------- the spec's tables ----


@pytest.mark.parametrize(("text", "gold", "status", "correct"), examples("paper answers"), ids=name_of)
def test_answers(text: str, gold: str, status: str, correct: str) -> None:
    row = grading.grade([text], [gold], rules=PAPER).to_pylist()[0]
    assert row == paper.grade(text, gold)._asdict()
    assert (row["status"], row["is_correct"]) == (status, correct == "yes")


@pytest.mark.parametrize(("text", "status"), examples("paper equations"), ids=name_of)
def test_equations(text: str, status: str) -> None:
    assert grading.grade([text], ["0"], rules=PAPER)["equations_status"].to_pylist() == [status]
    assert paper.grade(text, "0").equations_status == status


@pytest.mark.parametrize(("first", "second", "same"), examples("paper keys"), ids=name_of)
def test_keys(first: str, second: str, same: str) -> None:
    keys = grading.grade([first, second], ["0", "0"], rules=PAPER)["equation_key"].to_pylist()
    assert keys == [paper.equation_key(first), paper.equation_key(second)]
    assert (keys[0] == keys[1]) == (same == "yes")


# ----------------------------------------------------------------------------------------- the reference is Python ----

# Small bases and exponents: `eval` computes them here.
NUMBERS = ["0", "1", "2", "3", "7", "10", "12", "0.5", ".25", "5.", "0.1", "05", "00", "007.5", "1_0", "0x1F", "0b11"]
NUMBERS += ["1e2", "2.5E-1", "9007199254740993", "9223372036854775807", "123456789012345678901234567890", "2j", "1e400"]
NUMBERS += ["0.000001", "3.3333", "1000000.1", "99999999999999999", "0o17"]
OPERATORS = ["+", "-", "*", "/", "+", "-", "*", "/", "//", "%", "^", "&", "|", " + ", "\t-", " * "]
ALMOST = ["x", "(", ")", "#", " ", "\n", "\\\n", "\r", "\f", "$", ",", "é", "\ufeff", "\u00a0", "apples", "e", "_", "."]
ALMOST += ["**2", "~", "'1'", "not ", "if", "or", "\0", "\udc80", "\u0665", "[0]", "5", "1"]
EXPRESSION = st.recursive(
    st.sampled_from(NUMBERS),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(OPERATORS), inner).map("".join),
        inner.map(lambda text: f"({text})"),
        st.tuples(st.sampled_from(["-", "+", "- ", "~", "--"]), inner).map("".join),
        inner.map(lambda text: f"({text})**2"),
        st.tuples(inner, st.sampled_from(["**0", "**-1", "**0.5", "**3", "/0", "<<2"])).map("".join),
    ),
    max_leaves=6,
)
NEARLY = st.lists(st.one_of(EXPRESSION, st.sampled_from(ALMOST)), min_size=1, max_size=4).map("".join)
FLOATS = st.one_of(
    st.sampled_from(
        [*NUMBERS, "", " ", "inf", "nan", "-Infinity", "1e3", "+5", "- 5", "\u0665", "1\u00a0", "1\x1f", "."]
    ),
    st.floats().map(repr),
    st.decimals(-1000, 1000, places=4).map(str),
    NEARLY,
)


SMALL_POWER = re.compile(r"(?:\*\*|<<)(?:-1|0\.5|[0-5])(?![\w.])")


def is_small(code: str) -> bool:
    """Whether `eval` is sure to come back: at most two powers or shifts, by small literals."""
    return code.count("**") + code.count("<<") == len(SMALL_POWER.findall(code)) <= 2


def python_value(code: str) -> object:
    """What `eval` makes of it, with no names to look up; None when it fails."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return eval(code, {"__builtins__": {}})
        except Exception:
            return None


OTHER_CODE = (ast.BoolOp, ast.IfExp, ast.Compare, ast.Subscript, ast.Call, ast.Attribute, ast.Lambda)


def is_other_code(code: str) -> bool:
    """Whether it is more than arithmetic and yet may have a number for its value, as `1 or 'x'` has."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return any(isinstance(node, OTHER_CODE) for node in ast.walk(ast.parse(code.lstrip(" \t"), mode="eval")))


def passes_in_python(code: str, right: str) -> bool:
    value = python_value(code)
    if type(value) not in (int, float, complex) or is_other_code(code):  # the stated difference
        return False
    try:
        return abs(float(value) - float(right)) < 1e-3  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return False


@st.composite
def equation(draw: st.DrawFn) -> tuple[str, str]:
    """Often with the right value, or one near the tolerance's edge, on the right side."""
    code = draw(st.one_of(EXPRESSION, EXPRESSION, NEARLY)).replace("=", "").replace(">", "")
    assume(is_small(code))
    value = python_value(code)
    if type(value) in (int, float) and draw(st.booleans()):
        shift = draw(st.sampled_from([0, 0, 0.0009, -0.00099, 0.001, 0.0011]))
        try:
            right = draw(st.sampled_from([repr, lambda v: f"{v:.4f}", lambda v: f"{v:f}"]))(value + shift)  # type: ignore[operator]
            return code, right
        except OverflowError:
            pass
    return code, draw(FLOATS).replace("=", "").replace(">", "")


def check_equations(equations: list[tuple[str, str]]) -> None:
    texts = [f"<<{code}={right}>>" for code, right in equations]
    expected = ["ok" if passes_in_python(code, right) else "wrong" for code, right in equations]
    assert [paper.grade(text, "0").equations_status for text in texts] == expected
    assert grading.grade(texts, ["0"] * len(texts), rules=PAPER)["equations_status"].to_pylist() == expected


@QUICK
@given(st.lists(equation(), min_size=10, max_size=10))
def test_equations_are_what_eval_says(equations: list[tuple[str, str]]) -> None:
    check_equations(equations)


@pytest.mark.slow
@settings(QUICK, max_examples=20_000)
@given(st.lists(equation(), min_size=10, max_size=10))
def test_equations_are_what_eval_says_at_length(equations: list[tuple[str, str]]) -> None:
    check_equations(equations)


def test_every_pair_of_numbers_and_operator() -> None:
    """Not left to chance: what C computes itself and what it hands on meet at every edge."""
    numbers = [*NUMBERS, "-3", "9007199254740992", "9223372036854775808", "0.000000000000000001"]
    codes = [a + operator + b for a in numbers for b in numbers for operator in OPERATORS[:11]]
    check_equations([(code, repr(python_value(code))) for code in codes])
    check_equations([(number, number) for number in numbers])


# ----------------------------------------------------------------------------------------- C against the reference ----

PIECES = st.sampled_from(
    ["#### ", "####", "-", "1", "72", ",", ".", "\0", "$", " ", "<<", ">>", ">", "<", "5+3=8", "=", "|"]
)
ANY = st.one_of(ANY_TEXT, SOLUTION, st.lists(PIECES, max_size=14).map(lambda pieces: "".join(pieces).encode()))


def check_texts(texts: list[bytes], golds: list[bytes]) -> None:
    expected = [paper.grade(text, gold)._asdict() for text, gold in zip(texts, golds, strict=True)]
    assert grading.grade(texts, golds, rules=PAPER).to_pylist() == expected
    assert [paper.find_equations(text) for text in texts] == [PATTERN.findall(text) for text in texts]
    for found, read in (
        (grading.extract_answers, paper.find_answer),
        (grading.parse_numbers, paper.parse_number),
    ):
        answers, wanted = found(texts, rules=PAPER), [read(text) for text in texts]
        spans = zip(answers.statuses.to_pylist(), answers.starts.tolist(), answers.ends.tolist(), strict=True)
        assert list(spans) == [answer[:3] for answer in wanted]
        assert [bytes(value) for value in answers.values] == [paper.value_bytes(answer.value) for answer in wanted]


@QUICK
@given(st.lists(ANY, min_size=10, max_size=10), st.lists(ANY, min_size=10, max_size=10))
def test_made_texts(texts: list[bytes], golds: list[bytes]) -> None:
    check_texts(texts, golds)


@pytest.mark.slow
@settings(QUICK, max_examples=20_000)
@given(st.lists(ANY, min_size=10, max_size=10), st.lists(ANY, min_size=10, max_size=10))
def test_made_texts_at_length(texts: list[bytes], golds: list[bytes]) -> None:
    check_texts(texts, golds)


NUMBERS_OF_ANSWERS = [
    "72",
    "72.",
    ".5",
    "-.5",
    "-0",
    "0.0",
    ".",
    "-",
    "1.2.3",
    ",",
    "1,2,3",
    "00072",
    "9" * 400,
    "9" * 17,
]
NUMBERS_OF_ANSWERS += [
    "9" * 17 + ".0",
    "0." + "1" * 30,
    "1" + "0" * 400,
    "0." + "0" * 400 + "1",
    "9007199254740993",
    "7-2",
]


def test_every_pair_of_answers() -> None:
    pairs = [(a, b) for a in NUMBERS_OF_ANSWERS for b in NUMBERS_OF_ANSWERS]
    check_texts([f"#### {a}".encode() for a, _ in pairs], [b.encode() for _, b in pairs])


def test_exact_values_and_doubles_never_meet() -> None:
    """A table of gold answers read in one mode can't be taken for one of the other."""
    exact, double = (grading.parse_numbers(["1"], rules=rules).values[0] for rules in (grading.Rules(), PAPER))
    assert bytes(exact) != bytes(double)
    assert fraction_of(bytes(exact)) == 1


def test_undecided_rows_of_any_column() -> None:
    """Rows that need Python, among others, in slices, chunks and dictionaries."""
    import pyarrow as pa

    texts = ["<<2**3=8>> #### 8", "none", "<<1+1=2>> #### " + "9" * 400, "<<0x10=16>> #### 1", "<<1e1=11>> #### 1"]
    golds = ["8", "1", "9" * 401, "1", "2"]
    expected = [paper.grade(text, gold)._asdict() for text, gold in zip(texts, golds, strict=True)]
    assert [row["equations_status"] for row in expected] == ["ok", "ok", "ok", "ok", "wrong"]
    column, gold = pa.array(["skipped", *texts])[1:], pa.array(["skipped", *golds])[1:]
    for text_column in (column, pa.chunked_array([column[:1], column[1:]]), column.dictionary_encode()):
        for gold_column in (gold, gold.dictionary_encode()):
            assert grading.grade(text_column, gold_column, rules=PAPER).to_pylist() == expected


# --------------------------------------------------------------------------------------------------- real and huge ----


@pytest.mark.parametrize(("split", "num_equations", "wrong"), [("train", 23716, []), ("test", 4282, ["3/4=3/4"])])
def test_gsm8k_solutions(split: str, num_equations: int, wrong: list[str]) -> None:
    solutions = gsm8k(split)
    golds = [text.split("####")[1] for text in solutions]
    graded = grading.grade(solutions, golds, rules=PAPER)
    assert all(graded["is_correct"].to_pylist())
    assert sum(graded["num_equations"].to_pylist()) == num_equations
    failed = [row for row, status in enumerate(graded["equations_status"].to_pylist()) if status != "ok"]
    equations = [equation.decode() for row in failed for equation in paper.find_equations(solutions[row])]
    assert [equation for equation in equations if not paper.check_equation(equation)] == wrong


HUGE = 2_000_000
UNITS = {
    "opening brackets": b"(",
    "openings": b"<<",
    "closings": b">",
    "opened and not closed": b"<<>",
    "markers": b"#### ",
    "digits": b"9",
    "signs": b"-",
    "powers": b"9**",
    "shifts": b"9<<",
    "sums": b"1+",
    "products": b"9*",
    "spaces": b" ",
    "points": b".",
    "comments": b"#",
    "lines": b"1\n",
    "continued lines": b"\\\n",
    "underscores": b"1_",
    "brackets and signs": b"-(",
    "Python": b"[lambda:",
    "invalid": b"\xe2\x88",
}


@pytest.mark.parametrize("name", UNITS)
def test_huge_texts(name: str) -> None:
    """Linear, and bounded in what reaches Python's parser."""
    body = (UNITS[name] * HUGE)[:HUGE]
    short = UNITS[name] * 1500
    start = time.perf_counter()
    texts = [body, b"<<" + body + b"1=1>> #### " + body, b"<<1=" + body + b">>", b"<<" + short + b"1=1>>"]
    graded = grading.grade(texts, [b"1"] * len(texts), rules=PAPER)
    assert time.perf_counter() - start < 10
    assert graded.num_rows == len(texts)


@pytest.mark.parametrize("code", ["9**9**9", "9**9**9**9", "1<<99999999999", "(9**999)**999", "-9**-9**9", "2**9**9%7"])
def test_powers_are_bounded(code: str) -> None:
    start = time.perf_counter()
    assert grading.grade([f"<<{code}=1>>"], ["1"], rules=PAPER)["equations_status"].to_pylist() == ["wrong"]
    assert time.perf_counter() - start < 1
