"""The report on made-up runs: what it says, that it loads nothing, and that no text of a model can break out of it."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.paths import TINY

from qrft import grading
from qrft.config.load import load
from qrft.data.problems.registry import draw
from qrft.data.problems.tiny_math import Story, stories, write_solution
from qrft.data.schema import EVALUATION, PROBLEMS, SAMPLES, TRAINING
from qrft.grading import latex
from qrft.grading.grader import ANSWER_STATUSES, EQUATION_STATUSES
from qrft.grading.selection import VERDICTS
from qrft.models.find import BUILTIN
from qrft.pipeline.flow import plan
from qrft.pipeline.stages.evaluate import evaluate
from qrft.report import svg, words
from qrft.report.run import browser, charts, explain, measures
from qrft.report.run import page as run_page
from qrft.report.run.settings import Input, Pooled, Settings
from qrft.report.run.summary import summary as summarize

HOSTILE = (
    "</script><script>alert(1)</script> <!-- <script> <img src=x onerror=alert(2)> \u2028 \u2029 ]]> "
    "{{ 7*7 }} &amp; \" ' <<3*4=12>>12\n#### 12"
)

TRAINED = {"num_tokens": 4096, "flops": 2e12, "cpu_seconds": 60.0, "gpu_joules": 1500.0}
COSTS = {
    "sft/train": TRAINED,
    "rft/train": TRAINED,
    "round-1/samples": {"num_tokens": 1000, "flops": 5e11, "cpu_seconds": 30.0},
}

# ------------------------------------------------------------------------------------------------- made-up runs ----

Answerer = Callable[[random.Random, dict[str, str], Story], str]


def solve(r: random.Random, problem: dict[str, str], story: Story) -> str:
    """Mostly right, by any path; else wrong in one of the usual ways."""
    text = write_solution(r.choice(story.paths))
    fate = r.random()
    if fate < 0.5:
        return text
    if fate < 0.6:
        return text.replace("=<<", "= <<").replace(": ", " is ", 1)  # another wording of the same path
    if fate < 0.7:
        return text.replace(">>", "0>>", 1)  # a wrong equation, the right answer
    if fate < 0.85:
        return text.rpartition("####")[0] + f"#### {story.answer + r.randint(1, 9)}"
    return text.rpartition("####")[0] + r.choice(["", "#### none", "####"])


def fail(r: random.Random, problem: dict[str, str], story: Story) -> str:
    return r.choice(["I do not know", "1, 2, 3", "#### many", ""])


def hostile(r: random.Random, problem: dict[str, str], story: Story) -> str:
    return HOSTILE if r.random() < 0.5 else write_solution(story.paths[0])


class Made:
    """Artifacts of a whole run in a folder, graded by the real core."""

    def __init__(
        self,
        folder: Path,
        num_train: int,
        num_test: int,
        num_samples: int,
        answerer: Answerer,
        changes: Sequence[str] = (),  # of the recipe, by --set
        measures: Sequence[dict[str, Any]] = (),  # beside the greedy ones
        **texts: str,
    ) -> None:
        self.folder, self.measures = folder, list(measures)
        self.steps: dict[str, Any] = {step.path: step for step in plan(load(TINY, changes), BUILTIN["tiny-base"])}
        self.rules: grading.Rules = self.steps["round-1/graded"].settings.rules
        self.inputs: dict[str, Path] = {}
        self.random = random.Random(0)
        self.train, train_stories = self.problems("train", num_train, **texts)
        self.test, test_stories = self.problems("test", num_test, **texts)
        self.samples(num_samples, answerer, train_stories)
        self.export_and_train()
        self.evaluation(test_stories, answerer)
        order = [
            "problems/train",
            "problems/test",
            "base/gguf",
            "sft/training",
            "sft/train",
            "sft/gguf",
            "round-1/samples",
        ]
        self.inputs = {name: self.inputs[name] for name in dict.fromkeys([*order, *self.inputs])}
        self.inputs["model"] = BUILTIN["tiny-base"]
        recipe = {"name": "trial-run", "seed": 0, "sample": {"num_samples": num_samples}}
        self.told = {"name": "trial-run", "recipe": recipe}

    @property
    def settings(self) -> Settings:
        """Those of the recipe's report, as far as there are inputs, and what is told otherwise."""
        planned: Settings = self.steps["report"].settings
        steps = tuple(step for step in planned.steps if step.name in self.inputs)
        return planned.model_copy(update={"steps": steps, **self.told})

    def artifact(self, step: str, **report: Any) -> Path:
        path = self.folder / step.replace("/", "-")
        path.mkdir(parents=True)
        manifest = {
            "stage": step.split("/")[-1],
            "digest": "0123456789abcdef0123",
            "config": self.steps[step].identity,
            "inputs": {},
            "seconds": 3.5 + 7.25 * len(self.inputs),
            "peak_memory_bytes": 3 << 28,
            "cost": COSTS.get(step, {"cpu_seconds": 0.5}),
            "report": report,
            "versions": {"python": "3.11.2", "qrft": "0.1.0"},
            "created": "2025-11-20T20:00:00+00:00",
            "files": {},
        }
        (path / "manifest.json").write_text(json.dumps(manifest))
        self.inputs[step] = path
        return path

    def problems(self, split: str, number: int, **texts: str) -> tuple[pa.Table, list[Story]]:
        rows = [{**row, **texts} for row in draw(f"tiny-math/{split}", 3, number).to_pylist()]
        table = pa.Table.from_pylist(rows, schema=PROBLEMS)
        pq.write_table(table, self.artifact(f"problems/{split}") / "problems.parquet")
        return table, [story for story, _ in zip(stories(split, 3), range(number), strict=False)]

    def sampled(self, step: str, problems: pa.Table, completions: Sequence[str], k: int) -> tuple[pa.Table, pa.Table]:
        ids = [problem["problem_id"] for problem in problems.to_pylist() for _ in range(k)]
        gold = [problem["answer"] for problem in problems.to_pylist() for _ in range(k)]
        columns = [ids, ["sft"] * len(ids), [i % k for i in range(len(ids))], completions]
        columns += [["stop" if c else "length" for c in completions], [len(c) for c in completions], [-1.0] * len(ids)]
        samples = pa.table([pa.array(c, f.type) for c, f in zip(columns, SAMPLES, strict=True)], schema=SAMPLES)
        graded = grading.grade(samples["completion"], pa.array(gold), rules=self.rules)
        kind = "" if step == "round-1/" else "test-"
        pq.write_table(samples, self.artifact(f"{step}{kind}samples") / "samples.parquet")
        pq.write_table(graded, self.artifact(f"{step}{kind}graded") / "graded.parquet")
        return samples, graded

    def samples(self, k: int, answerer: Answerer, told: Sequence[Story]) -> None:
        pairs = list(zip(self.train.to_pylist(), told, strict=True))
        completions = [answerer(self.random, problem, story) for problem, story in pairs for _ in range(k)]
        samples, graded = self.sampled("round-1/", self.train, completions, k)
        gold = pa.array([problem["solution"] for problem, _ in pairs for _ in range(k)])
        selection = self.steps["round-1/training"].settings
        options = {"gold_texts": gold, "selection": selection, "rules": self.rules}
        verdicts = grading.verdicts(samples["completion"], samples["problem_id"], graded, **options)
        out = self.artifact("round-1/training")
        pq.write_table(pa.table({"verdict": verdicts}), out / "verdicts.parquet")
        pq.write_table(TRAINING.empty_table(), out / "training.parquet")

    def export_and_train(self) -> None:
        for index, model in enumerate(("base", "sft", "rft")):
            measured = {"top1_agreement": 1 - index / 100, "mean_kl": 1e-6 * (index + 1)}
            self.artifact(f"{model}/gguf", max_logit_difference=1e-5 * (index + 1), **measured)
        self.artifact("sft/training")
        for model, steps in (("sft", 900), ("rft", 2400)):
            losses = [
                {
                    "loss": 0.2 + 2.2 * np.exp(-step / 250) + 0.03 * self.random.random(),
                    "step": step,
                    "epoch": step / 100,
                    "learning_rate": 1e-3,
                }
                for step in range(10, steps + 1, 10)
            ]
            text = "".join(json.dumps(entry) + "\n" for entry in losses)
            (self.artifact(f"{model}/train") / "loss.jsonl").write_text(text)

    def evaluation(self, told: Sequence[Story], answerer: Answerer) -> None:
        correct = {}
        for model, skill in (("base", 0.0), ("sft", 0.8), ("rft", 1.0)):
            completions = [
                (answerer if self.random.random() < skill else fail)(self.random, problem, story)
                for problem, story in zip(self.test.to_pylist(), told, strict=True)
            ]
            _, graded = self.sampled(f"{model}/", self.test, completions, 1)
            correct[model] = np.array(graded["is_correct"].to_pylist(), float)
        labels = {"problems": "tiny-math/test", "few_shot": 0, "measure": "greedy"}
        score = {"value": 0.5, "low": 0.4, "high": 0.6}
        measures = [{"model": model, **labels, **score} for model in correct] + self.measures
        out = self.artifact("evaluation")
        (out / "evaluation.json").write_text(json.dumps({**evaluate(correct), "measures": measures}))
        rows = [
            {**problem, "model": model, **labels, "value": value}
            for model, values in correct.items()
            for problem, value in zip(self.test.select(["problem_id", "question"]).to_pylist(), values, strict=True)
        ]
        pq.write_table(pa.Table.from_pylist(rows, EVALUATION), out / "evaluation.parquet")

    def summary(self) -> dict[str, Any]:
        return summarize(self.inputs, self.settings)

    def html(self) -> str:
        return run_page.html(self.inputs, self.settings, self.summary())


