"""The page of a run: it loads nothing, says why each path was kept, and no text of a model can break out of it."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
from helpers.runs import HOSTILE, Made, Page, hostile, solve

from qrft import grading
from qrft.data.problems.tiny_math import Story, write_solution
from qrft.grading import latex
from qrft.grading.grader import ANSWER_STATUSES, EQUATION_STATUSES
from qrft.grading.selection import VERDICTS
from qrft.report import words
from qrft.report.run import browser, measures
from qrft.report.run import page as run_page


def test_page_holds_the_result_and_loads_nothing(made: Made) -> None:
    html = made.html()
    page, summary = Page(html), made.summary()
    for line in summary["explained"]:
        assert line in page.text
    assert "trial-run" in page.text and "num_samples: 12" in page.text and "0123456789abcdef0123" in page.text
    assert page.count("svg") >= 6 and page.count("script") == 2 and page.count("link") == page.count("img") == 0
    assert not [attrs for _, attrs in page.elements if "src" in attrs or "href" in attrs]
    assert "http://" not in html and "https://" not in html and "url(" not in html
    policy = next(a["content"] for name, a in page.elements if name == "meta" and "http-equiv" in a)
    assert policy is not None and policy.startswith("default-src 'none'; style-src 'sha256-") and "unsafe" not in policy


def test_browser_gives_every_path_with_its_reason(made: Made) -> None:
    data = json.loads(Page(made.html()).data)
    assert len(data["problems"]) == 40
    paths = [path for problem in data["problems"] for path in problem["paths"]]
    assert sum(path["count"] for path in paths) == 480
    assert sum(path["verdict"] == "kept" for path in paths) == made.summary()["num_kept"]
    reasons = {path["verdict"]: path["why"] for path in paths}
    assert reasons["kept"].startswith("kept: right answer")
    assert reasons["duplicate_of_gold"] == "dropped: same equations as the gold solution"
    assert any("dropped: equation " in path["why"] and path["why"].endswith(" is wrong") for path in paths)
    assert any("dropped: no answer" in path["why"] for path in paths)
    assert any("the answer is not a number: none" in path["why"] for path in paths)


def unmarked(r: random.Random, problem: dict[str, str], story: Story) -> str:
    """Steps in running text, some of them wrong; the answer is always right."""
    text = write_solution(r.choice(story.paths)).replace("<<", "").replace(">>", " ;")
    return text if r.random() < 0.7 else f"2 + 2 = 5\n{text}"


def paths_of(made: Made) -> list[dict[str, Any]]:
    return [path for problem in json.loads(Page(made.html()).data)["problems"] for path in problem["paths"]]


def test_equations_in_running_text_are_explained(tmp_path: Path) -> None:
    made = Made(tmp_path, 12, 4, 8, unmarked, ["grade.equations=anywhere"])
    bad = [path for path in paths_of(made) if path["verdict"] == "bad_equation"]
    assert bad and all(path["why"] == "dropped: equation 2 + 2 = 5 is wrong" for path in bad)
    marked = Made(tmp_path / "marked", 12, 4, 8, unmarked)
    assert not [path for path in paths_of(marked) if path["verdict"] == "bad_equation"]


def rounded(r: random.Random, problem: dict[str, str], story: Story) -> str:
    """Right by the default rules, wrong by the paper's."""
    return f"<<1/3=0.33>> {write_solution(r.choice(story.paths))}"


def test_a_run_in_paper_mode_is_explained_by_its_own_rules(tmp_path: Path) -> None:
    made = Made(tmp_path, 6, 4, 4, rounded, ["grade.mode=paper"])
    assert {path["why"] for path in paths_of(made)} == {"dropped: equation 1/3=0.33 is wrong"}
    made = Made(tmp_path / "right", 12, 4, 8, solve, ["grade.mode=paper"])
    paths = paths_of(made)
    kept = [path["why"].partition(";")[0] for path in paths if path["verdict"] == "kept"]
    assert set(kept) == {"kept: right answer, and every equation is right"}
    assert not [path for path in paths if path["verdict"] == "duplicate_of_gold"]
    run = measures.Run(made.inputs, made.settings)
    num_found, num_new = (round(12 * run.curve(run.samples, run.graded, beside)[-1][1]) for beside in (False, True))
    assert 0 < num_new < num_found == made.summary()["num_kept"]


