"""tiny-paths: problems whose right paths are all known."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import pytest

from qrft import grading
from qrft.data.problems import tiny_corpus, tiny_paths
from qrft.data.problems.registry import draw
from qrft.data.problems.tiny_algebra import Expression, Product, Sum, paths
from qrft.models.find import BUILTIN
from qrft.models.prompts import load_tokenizer


def written(expression: Expression) -> set[str]:
    return {" ".join(map(str, path)) for path in paths(expression)}


def test_all_paths_of_a_product_of_a_sum() -> None:
    assert written(Product((Sum(((1, 2), (1, 3))), 7))) == {
        "2+3=5 5*7=35",
        "2*7=14 3*7=21 14+21=35",
        "3*7=21 2*7=14 14+21=35",
    }


def test_all_paths_of_a_sum_with_signs() -> None:
    """Twenty are there, thirty come and forty go: the smaller number is always taken from the larger."""
    assert written(Sum(((1, 20), (1, 30), (-1, 40)))) == {
        "20+30=50 50-40=10",
        "40-20=20 30-20=10",
        "40-30=10 20-10=10",
    }


def test_times_as_many_are_counted_in_parts_or_apart() -> None:
    assert written(Product((6, Sum(((1, 1), (1, 4)))))) == {"1+4=5 6*5=30", "6*4=24 6+24=30"}


def test_four_numbers_are_added_in_eighteen_ways() -> None:
    """Two of four, then two of three: 6 times 3."""
    assert len(written(Sum(((1, 1), (1, 2), (1, 4), (1, 8))))) == 18


@pytest.fixture(scope="module")
def stories() -> list[tiny_paths.Story]:
    return list(islice(tiny_paths.stories("train", seed=3), 150))


def test_every_path_of_every_problem_is_right_and_sound(stories: list[tiny_paths.Story]) -> None:
    every = [(story, path) for story in stories for path in sorted(paths(story.expression))]
    graded = grading.grade(
        [tiny_paths.write_solution(path) for _, path in every],
        [str(story.answer) for story, _ in every],
        questions=[story.question for story, _ in every],
    )
    assert all(graded["is_correct"].to_pylist())
    assert set(graded["equations_status"].to_pylist()) == {"ok"}
    assert graded["soundness"].to_pylist().count("sound") > 0.99 * len(every)
    assert all(3 <= len(path) <= 6 for _, path in every)
    assert all(1 <= step.value <= 99 for _, path in every for step in path)


def test_problems_have_six_to_thirty_different_paths(stories: list[tiny_paths.Story]) -> None:
    for story in stories:
        keys = {tiny_paths.canonical(tiny_paths.write_solution(path)) for path in paths(story.expression)}
        assert 6 <= len(keys) == len(paths(story.expression)) <= 30


def test_the_gold_solution_is_any_of_the_paths() -> None:
    problems, known = draw("tiny-paths/train", 5, 60).to_pylist(), tiny_paths.genuine_paths("train", 5, 60)
    places = [
        [tiny_paths.write_solution(path) for path in genuine].index(problem["solution"]) / len(genuine)
        for problem, genuine in zip(problems, known, strict=True)
    ]
    assert 0.3 < sum(places) / len(places) < 0.7 and min(places) < 0.1 and max(places) > 0.9


def test_structures_and_wordings_are_many() -> None:
    assert len(tiny_paths.STRUCTURES) >= 80
    assert all(len(part.wordings) == 3 for part in tiny_paths.PARTS.values())  # 9 to 81 tellings of a structure


def test_no_two_splits_share_a_structure_with_its_numbers() -> None:
    facts = {
        split: {(story.structure, story.numbers) for story in islice(tiny_paths.stories(split, seed=0), 150)}
        for split in tiny_paths.SPLITS
    }
    assert all(len(found) == 150 for found in facts.values())
    assert len(set.union(*facts.values())) == 450
    assert all(tiny_paths.split_of(*fact) == split for split, found in facts.items() for fact in found)


def test_a_seed_draws_the_same_problems_and_more_keeps_the_first() -> None:
    few, many = draw("tiny-paths/train", 7, 20), draw("tiny-paths/train", 7, 30)
    assert few.equals(many.slice(0, 20))
    assert not few["question"].equals(draw("tiny-paths/train", 8, 20)["question"])


def test_the_tiny_base_has_read_every_token_of_questions_and_solutions() -> None:
    """LoRA can't teach a token that pre-training never saw."""
    tokenizer = load_tokenizer(BUILTIN["tiny-base"])
    read = Counter(token for text in islice(tiny_corpus.documents(seed=0), 4000) for token in tokenizer.encode(text))
    rows = tiny_paths.problems("test", 0, 150)
    asked = {token for row in rows for token in tokenizer.encode(f"{row['question']}\n{row['solution']}")}
    assert min(read[token] for token in asked) >= 20
