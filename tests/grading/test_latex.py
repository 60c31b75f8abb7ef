"""What Math-Verify's "equal" is worth: only what it read whole and what is equal by value too counts as right."""

from __future__ import annotations

from pathlib import Path

import pytest

from qrft.data.problems.asdiv import SET as ASDIV
from qrft.grading import Rules, grade, latex
from qrft.grading.latex_text import is_same, plain

needs_math_verify = pytest.mark.skipif(not latex.is_available(), reason="pip install 'qrft[latex]'")

# What a parser drops: units between numbers, bases, bounds, conditions, signs it does not know.
DROPPED = [
    (r"9\text{ dimes}, 12\text{ quarters}", r"9\text{ dimes}, 14\text{ quarters}"),
    (r"9\text{ dimes}, 12\text{ quarters}", r"9\text{ quarters}, 12\text{ dimes}"),
    ("2", r"2\text{ hours }30\text{ minutes}"),
    ("3", r"3\text{ weeks and }2\text{ days}"),
    ("5", r"5\text{ dollars and }50\text{ cents}"),
    ("5", r"5 \text{ feet } 6 \text{ inches}"),
    ("101", "101_2"),
    ("77", r"77_{\text{eight}}"),
    ("1010_3", "1010_2"),
    (r"12_{\text{seven}}", r"12_{\text{five}}"),
    ("4", r"4\sqrt(2)"),
    ("5", "> 5"),
    ("5", r"\le 5"),
    ("3", r"3\text{ if }n\text{ is even}"),
    ("3", r"3\text{ unless even}"),
    ("5", r"5 \text{(or }7)"),
    ("1", "1½"),
    ("5", "5²"),
    ("5", "5⁴"),
    ("7", "7‰3"),
    ("0", r"0.\overline{3}"),
    (r"\cos t=0 \text{ when } t=\frac{\pi}{2}", r"\cos t = 0"),
]
# Different values that are equal to six decimals, or on one side.
DIFFERENT = [
    (r"\log_2 8 = 3", r"\log_2 8 = 4"),
    (r"\log_3 9 = 2", r"\log_3 9 = 3"),
    ("x^2-2x+10=0", "x^2-2x+10=2"),
    ("y=2x+3", "y=2x+4"),
    (r"\frac{1}{2^{98}}", r"\frac{1}{2^{99}}"),
    (r"\frac{1}{2006!}", r"\frac{1}{2004!}"),
    (r"\sqrt{2}", "1.414214"),
    (r"1, 2, \ldots, n", r"1, 3, 5, \ldots, 2n-1"),
    ("4", "2+3=4"),
    ("73", "72 = 70 + 3"),
    ("3.14", r"3.14\ldots"),
    ("3.14", "3.14..."),
    ("[1,2]", "(1,2)"),
    ("2x>4", "x<2"),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}1&2\\3&5\end{pmatrix}"),
    ("n<-7 or n>8", "n<-7"),
    ("17; 12", "17 and 99"),
    ("17; 12", "12; 17; 5"),
    ("3:30", "3:31"),
    ("3:30 p.m.", "3:30 a.m."),
]
EQUAL = [
    ("101_2", "101_{2}"),
    ("2", r"2\text{ hours}"),
    ("72", "70 + 2 = 72"),
    ("5", "x = 5"),
    ("1.5", "x = 1½"),
    (r"\frac{1}{2^{98}}", r"\frac{2}{2^{99}}"),
    (r"\frac{\sqrt2}{2}", r"\frac{1}{\sqrt{2}}"),
    (r"\sqrt{2}\text{ cm}", r"\sqrt2"),
    ("32", "2^5"),
    ("0.5x", r"\frac{x}{2}"),
    ("x(x+1)", "x^2+x"),
    ("y=2x+3", "3+2x"),
    ("x^2-2x+10=0", "-x^2+2x-10=0"),
    (r"\{1,2\}", r"\{2,1\}"),
    (r"(-\infty,2)\cup(3,4]", r"(3,4]\cup(-\infty,2)"),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{bmatrix}1&2\\3&4\end{bmatrix}"),
    ("$x=0$ or $x=2$", r"x = 0 \text{ or } x = 2"),
    ("$4$, $5$", "4, 5"),
    ("17 (years old); 12 (years old)", "17 and 12"),
    ("11; 12; 13", "11, 12, and 13"),
    ("30; 15", "30 girls and 15 boys"),
    ("3:30 p.m.", "3:30 PM"),
    ("3:30 p.m.", "15:30"),
    (r"2\text{ hours }30\text{ minutes}", "2 hours, 30 minutes"),
]


