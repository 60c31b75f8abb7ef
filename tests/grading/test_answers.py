"""Answers in every format: C against the reference, published complaints, linear time, LaTeX judged outside."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from typing import get_args

import pyarrow as pa
import pytest
from helpers.commands import python, run_process
from helpers.texts import QUICK, fraction_of, gsm8k
from hypothesis import given, settings
from hypothesis import strategies as st

from qrft import grading
from qrft.grading import latex, reference
from qrft.grading.rules import AnswerFormat

FORMATS = get_args(AnswerFormat)
CALLERS = ["=>", " ", "$", "-", "answer", "**", "\\boxed{", "(", "1", "a a", "é", "\\"]
TRACED = [
    grading.Rules(trace_tags="<a> <b>", answer_format="boxed"),
    grading.Rules(trace_is_open=True, answer_format="answer-tag"),
    grading.Rules(trace_tags="< ##", answer_format="auto"),
    grading.Rules(trace_tags="none", answer_format="last-number"),
]
RULES = (
    TRACED
    + [grading.Rules(answer_format=name) for name in FORMATS]
    + [grading.Rules(marker=marker) for marker in CALLERS]
)

# ---------------------------------------------------------------------------------------------------- strategies ----

NUMBERS = ["0", "1", "2", "7", "12", "100", "0.5", ".25", "5.", "1,000", "1{,}000", "1,\\!000", "\\,000", ",00", "1e5"]
WIDE = ["170141183460469231731687303715884105727", "99999999999999999999", "0.0000000000000000001", "e38", "E-39"]
SIGNS = ["+", "-", "−", "*", "x", "×", "/", "//", "÷", "(", ")", "[", "|", "%", "=", "^", ":", "e", ",", ".", "<", "~"]
MONEY = ["$", "\\$", "€", "£", "¥", "°", "^\\circ", "^{\\circ}", "\\%", "$$"]
LATEX = [
    "\\frac",
    "\\dfrac34",
    "{3}",
    "{4}",
    "{-3}",
    "\\frac{1}{2}",
    "\\times 10^3",
    "x 10^{-2}",
    "\\cdot",
    "\\sqrt{2}",
]
LATEX += [
    "\\(",
    "\\)",
    "\\[",
    "\\]",
    "{",
    "}",
    "\\{",
    "\\\\",
    "\\",
    "\\text{",
    "\\text{ cm}",
    "^2",
    "^{2}",
    "\\pi",
    "\\quad",
]
MARKERS = [
    "####",
    "#### ",
    "\\boxed{",
    "\\boxed",
    "\\fbox {",
    "The answer is ",
    "Answer:",
    "ANSWER",
    " is",
    ":",
    "**",
    "_",
    "`",
]
MARKERS += ["=>", "answer = ", "\\boxed{}", "#", "<answer>", "</Answer>", "<answer>\n", "\n</answer>"]
LAYOUT = [" ", " ", "\u00a0", "\t", "\n", "\n\n", "\v", "\0", "\r\n"]
WORDS = [
    "apples",
    "x",
    "y",
    "pi",
    "Question",
    "Problem 2",
    "### Instruction:",
    "Solution:",
    "Q:",
    "a",
    "H2O",
    "é",
    "cm",
]
SIGNS += [
    "½",
    "⅔",
    "³",
    "⁻",
    "₂",
    "√",
    "π",
    "⁄",
    "·",
    "’",
    "'",
    "\u2009",
    "\u202f",
    "–",
    "－",
    "±",
    "…",
    "...",
    "̅",
    "２",
]
LATEX += ["_2", "_{", "\\ ", "\\text{ and }", "\\text{ if ", "\\text{m2}"]
WORDS += [
    "feet",
    "in.",
    "and",
    "or",
    "to",
    "of",
    "base 2",
    " and a half",
    "(years old)",
    "元",
    "h30",
    "0x",
    "&",
    ";",
    "!",
]
LAYOUT += ["<think>", "</think>", "<think>", "</think>\n", "<a>", "<b>", "<", "\n\nQuestion: 2\n"]
JUNK = [b"\xff", b"\xe2\x88", b"\xc2", b"\xa0", b"\xb0", b"\x80"]

PIECES = [
    reference.as_bytes(text) for text in NUMBERS * 2 + WIDE + SIGNS + MONEY + LATEX + MARKERS * 2 + LAYOUT * 2 + WORDS
]
PIECES += JUNK
SHORT = [reference.as_bytes(text) for text in NUMBERS + SIGNS + MONEY + LATEX + [" ", "apples", "x", "**", "`"]]

TEXT = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=20).map(b"".join),
    st.builds(
        lambda marker, pieces, rest: b"so " + marker + b"".join(pieces) + rest,
        st.sampled_from([reference.as_bytes(marker) for marker in MARKERS]),
        st.lists(st.sampled_from(SHORT), max_size=7),
        st.sampled_from(
            [b"", b".", b"}", b"}.", b"$", b"\\)", b"**", b"\n\nQuestion: 5?\n#### 5", b"\nSolution 2:\n\\boxed{7}"]
        ),
    ),
    st.binary(max_size=40),
)

# ----------------------------------------------------------------------------------------- C against the reference ----


def found_by_c(answers: grading.Answers) -> list[reference.Answer]:
    columns = zip(
        answers.statuses.to_pylist(), answers.starts.tolist(), answers.ends.tolist(), answers.values, strict=True
    )
    return [reference.Answer(status, start, end, fraction_of(bytes(value))) for status, start, end, value in columns]


def check(texts: list[bytes]) -> None:
    for rules in RULES:
        how = (rules.answer_format, rules.marker)
        assert found_by_c(grading.extract_answers(texts, rules=rules)) == [
            reference.find_answer(text, *how, rules.traces) for text in texts
        ]
        assert found_by_c(grading.parse_numbers(texts, rules=rules)) == [
            reference.parse_number(text, *how) for text in texts
        ]


@settings(QUICK, max_examples=150)
@given(st.lists(TEXT, min_size=8, max_size=8))
def test_made_texts(texts: list[bytes]) -> None:
    check(texts)


@pytest.mark.slow
@settings(QUICK, max_examples=20_000)
@given(st.lists(TEXT, min_size=10, max_size=10))
def test_made_texts_at_length(texts: list[bytes]) -> None:
    """200,000 texts."""
    check(texts)


def random_texts(seed: int, num_texts: int) -> list[bytes]:
    """Without hypothesis' leaning to small examples."""
    rng = random.Random(seed)
    return [b"".join(rng.choices(PIECES, k=rng.randrange(30))) for _ in range(num_texts)]


