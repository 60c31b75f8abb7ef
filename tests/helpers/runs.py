"""Made-up runs: artifacts of a whole run as its stages leave them, and the page of its report as a browser sees it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from helpers.paths import TINY

from qrft import grading
from qrft.config.load import load
from qrft.data.problems.registry import draw
from qrft.data.problems.tiny_math import Story, stories, write_solution
from qrft.data.schema import EVALUATION, PROBLEMS, SAMPLES, TRAINING
from qrft.evaluation.forms import Shares
from qrft.evaluation.stats import summary
from qrft.grading.paths import is_cut_off
from qrft.models.find import BUILTIN
from qrft.pipeline.flow import plan
from qrft.pipeline.stages.evaluate import evaluate
from qrft.report.run import page as run_page
from qrft.report.run.settings import Settings
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
        limit: int = 10_000,  # characters, beyond which a text counts as cut off
        **texts: str,
    ) -> None:
        self.folder, self.measures, self.limit = folder, list(measures), limit
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
        columns += [
            ["stop" if 0 < len(c) <= self.limit else "length" for c in completions],
            [len(c) for c in completions],
            [-1.0] * len(ids),
        ]
        samples = pa.table([pa.array(c, f.type) for c, f in zip(columns, SAMPLES, strict=True)], schema=SAMPLES)
        asked = [problem["question"] for problem in problems.to_pylist() for _ in range(k)]
        is_asked = step == "round-1/" and self.steps["round-1/graded"].settings.judges_paths
        questions = asked if is_asked else None
        graded = grading.grade(samples["completion"], pa.array(gold), questions=questions, rules=self.rules)
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
        options = {"cut_off": is_cut_off(samples), "gold_texts": gold, "selection": selection, "rules": self.rules}
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
        correct, flexible, forms = {}, {}, []
        for model, skill in (("base", 0.0), ("sft", 0.8), ("rft", 1.0)):
            completions = [
                (answerer if self.random.random() < skill else fail)(self.random, problem, story)
                for problem, story in zip(self.test.to_pylist(), told, strict=True)
            ]
            samples, graded = self.sampled(f"{model}/", self.test, completions, 1)
            correct[model] = np.array(graded["is_correct"].to_pylist(), float)
            with Shares(num_test := self.test.num_rows, self.rules, 1) as shares:
                gold = self.test["answer"].combine_chunks().dictionary_encode()
                shares.add(np.arange(num_test), samples["completion"], gold, graded)
            by_form = shares.shares()
            flexible[model] = by_form["flexible"]
            named = {"model": model, "problems": "tiny-math/test", "few_shot": 0, "num_problems": num_test}
            forms.append({**named, **{name: summary(values) for name, values in by_form.items()}})
        labels = {"problems": "tiny-math/test", "few_shot": 0, "measure": "greedy"}
        score = {"value": 0.5, "low": 0.4, "high": 0.6}
        measures = [{"model": model, **labels, **score} for model in correct] + self.measures
        out = self.artifact("evaluation")
        found = {**evaluate(correct, flexible), "measures": measures, "forms": forms}
        (out / "evaluation.json").write_text(json.dumps(found))
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


def change(path: Path, **values: Any) -> None:
    """Change some values of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