def verdicts(pairs: list[tuple[str, str]]) -> list[str]:
    rules = Rules(answer_format="boxed")
    golds, texts = [gold for gold, _ in pairs], [rf"\boxed{{{answer}}}" for _, answer in pairs]
    with latex.Judges(2, timeout_seconds=60.0) as judges:
        graded = latex.resolve(texts, golds, grade(texts, golds, rules=rules), judges, rules=rules)
    assert [status == "latex_equal" for status in graded["status"].to_pylist() if status != "ok"] == [
        right
        for right, status in zip(graded["is_correct"].to_pylist(), graded["status"].to_pylist(), strict=True)
        if status != "ok"
    ]
    return ["right" if right else "not right" for right in graded["is_correct"].to_pylist()]


@needs_math_verify
def test_equal_counts_only_of_texts_read_whole() -> None:
    assert dict(zip(DROPPED, verdicts(DROPPED), strict=True)) == dict.fromkeys(DROPPED, "not right")


@needs_math_verify
def test_values_that_differ_plainly() -> None:
    assert dict(zip(DIFFERENT, verdicts(DIFFERENT), strict=True)) == dict.fromkeys(DIFFERENT, "not right")


@needs_math_verify
def test_equal_ones_stay_equal() -> None:
    assert dict(zip(EQUAL, verdicts(EQUAL), strict=True)) == dict.fromkeys(EQUAL, "right")


@needs_math_verify
def test_a_changed_digit_is_never_equal() -> None:
    """Each digit of each answer that is an expression, changed alone."""
    texts = {text for pair in DIFFERENT + EQUAL for text in pair if not text.startswith("$")}
    pairs = [
        (text, text[:at] + str((int(sign) + 1) % 10) + text[at + 1 :])
        for text in sorted(texts)
        for at, sign in enumerate(text)
        if sign.isascii() and sign.isdigit()
    ]
    assert [pair for pair, verdict in zip(pairs, verdicts(pairs), strict=True) if verdict == "right"] == []


def test_plain_texts() -> None:
    assert plain("$x = 1½$ m².".encode()) == r"x = \frac{3}{2}  m^{2}"
    assert plain(b".5\\pi.") == r".5\pi"
    assert plain("10⁻³ 101₂ √3 2π".encode()) == r"10^{-3} 101_{2} \sqrt{3} 2\pi"
    assert is_same(r"\dfrac{1}{2}\left(x\right)", r"\frac12 (x)")
    assert not is_same("5 6", "56")
    assert not is_same("1, 2", "12")


def test_asdiv_answers_keep_all_parts(tmp_path: Path) -> None:

    path = tmp_path / "ASDiv.xml"
    answers = ["17 (years old); 12 (years old)", "11; 12; 13", "9 (pears)", "3:30 p.m."]
    rows = (
        f'<Problem ID="{number}"><Body>A story.</Body><Question>How many?</Question><Answer>{answer}</Answer></Problem>'
        for number, answer in enumerate(answers)
    )
    path.write_text(f"<Corpus>{''.join(rows)}</Corpus>")
    assert ASDIV.read(path)["answer"].to_pylist() == ["17; 12", "11; 12; 13", "9", "3:30 p.m."]
