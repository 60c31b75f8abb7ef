"""The built-in problem set and the corpus of the tiny base."""

from __future__ import annotations

import itertools
import json
import re

import pytest
from helpers.paths import RECIPES

from qrft import grading
from qrft.config.load import load
from qrft.config.pretrain import PretrainRecipe
from qrft.data.problems import tiny_corpus, tiny_math
from qrft.data.problems.registry import draw
from qrft.models.find import BUILTIN, fingerprint

EQUATION = re.compile(r"<<([^>]*)>>")


def equations(path: list[tiny_math.Step]) -> tuple[str, ...]:
    return tuple(EQUATION.findall(tiny_math.write_solution(path)))


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_gold_solution_always_checks(split: str) -> None:
    problems = draw(f"tiny-math/{split}", seed=3, num_problems=5000)
    graded = grading.grade(problems["solution"], problems["answer"])
    assert graded["is_correct"].to_pylist() == [True] * 5000
    assert set(graded["equations_status"].to_pylist()) == {"ok"}


def test_every_path_of_every_kind_is_right_and_different() -> None:
    stories = list(itertools.islice(tiny_math.stories("train", seed=0), 2000))
    solutions = [tiny_math.write_solution(path) for story in stories for path in story.paths]
    answers = [str(story.answer) for story in stories for _ in story.paths]
    graded = grading.grade(solutions, answers)
    assert all(graded["is_correct"].to_pylist())
    assert set(graded["equations_status"].to_pylist()) == {"ok"}
    assert all(2 <= len(path) <= 4 for story in stories for path in story.paths)
    assert all(len({equations(path) for path in story.paths}) == len(story.paths) >= 2 for story in stories)


def test_twelve_kinds_with_several_wordings() -> None:
    assert len(tiny_math.KINDS) >= 12
    assert all(len(kind.wordings) >= 2 for kind in tiny_math.KINDS.values())


def test_no_two_splits_or_rows_share_a_question() -> None:
    drawn = {
        (split, seed): draw(f"tiny-math/{split}", seed, 3000)["question"].to_pylist()
        for split in ("train", "test")
        for seed in (0, 1)
    }
    assert all(len(set(questions)) == 3000 for questions in drawn.values())
    train = set(drawn["train", 0]) | set(drawn["train", 1])
    test = set(drawn["test", 0]) | set(drawn["test", 1])
    assert not train & test


def test_a_seed_draws_the_same_problems_and_more_keeps_the_first() -> None:
    few, many = draw("tiny-math/train", 7, 50), draw("tiny-math/train", 7, 80)
    assert few.equals(many.slice(0, 50))
    assert not few["question"].equals(draw("tiny-math/train", 8, 50)["question"])


def test_the_corpus_holds_no_question_of_a_set_and_no_solution_in_the_taught_form() -> None:
    corpus = "\n".join(itertools.islice(tiny_corpus.documents(seed=0), 10_000))
    for split in ("train", "test"):
        for story in itertools.islice(tiny_math.stories(split, seed=0), 500):
            assert story.question not in corpus
            assert f"{story.facts}." not in corpus and f"if {story.facts}?" not in corpus
            assert not any(tiny_math.write_solution(path) in corpus for path in story.paths)
    assert all(marker in corpus for marker in ("<<", ">>", "####"))


def test_the_shipped_base_is_the_one_that_its_card_and_recipe_tell_of() -> None:
    folder = BUILTIN["tiny-base"]
    card = json.loads((folder / "pretraining.json").read_text())
    recipe = load(RECIPES / "tiny-base.yaml", [], PretrainRecipe)
    assert fingerprint(folder) == card["digest"]
    assert card["recipe"] == recipe.model_dump(exclude={"family"})
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 4 * 2**20