class Page(HTMLParser):
    """The elements and texts of a page, as a browser would see them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.data, self.inside = "", "", ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.inside = "data" if ("id", "data") in attrs else tag

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "data":
            self.data += data
        elif self.inside not in ("script", "style"):
            self.text += data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("run"), 40, 120, 12, solve)


# ------------------------------------------------------------------------------------------------------ summary ----


def test_summary_counts_what_the_tables_hold(made: Made) -> None:
    summary = made.summary()
    verdicts = pq.read_table(made.inputs["round-1/training"] / "verdicts.parquet")["verdict"].to_pylist()
    graded = pq.read_table(made.inputs["round-1/graded"] / "graded.parquet").to_pylist()
    solved = {index // 12 for index, row in enumerate(graded) if row["is_correct"]}
    assert summary["num_train"] == 40 and summary["num_samples"] == 480 and summary["samples_per_problem"] == 12
    assert summary["num_correct"] == sum(row["is_correct"] for row in graded)
    assert summary["num_kept"] == verdicts.count("kept") > 0
    assert summary["paths_per_problem"] == summary["num_kept"] / 40
    assert summary["num_solved"] == len(solved)
    assert summary["gain"] == pytest.approx(summary["rft"]["accuracy"] - summary["sft"]["accuracy"])
    assert summary["parity"] == pytest.approx(3e-5)
    assert summary["parity_kl"] == pytest.approx(3e-6) and summary["parity_top1"] == pytest.approx(0.98)
    assert summary["seconds"].keys() == made.inputs.keys() - {"model"}
    assert json.loads(json.dumps(summary)) == summary
    assert any(f"RFT added {summary['num_kept']} distinct correct paths" in line for line in summary["explained"])


def test_costs_are_summed_and_shown(made: Made) -> None:
    summary = made.summary()
    num_others = len(made.inputs) - 4  # two trainings, a sampling, and the base, which is no step
    assert summary["cost"]["steps"]["sft/train"] == TRAINED
    assert summary["cost"]["total"] == {
        "num_tokens": 9192,
        "flops": 4.5e12,
        "cpu_seconds": 150 + 0.5 * num_others,
        "gpu_joules": 3000.0,
    }
    text = "".join(Page(made.html()).text.split("\n"))
    assert "steptokensFLOPsCPU timeGPU energy" in text
    assert "rft/train4,0962.0e121 min 0 s1.5 kJ" in text and "in all9,1924.5e12" in text


def test_no_correct_sample_is_explained(tmp_path: Path) -> None:
    made = Made(tmp_path, 5, 20, 4, fail)
    summary = made.summary()
    assert summary["num_correct"] == summary["num_kept"] == summary["num_solved"] == 0
    assert summary["explained"][0].startswith("No model solved any of 20 test problems")
    assert any("RFT trained on the gold solutions alone" in line for line in summary["explained"])
    page = Page(made.html())
    assert (
        "None of 20 samples has the right answer, so RFT trained on the gold solutions alone, as SFT did" in page.text
        and "RFT won 0 that SFT got wrong, and lost 0" in page.text
    )


def test_all_that_was_measured_is_a_table(tmp_path: Path, made: Made) -> None:
    assert "All measures" not in Page(made.html()).text  # the cards say it all
    score = {"value": 0.123, "low": 0.1, "high": 0.15}
    more = [
        {"model": "base", "problems": "tiny-math/test", "few_shot": 8, "measure": "greedy", **score},
        {"model": "sft", "problems": "<b>mine</b>", "few_shot": 0, "measure": "maj@100", **score},
    ]
    page = Page(Made(tmp_path, 3, 6, 2, solve, measures=more).html())
    table = page.text.partition("All measures")[2].partition("Distinct paths")[0]
    assert table.count("12.3% [10.0%, 15.0%]") == 2 and "maj@100" in table and "<b>mine</b>" in table


@pytest.mark.parametrize(
    ("first_samples", "told"),
    [
        (None, [(4, 40, 160, 17), (12, 25, 200, 31)]),
        (4, [(4, 40, 160, 17)]),
        (2, [(2, 40, 80, None)]),
        (7, [(4, 40, 160, 17), (7, 25, 75, None)]),
    ],
)
def test_rounds_of_sampling_are_told_as_far_as_they_were_looked_at(
    tmp_path: Path, first_samples: int | None, told: list[tuple[int, ...]]
) -> None:
    """40 problems of 4 samples, 25 of which got 8 more: 8 tokens each."""
    changes = [f"curate.first_samples={first_samples}"] if first_samples else []
    made = Made(tmp_path, 40, 4, 12, solve, changes)
    samples = pq.read_table(made.inputs["round-1/samples"] / "samples.parquet")
    index = np.array(samples["sample_index"])
    drawn = (np.arange(480) < 300) | (index < 4)
    tokens = pa.array([8] * 480, samples.schema.field("num_tokens").type)
    samples = samples.set_column(samples.schema.get_field_index("num_tokens"), "num_tokens", tokens).filter(drawn)
    graded = pq.read_table(made.inputs["round-1/graded"] / "graded.parquet").filter(drawn)
    verdicts = pq.read_table(made.inputs["round-1/training"] / "verdicts.parquet").filter(drawn)
    pq.write_table(samples, made.inputs["round-1/samples"] / "samples.parquet")
    pq.write_table(graded, made.inputs["round-1/graded"] / "graded.parquet")
    looked_at = index[drawn] < (first_samples or 12)
    pq.write_table(verdicts.filter(looked_at), made.inputs["round-1/training"] / "verdicts.parquet")
    keys = ("samples_per_problem", "num_problems", "num_samples", "num_tokens", "num_satisfied")
    rounds = [dict(zip(keys, row, strict=True)) for row in ((4, 40, 160, 1280, 17), (12, 25, 200, 1600, 31))]
    change_manifest(made.inputs["round-1/samples"], report={"rounds": rounds})
    found = made.summary()
    assert [(*(row[key] for key in (*keys[:3], keys[4])),) for row in found["rounds"]] == told
    assert sum(row["num_tokens"] for row in found["rounds"]) == found["sampled_tokens"] == 8 * looked_at.sum()
    table = Page(made.html()).text.partition("Where the samples went")[2].partition("Correct samples")[0]
    assert f"{told[-1][2]}" in table and ("None" not in table)


def change_manifest(folder: Path, **changes: Any) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_without_greedy_answers_the_gain_has_an_interval_and_no_p(tmp_path: Path) -> None:
    made = Made(tmp_path, 3, 20, 2, solve)
    sft, rft = np.linspace(0, 0.5, 20), np.linspace(0.2, 0.8, 20)
    found = {**evaluate({"base": sft * 0, "sft": sft, "rft": rft}), "measures": made.summary()["measures"]}
    (made.inputs["evaluation"] / "evaluation.json").write_text(json.dumps(found))
    for name in [name for name in made.inputs if "/test-" in name]:
        del made.inputs[name]
    summary = made.summary()
    assert summary["p_value"] is None and 0 < summary["gain_low"] < summary["gain"] < summary["gain_high"]
    assert summary["explained"][0].startswith("RFT gains 25.0 points over SFT (95% interval +2")
    page = Page(made.html())
    assert "points, paired bootstrap" in page.text and "Test problems won and lost" not in page.text


def test_one_problem_and_one_sample(tmp_path: Path) -> None:
    made = Made(tmp_path, 1, 1, 1, solve)
    assert "1 problem" in Page(made.html()).text
    for line in made.summary()["explained"]:
        assert "1 problems" not in line and "1 samples" not in line


def test_gold_answers_without_numbers_are_explained(tmp_path: Path) -> None:
    made = Made(tmp_path, 3, 3, 2, solve, answer="blue", solution="#### blue")
    assert any("gold answer of 3 training problems can't be compared" in line for line in made.summary()["explained"])
    assert "the gold answer blue is not a number" in Page(made.html()).data


FACTS: dict[str, Any] = {
    "base": {"accuracy": 0.01, "few_shot": 0}, "sft": {"accuracy": 0.658}, "rft": {"accuracy": 0.719},
    "gain": 0.061, "p_value": 0.0003, "num_test": 1000, "num_train": 300, "num_gold": 300, "num_samples": 9000,
    "samples_per_problem": 30,
    "num_correct": 5000, "num_correct_with_equations": 5000, "num_kept": 512, "paths_per_problem": 512 / 300,
    "num_solved": 296, "num_cut_off": 0, "num_unusable_gold": 0, "dedup": True,
}  # fmt: skip


def test_published_figures_are_told() -> None:
    paper = {"source": "Yuan", "rft": 41.7, "sft_maj100": 48.7, "distinct_paths": 5.25}
    told = explain.sentences({**FACTS, "paper": paper, "distinct_paths": 4.1})
    assert told[:-1] == explain.sentences(FACTS) and told[-1] == (
        "Published (Yuan): RFT 41.7%; maj@100 of SFT 48.7%; 5.25 distinct paths per problem, the gold one counted "
        "(here 4.10)."
    )


def test_sentences_of_a_usual_run() -> None:
    assert explain.sentences(FACTS) == [
        "RFT gains 6.1 points over SFT (p = 0.0003, exact McNemar on 1,000 problems).",
        "SFT on 300 gold solutions raised the base model's accuracy from 1.0% to 65.8%.",
        "RFT added 512 distinct correct paths to 300 gold solutions: 1.7 per problem; "
        "296 of 300 problems were solved at least once in 30 samples.",
    ]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (
            {"gain": -0.042, "p_value": 0.01},
            "RFT loses 4.2 points against SFT (p = 0.010, exact McNemar on 1,000 problems).",
        ),
        (
            {"gain": 0.012, "p_value": 0.34},
            "RFT is 1.2 points above SFT, which may be luck (p = 0.34, exact McNemar on 1,000 problems): more test "
            "problems would show.",
        ),
        (
            {"gain": -0.01, "p_value": 0.5},
            "RFT is 1.0 point below SFT, which may be luck (p = 0.50, exact McNemar on 1,000 problems): more test "
            "problems would show.",
        ),
        (
            {"gain": 0.0, "p_value": 1.0},
            "RFT and SFT are equally accurate (p = 1.00, exact McNemar on 1,000 problems).",
        ),
        ({"p_value": 1e-9}, "RFT gains 6.1 points over SFT (p < 0.0001, exact McNemar on 1,000 problems)."),
        (
            {"num_kept": 0},
            "The right answer came at least once in 30 samples for 296 of 300 problems, but no correct sample contains "
            "a new path, so RFT trained on the gold solutions alone, as SFT did, and no gain is expected.",
        ),
        (
            {"num_correct": 0, "num_kept": 0},
            "None of 9,000 samples has the right answer, so RFT trained on the gold solutions alone, as SFT did, and "
            "no gain is expected.",
        ),
        (
            {"dedup": False},
            "RFT added 512 correct samples to 300 gold solutions: 1.7 per problem; 296 of 300 problems were solved at "
            "least once in 30 samples.",
        ),
        (
            {"num_correct_with_equations": 0},
            "No correct sample writes its steps as equations, so paths can't be told apart: at most one per problem "
            "was kept.",
        ),
        (
            {"base": {"accuracy": 0.1, "few_shot": 8}},
            "SFT on 300 gold solutions reached 65.8%, the base model with 8 examples 10.0%.",
        ),
        (
            {"num_cut_off": 4500},
            "50.0% of the samples were cut off at the token limit: a larger sample.max_new_tokens may help.",
        ),
    ],
)
def test_sentences_of_other_outcomes(changed: dict[str, Any], sentence: str) -> None:
    assert sentence in explain.sentences({**FACTS, **changed})


# --------------------------------------------------------------------------------------------------------- page ----


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
    assert all(entry["rft"]["is_correct"] and not entry["sft"]["is_correct"] for entry in data["won"])
    assert all(entry["sft"]["is_correct"] and not entry["rft"]["is_correct"] for entry in data["lost"])


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


# ------------------------------------------------------------------------------------------------- numbers behind ----


def test_curve_ends_at_what_was_kept(made: Made) -> None:
    run = measures.Run(made.inputs, made.settings)
    curve = run.curve(run.samples, run.graded, beside_gold=True)
    assert [k for k, _ in curve] == list(range(1, 13))
    assert curve[-1][1] == pytest.approx(made.summary()["paths_per_problem"])
    assert all(a <= b + 1e-9 for (_, a), (_, b) in pairwise(curve))


def change(path: Path, **values: Any) -> None:
    """Of a file of JSON."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_problems_that_stopped_early_count_by_the_first_samples_of_all(tmp_path: Path) -> None:
    """As with sample.until: who has two right ones among four or more gets no more."""
    made = Made(tmp_path, 40, 5, 12, solve)
    samples = pq.read_table(made.inputs["round-1/samples"] / "samples.parquet")
    graded = pq.read_table(made.inputs["round-1/graded"] / "graded.parquet")
    is_right = np.array(graded["is_correct"].to_pylist()).reshape(40, 12)
    before = np.cumsum(is_right, axis=1) - is_right
    taken = ((before < 2) | (np.arange(12) < 4)).reshape(-1)
    for step, name, table in (("samples", "samples", samples), ("graded", "graded", graded)):
        pq.write_table(table.filter(pa.array(taken)), made.inputs[f"round-1/{step}"] / f"{name}.parquet")
    verdicts = made.inputs["round-1/training"] / "verdicts.parquet"
    pq.write_table(pq.read_table(verdicts).filter(pa.array(taken)), verdicts)
    sizes = taken.reshape(40, 12).sum(axis=1)
    assert sizes.min() == 4 < sizes.max()

    gold = grading.grade(made.train["solution"], made.train["answer"], rules=made.rules)["equation_key"].to_pylist()
    rows = list(zip(samples["sample_index"].to_pylist(), graded.to_pylist(), strict=True))
    first = [
        {row["equation_key"] for index, row in rows[12 * n : 12 * n + 12]
         if index < 4 and row["is_correct"] and row["equations_status"] == "ok"} - {gold[n]}
        for n in range(40)
    ]  # fmt: skip
    summary = made.summary()
    assert [k for k, _ in summary["distinct_curve"]] == [1, 2, 3, 4]
    assert summary["distinct_curve"][-1][1] == pytest.approx(1 + np.mean([len(paths) for paths in first]))
    assert summary["distinct_paths"] > summary["distinct_curve"][-1][1] and summary["samples_per_problem"] > 4