@pytest.mark.parametrize("seed", range(2))
def test_random_pieces(seed: int) -> None:
    check(random_texts(seed, 1000))


# ---------------------------------------------------------------------------------------------------- real texts ----


DRESSINGS = {
    "gsm8k": "#### **${}.00**",
    "boxed": "So it is $\\boxed{{{}\\text{{ in all}}}}$.\n\nQuestion: How many?\n\\boxed{{1}}",
    "answer-is": "**The final answer is: ${}$.** Well done!\n\nQ: How many?\nThe answer is 1.",
    "answer-tag": "</think>\n<answer>\nIn all: $\\boxed{{{}}}$.\n</answer>\n\nQuestion: How many?\n<answer>1</answer>",
    "last-number": "That makes ${}.\n\nProblem 2: How many are 3 and 4?",
    "auto": "The answer is __{}__ dollars.",
}


@pytest.mark.parametrize("name", FORMATS)
def test_gsm8k_solutions_dressed(name: str) -> None:
    """A solution's steps, and its answer as models write it, are graded right in every format."""
    split = [text.rsplit("#### ", 1) for text in gsm8k("test")]
    texts = [steps + DRESSINGS[name].format(gold) for steps, gold in split]
    golds = [gold for _, gold in split]
    rules = grading.Rules(answer_format=name)
    graded = grading.grade(texts, golds, rules=rules)
    assert graded["is_correct"].to_pylist() == [True] * len(texts)
    sample = range(0, len(texts), 13)  # the reference is slow
    found = grading.extract_answers([texts[i] for i in sample], rules=rules)
    assert found_by_c(found) == [reference.find_answer(texts[i], name) for i in sample]


# ----------------------------------------------------------------------------------------------------- any length ----

UNITS = [
    "{",
    "\\boxed{",
    "\\boxed{}",
    "\\boxed ",
    "answer is ",
    "answer is \\boxed{",
    "answer: \\pi ",
    "answer: $",
    "9",
]
UNITS += [
    "####",
    "#### ",
    "#### $",
    "#### \\(",
    "#### x ",
    "#### (",
    "$",
    "\\$",
    "$\\$",
    "(",
    "( ",
    "\\(",
    "*",
    "1/",
    "1 ",
]
UNITS += [
    "\\frac{1",
    "\\frac{1}{",
    "\\frac",
    "1 \\frac{1}{",
    "1,000",
    "1e",
    "x10^",
    "-",
    "\n",
    "\nQuestion",
    "\n# ",
    "\\",
    " ",
    "é",
]
UNITS += [
    "5, ",
    "5 and $5$ ",
    "5 ft (a), ",
    "5 (",
    "$5$ or ",
    "5 a b, $",
    "½",
    "5·",
    "5 000 ",
    "5’000",
    "5元",
    "\\(5\\) & ",
]
UNITS += ["\\$", "^{", "\\text{", "\xa0", "<", "<answer>", "</answer>", "<answer>5</answer>", "<answer>\\boxed{"]


def seconds(rules: grading.Rules, text: bytes) -> float:
    times = []
    for _ in range(3):
        start = time.thread_time()  # of this thread alone: what else the machine does must not count
        grading.grade([text], [text], rules=rules, num_threads=1)
        times.append(time.thread_time() - start)
    return min(times)


