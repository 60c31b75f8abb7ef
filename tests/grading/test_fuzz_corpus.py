"""Every input that the fuzzer kept (see csrc/fuzz) is graded by C as by its twin."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import get_args

from qrft import grading
from qrft.grading import reference
from qrft.grading.native import enumerator, lib
from qrft.grading.reference import paper
from qrft.grading.rules import AnswerFormat

CORPUS = Path(__file__).with_name("fuzz_grade.jsonl")
FORMATS = {enumerator("FORMAT", name): name for name in (*get_args(AnswerFormat), "marker")}


def rules_of(options: int, text: bytes) -> grading.Rules | None:
    """What fuzz_grade.c makes of its first byte; None for a marker that is no text."""
    if options >> 7:
        return grading.Rules(mode="paper")
    answer_format, marker = FORMATS[options & 7 | options >> 2 & 24], None
    if answer_format == "marker":
        try:
            answer_format, marker = "gsm8k", text[:3].decode()
        except UnicodeDecodeError:
            return None
        if not marker:
            return None
    equations, order = ("marked", "anywhere")[options >> 3 & 1], ("exact", "commutative")[options >> 4 & 1]
    return grading.Rules(answer_format=answer_format, marker=marker, equations=equations, order=order)  # type: ignore[arg-type]


def expected(rules: grading.Rules, text: bytes) -> dict[str, object]:
    if rules.mode == "paper":
        return paper.grade(text, text)._asdict() | {"soundness": "not_judged"}
    how = (rules.answer_format, rules.marker, rules.equations, rules.order, rules.traces)
    return reference.grade(text, text, *how)._asdict() | {"soundness": soundness(rules, text)}


def soundness(rules: grading.Rules, text: bytes) -> str:
    """The text is its own question too."""
    return reference.soundness_of(text, text, text, rules.answer_format, rules.marker, rules.equations, rules.traces)


def test_corpus() -> None:
    texts: defaultdict[grading.Rules, list[bytes]] = defaultdict(list)
    for line in CORPUS.read_text(encoding="ascii").splitlines():
        data = json.loads(line).encode("latin-1")
        if data and (rules := rules_of(data[0], data[1:])):
            texts[rules].append(data[1:])
    assert len(texts) > 40  # paper, and every format with each source of equations and order of keys
    for rules, group in texts.items():
        graded = grading.grade(group, group, questions=group, rules=rules)
        assert graded.to_pylist() == [expected(rules, text) for text in group], rules


def test_the_first_byte_means_what_it_meant() -> None:
    """A number that changes would turn the kept inputs into others."""
    kept = {0: "gsm8k", 1: "boxed", 2: "answer-is", 3: "last-number", 4: "auto", 5: "marker"}
    assert kept.items() <= FORMATS.items()
    assert sorted(FORMATS) == list(range(lib.QRFT_NUM_FORMATS)) and len(FORMATS) <= 32  # two bits and three
    assert [enumerator("EQUATIONS", name) for name in ("marked", "anywhere")] == [0, 1]
    assert [enumerator("ORDER", name) for name in ("exact", "commutative")] == [0, 1]