def test_rft_costs_what_was_looked_at(tmp_path: Path) -> None:
    made = Made(tmp_path, 8, 5, 12, solve, ["sample.num_samples=12", "curate.first_samples=3"])
    tokens = pq.read_table(made.inputs["round-1/samples"] / "samples.parquet")
    num_tokens = np.array(tokens["num_tokens"].to_pylist())
    sampled = int(num_tokens.sum())
    looked_at = int(num_tokens[np.array(tokens["sample_index"].to_pylist()) < 3].sum())
    costs = {"num_tokens": sampled, "flops": 5e11, "cpu_seconds": 30.0}
    report = {"num_tokens": sampled, "num_prompt_tokens": 700, "num_samples": 96, "num_problems": 8}
    change(made.inputs["round-1/samples"] / "manifest.json", report=report, cost=costs)
    cost = made.summary()["cost"]
    share = (700 + looked_at) / (700 + sampled)
    assert 0.1 < share < 0.9
    assert cost["rft"]["flops"] == pytest.approx(2 * 2e12 + share * 5e11)
    assert cost["rft"]["num_tokens"] == 2 * 4096 + looked_at
    assert cost["total"]["flops"] == pytest.approx(2 * 2e12 + 5e11), "the run itself took all"
    assert cost["sft"] == TRAINED