def test_what_was_kept_without_dedup_is_not_called_dropped(tmp_path: Path) -> None:
    made = Made(tmp_path, 12, 4, 8, solve, ["curate.dedup=false"])
    paths = paths_of(made)
    assert any(path["verdict"] == "kept" and path["count"] > 1 for path in paths)
    assert not any("more with the same equations" in path["why"] for path in paths)
    assert sum(path["count"] for path in paths if path["verdict"] == "kept") == made.summary()["num_kept"]


def test_every_status_and_verdict_has_words() -> None:
    assert set(words.ANSWERS) == {*ANSWER_STATUSES, *latex.STATUSES.values()}
    assert set(words.EQUATIONS) == set(EQUATION_STATUSES)
    assert set(words.EQUATION_TROUBLE) == set(EQUATION_STATUSES) - {"ok"}
    assert set(words.VERDICTS) == set(browser.GROUPS) == set(VERDICTS)


@pytest.mark.parametrize("status", [*ANSWER_STATUSES, *latex.STATUSES.values()])
def test_every_wrong_answer_is_explained(status: str) -> None:
    row = {"status": status, "completion": "#### 3", "answer_start": 5, "answer_end": 6, "finish_reason": "stop"}
    said = browser.answer_trouble(row, "4", grading.Rules())
    assert said and (status in ("ok", "latex_different", "latex_equal")) == (said == "answer 3 is not 4")


def test_won_and_lost_are_those_of_the_evaluation(made: Made) -> None:
    data, summary = json.loads(Page(made.html()).data), made.summary()
    assert data["num_won"] - data["num_lost"] == round(summary["gain"] * summary["num_test"])
    assert all(entry["rft"]["is_correct"] and not entry["before"]["is_correct"] for entry in data["won"])
    assert all(entry["before"]["is_correct"] and not entry["rft"]["is_correct"] for entry in data["lost"])


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    made = Made(tmp_path, 4, 4, 6, hostile, question=HOSTILE, problem_id=HOSTILE[:20])
    # One id for all problems would be refused by the problem stage; here it only has to be harmless.
    page = Page(made.html())
    assert page.count("script") == 2 and page.count("img") == 0
    assert not [attrs for _, attrs in page.elements if any(name.startswith("on") for name in attrs)]
    assert "<" not in page.data and "\u2028" not in page.data
    assert any(problem["question"] == HOSTILE for problem in json.loads(page.data)["problems"])


def test_hostile_run_name_and_recipe_are_escaped(made: Made) -> None:
    told = made.settings.model_copy(update={"name": HOSTILE, "recipe": {"base_model": HOSTILE}})
    page = Page(run_page.html(made.inputs, told, made.summary()))
    assert page.count("script") == 2 and page.count("img") == 0


def test_script_json_survives_the_round_trip() -> None:
    text = browser.script_json({"text": HOSTILE})
    assert json.loads(text) == {"text": HOSTILE}
    assert not set("<>&\u2028") & set(text)


def test_big_runs_are_capped_and_say_so(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser, "MAX_PATHS", 2)
    monkeypatch.setattr(browser, "MAX_DIFFERENCES", 1)
    monkeypatch.setattr(browser, "MAX_TEXT", 30)
    monkeypatch.setattr(browser, "MAX_PROBLEMS", 7)
    page = Page(made.html())
    data = json.loads(page.data)
    assert len(data["problems"]) == 7 and "the first 7 of 40 problems" in page.text
    assert all(len(problem["paths"]) <= 2 < problem["num_paths"] for problem in data["problems"][:1])
    assert "…" in data["problems"][0]["question"]
    assert len(data["won"]) == 1 and "the first 1 of each" in page.text


def test_the_usual_size_takes_less_than_two_seconds(tmp_path: Path) -> None:
    made = Made(tmp_path, 300, 1000, 30, solve)
    start = time.process_time()  # not the wall clock: other work may have the cores
    html = made.html()
    assert time.process_time() - start < 2
    assert len(html) < 6_000_000
