"""How many test questions have words in common with training questions, in a row."""

from __future__ import annotations

import re
from collections.abc import Sequence

NUM_WORDS = 13  # as Brown et al. 2020 (arXiv 2005.14165, appendix C) looked for test data in GPT-3's training data
_WORD = re.compile(r"\w+")


def overlap(train: Sequence[str], test: Sequence[str], num_words: int = NUM_WORDS) -> dict[str, int]:
    """Count the test questions that share so many successive words with a training question, and those that equal one.

    Case and punctuation do not count. A question of fewer words has them all in common with an equal one only.
    """
    asked = [_grams(text, num_words) for text in test]
    wanted = {gram for grams in asked for gram in grams}
    seen = {gram for text in train for gram in _grams(text, num_words) if gram in wanted}
    known = {_plain(text) for text in train}
    return {
        "num_words": num_words,
        "num_test": len(test),
        "num_shared": sum(not seen.isdisjoint(grams) for grams in asked),
        "num_equal": sum(_plain(text) in known for text in test),
    }


def _grams(text: str, num_words: int) -> list[str]:
    words = _WORD.findall(text.lower())
    return [" ".join(words[start : start + num_words]) for start in range(max(1, len(words) - num_words + 1))]


def _plain(text: str) -> str:
    return " ".join(_WORD.findall(text.lower()))