def test_rft_does_not_cost_the_answers_to_test_problems(made: Made) -> None:
    cost = made.summary()["cost"]
    assert cost["total"]["cpu_seconds"] - cost["rft"]["cpu_seconds"] == pytest.approx(3 * 0.5), "of three models"
    assert cost["rft"]["flops"] == cost["total"]["flops"] == 4.5e12


def test_a_base_asked_with_examples_alone_hides_no_other_model(tmp_path: Path) -> None:
    made = Made(tmp_path, 3, 40, 2, solve)
    before = made.summary()["by_steps"]
    assert len(before) > 1
    out = made.inputs["evaluation"]
    told = json.loads((out / "evaluation.json").read_text())["measures"]
    shown = [{**entry, "few_shot": 8 if entry["model"] == "base" else 0} for entry in told]
    change(out / "evaluation.json", measures=shown)
    rows = pq.read_table(out / "evaluation.parquet").to_pylist()
    rows = [{**row, "few_shot": 8 if row["model"] == "base" else 0} for row in rows]
    pq.write_table(pa.Table.from_pylist(rows, EVALUATION), out / "evaluation.parquet")
    summary = made.summary()
    assert summary["by_steps"] == before and summary["base"]["few_shot"] == 8
    assert any("the base model with 8 examples" in line for line in summary["explained"])
    assert "before training, 8 examples" in Page(made.html()).text


