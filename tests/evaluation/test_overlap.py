"""Which test questions have words in a row in common with training's."""

from __future__ import annotations

from qrft.evaluation.overlap import overlap

LONG = "Ann has three red pears and four green apples, and Tom has six. How many fruits have both?"


def test_questions_that_share_words_in_a_row() -> None:
    train = [LONG, "What is 3+4?"]
    shifted = f"Once upon a time, {LONG.lower().replace(',', ' -')} Tell."
    broken = LONG.replace("green", "yellow")  # no 13 words in a row are the same
    test = [shifted, broken, "what is 3 + 4 ?", "What is 3+5?", LONG.upper(), ""]
    assert overlap(train, test) == {"num_words": 13, "num_test": 6, "num_shared": 3, "num_equal": 2}
    assert overlap(train, test, 4)["num_shared"] == 4
    assert overlap([], test)["num_shared"] == overlap(train, [])["num_shared"] == 0