@pytest.mark.parametrize("rules", RULES, ids=lambda rules: rules.marker or rules.answer_format)
def test_linear_time(rules: grading.Rules) -> None:
    """16 times the text may take 64 times as long; quadratic, it would take 256 times."""
    for unit in UNITS:
        small = (reference.as_bytes(unit) * 8192)[:8192]
        assert seconds(rules, small * 16) < 64 * seconds(rules, small) + 0.002, unit


# -------------------------------------------------------------------------------------------------------- latex ----

needs_math_verify = pytest.mark.skipif(not latex.is_available(), reason="pip install 'qrft[latex]'")
ENDLESS = "9^{9^{9^9}}"


@needs_math_verify
def test_a_hang_costs_its_own_row_only() -> None:
    pairs = [(r"\sqrt{2}", r"\frac{2}{\sqrt{2}}"), (ENDLESS, "5"), ("x+1", "x+2"), (r"\sqrt{", "5"), ("10-3", "7")]
    expected = [True, "timeout", False, "error", True]
    told: list[int] = []
    with latex.Judges(1, timeout_seconds=2.0) as judges, ThreadPoolExecutor(1) as other_thread:
        assert other_thread.submit(judges.judge, pairs, told.append).result() == expected
        assert told == [1, 2, 3, 4, 5]
        assert judges.judge([*pairs, *pairs], told.append) == expected * 2 and len(told) == 5  # each pair once
        assert judges.judge([]) == []


@needs_math_verify
def test_closing_does_not_wait_for_what_is_under_way() -> None:
    with latex.Judges(2, timeout_seconds=600.0) as judges, ThreadPoolExecutor(1) as other_thread:
        assert judges.judge([("x+1", "1+x")]) == [True]  # so a worker is there
        waiting = other_thread.submit(judges.judge, [(ENDLESS, "5"), (ENDLESS, "6"), (ENDLESS, "7")])
        time.sleep(0.5)
        processes = [worker._process for worker in judges._workers if worker._process]
        start = time.monotonic()
        judges.__exit__()
        assert processes and all(process.poll() is not None for process in processes)
        assert time.monotonic() - start < 20 and waiting.exception() is not None


@needs_math_verify
def test_a_crash_is_an_error_and_the_next_row_gets_a_new_process() -> None:
    worker = latex._Worker(60.0)
    assert worker.judge("x+1", "1+x") is True
    assert worker._process is not None
    worker._process.kill()
    assert worker.judge("x+1", "1+x") == "error"
    assert worker.judge("x+1", "1+x") is True
    worker.close()


@needs_math_verify
def test_resolve_judges_the_rows_with_an_expression() -> None:
    rows = [
        (r"\boxed{\frac{\sqrt2}{2}}", r"\frac{1}{\sqrt{2}}", "expression", "latex_equal"),
        (r"é \boxed{x = 5}.", "5", "expression", "latex_equal"),
        (r"\boxed{2}", "2x", "ok", "latex_different"),
        (r"\boxed{$-\sqrt{3}$}", r"-\sqrt3", "expression", "latex_equal"),
        (r"\boxed{\sqrt{3}}", r"-\sqrt3", "expression", "latex_different"),
        (r"\boxed{(3,4)}", "(3, 4)", "expression", "latex_equal"),
        (r"\boxed{\text{Monday}}", r"\text{Monday}", "expression", "latex_equal"),
        (rf"\boxed{{{ENDLESS}}}", "5", "expression", "latex_timeout"),
        (r"\boxed{\sqrt{}", "5", "expression", "latex_error"),
        (r"\boxed{5}", "5", "ok", "ok"),
        (r"\boxed{6}", "5", "ok", "ok"),
        (r"\boxed{\pi}", "", "expression", "expression"),
        (r"no box", r"\pi", "no_marker", "no_marker"),
    ]
    texts, golds, before, after = map(list, zip(*rows, strict=True))
    rules = grading.Rules(answer_format="boxed")
    graded = grading.grade(texts, golds, rules=rules)
    assert graded["status"].to_pylist() == before
    chunked = pa.concat_tables([graded[:4], graded[4:]])
    column = pa.chunked_array([pa.array(texts[:7]), pa.array(texts[7:])])
    dictionary = pa.array(golds).dictionary_encode()
    with latex.Judges(2) as judges:
        resolved = latex.resolve(column, dictionary, chunked, judges, rules=rules)
    assert resolved["status"].to_pylist() == after
    correct = [status == "latex_equal" or text == r"\boxed{5}" for text, status in zip(texts, after, strict=True)]
    assert resolved["is_correct"].to_pylist() == correct
    assert resolved.schema == graded.schema
    untouched = [name for name in graded.column_names if name not in ("status", "is_correct")]
    assert resolved.select(untouched).equals(graded.select(untouched))


def test_without_math_verify_the_message_says_what_to_do() -> None:
    code = (
        "import sys; sys.modules['math_verify'] = None; from qrft.grading.latex import Judges; Judges(1).judge(['xy'])"
    )
    result = run_process(python(code), 1)
    assert "pip install 'qrft[latex]'" in result.stderr.splitlines()[-1]