def one_way(r: random.Random, problem: dict[str, str], story: Story) -> str:
    return write_solution(story.paths[0])


def without_rft(made: Made) -> None:
    """Leave what the report of a model gets that lends its samples and is not fine-tuned again."""
    out = made.inputs["evaluation"]
    facts = json.loads((out / "evaluation.json").read_text())
    facts = {key: facts[key] for key in ("num_test", "base", "sft", "measures")}
    (out / "evaluation.json").write_text(json.dumps(facts))
    for name in [name for name in made.inputs if name.startswith("rft") or name == "round-1/training"]:
        del made.inputs[name]
    made.told["pool"] = ()


def test_who_lends_paths_and_who_learns_from_a_pool_have_curves_of_their_own(tmp_path: Path) -> None:
    lender = Made(tmp_path / "lender", 12, 5, 6, solve)
    alone = lender.summary()
    assert "own_paths" not in alone, "its curve is that of its own samples"
    curve = alone["distinct_curve"]
    without_rft(lender)
    found = lender.summary()
    assert found["own_paths"]["distinct_curve"] == curve and found["own_paths"]["samples_per_problem"] == 6
    assert found["own_paths"]["distinct_paths"] == pytest.approx(curve[-1][1]) and "distinct_curve" not in found

    made = Made(tmp_path / "pool", 12, 5, 6, one_way)
    before = made.summary()["distinct_curve"]
    others = []
    for kind in ("samples", "graded"):
        made.inputs[f"large/round-1/{kind}"] = lender.inputs[f"round-1/{kind}"].rename(tmp_path / f"large-{kind}")
        others.append(Input(name=f"large/round-1/{kind}", kind=kind, phase="round-1", model="large"))
    made.told["steps"] = (*made.settings.steps, *others)
    places = (("small/sft", "round-1"), ("large/sft", "large/round-1"))
    made.told["pool"] = tuple(
        Pooled(name=name, samples=f"{place}/samples", graded=f"{place}/graded") for name, place in places
    )
    pooled = made.summary()
    assert pooled["own_paths"]["distinct_curve"] == before
    assert pooled["distinct_curve"][-1][0] == 12 and pooled["distinct_paths"] > pooled["own_paths"]["distinct_paths"]


def test_correct_per_problem_adds_up(made: Made) -> None:
    run = measures.Run(made.inputs, made.settings)
    assert run.correct_per_problem.sum() == made.summary()["num_correct"]
    assert len(run.correct_per_problem) == 40


@pytest.mark.parametrize("high", [0.0, 1e-9, 0.07, 0.5, 1, 9, 10, 11, 99.9, 1234567, float("nan")])
def test_ticks_cover_the_range_with_few_steps(high: float) -> None:
    marks = svg.ticks(high)
    assert marks[0] == 0 and 2 <= len(marks) <= 7
    assert not marks[-1] < high


def test_pictures_of_little_or_much() -> None:
    assert "No loss was logged" in charts.losses({"sft": [], "rft": []})
    assert "<svg" in charts.losses({"sft": [{"step": 1, "loss": 0.5}], "rft": []})
    assert charts.losses({"sft": [{"step": i, "loss": 1.0} for i in range(10_000)], "rft": []}).count("<circle") == 300
    assert charts.histogram(np.array([0, 500, 1000]), 1000).count("<rect") <= 61
    assert "<svg" in charts.histogram(np.array([], np.int64), 30)
    assert "no path" in charts.distinct_paths([], [])
    assert "no path" in charts.distinct_paths([(1, 0.0)], [(1, 0.0)])
