"""How much each step has to do: rows and tokens, from finished steps, or otherwise from stated assumptions.

Finished artifacts are read. Problems are drawn or read as their stage would. A solution that is not sampled yet
is taken to be as long as the gold one.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from qrft.data.samples.batches import num_rows
from qrft.data.worked import check_worked, gold_texts, is_worked
from qrft.models import prompts
from qrft.models.light_tokenizer import load_light_tokenizer
from qrft.models.wording import Wording
from qrft.pipeline.graph import STAGES, Source, Step
from qrft.pipeline.stages import Job, curate, problems, sample
from qrft.pipeline.store import Store, manifest

SAMPLED_BY = ("sample", "outside")  # the stages that samples are from
MOST_COUNTED = 1000  # texts that are tokenized; more are drawn evenly
SAMPLED = (
    "A sampled solution is as long as the gold one, or half of sample.max_new_tokens where there is none.",
    "Of k samples per problem, sqrt(k)/2 new paths are kept (the paper's 7B: 5.3 of 100).",
)
WITH_GOAL = "With sample.until half of the most samples are drawn."


def assumptions(steps: Iterable[Step]) -> tuple[str, ...]:
    """Return the assumptions behind the amounts of these steps."""
    sampled = [step.settings for step in steps if isinstance(step.settings, sample.Settings)]
    has_goal = any(settings.until.goal for settings in sampled)
    return (*(SAMPLED if sampled else ()), *((WITH_GOAL,) if has_goal else ()))


@dataclass(frozen=True)
class Lengths:
    """Tokens of examples that represent `count` of them: the prompts, and prompt, completion and end together."""

    prompts: tuple[int, ...]
    totals: tuple[int, ...]
    count: int

    @property
    def mean_prompt(self) -> float:
        return sum(self.prompts) / max(1, len(self.prompts))

    @property
    def mean_total(self) -> float:
        return sum(self.totals) / max(1, len(self.totals))

    @property
    def mean_completion(self) -> float:
        return self.mean_total - self.mean_prompt

    def up_to(self, longest: int) -> Lengths:
        """Return the lengths without those above a limit."""
        kept = [i for i, total in enumerate(self.totals) if total <= longest]
        count = round(self.count * len(kept) / max(1, len(self.totals)))
        return Lengths(tuple(self.prompts[i] for i in kept), tuple(self.totals[i] for i in kept), count)

    def largest_sum(self, num: int) -> int:
        """Return how many tokens `num` examples hold together at most: three standard deviations above the mean."""
        mean, count = self.mean_total, max(1, len(self.totals))
        deviation = math.sqrt(sum((total - mean) ** 2 for total in self.totals) / count)
        return math.ceil(min(num * mean + 3 * deviation * math.sqrt(num), num * max(self.totals, default=0)))


class Amounts:
    """The rows and tokens of the steps of a plan."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._is_there: dict[str, bool] = {}
        self._tables: dict[str, pa.Table] = {}
        self._lengths: dict[tuple[str, str, Wording], Lengths] = {}

    def is_there(self, step: Step) -> bool:
        if step.digest not in self._is_there:
            self._is_there[step.digest] = self.store.has(step.stage, step.digest)
        return self._is_there[step.digest]

    def report(self, step: Step) -> Mapping[str, Any]:
        """Return the report of a finished step; {} for one that is to do."""
        if not self.is_there(step):
            return {}
        report: Mapping[str, Any] = manifest(self.store.path(step.stage, step.digest))["report"]
        return report

    def rows(self, step: Step) -> float:
        """Return how many problems, examples or samples a step makes."""
        if step.kind == "problems":
            return float(self.problems(step).num_rows)
        if step.stage == "curate":
            if self.is_there(step):
                return float(self._table(step, "training.parquet").num_rows)
            return self._expected(step)
        if step.stage == "sample":
            known = self.report(step).get("num_samples")
            return float(known or self.num_samples(step) * self.rows(input_step(step, "problems")))
        if step.stage == "outside":
            return float(self.report(step).get("num_samples") or sum(map(num_rows, _outside_files(step))))
        return sum(self.rows(source) for name, source in _steps(step) if name == "samples")

    def _expected(self, step: Step) -> float:
        settings, asked = step.settings, input_step(step, "problems")
        assert isinstance(settings, curate.Settings)
        if not settings.sources:
            check_worked(self.problems(asked), f"problems.train: {_name(asked)}")
        num_problems = self.rows(asked)
        gold = int(is_worked(self.problems(asked)).sum())
        most, first = settings.max_per_problem or math.inf, settings.first_samples or math.inf
        read = [min(first, self.num_samples(source)) for _, source in _steps(step) if source.stage in SAMPLED_BY]
        return gold + sum(num_problems * min(most, math.sqrt(num_samples) / 2) for num_samples in read)

    def num_samples(self, step: Step) -> float:
        """Return how many samples per problem a sampling draws, or files bring."""
        if step.stage == "outside":
            return self.rows(step) / self.rows(input_step(step, "problems"))
        settings = step.settings
        assert isinstance(settings, sample.Settings)
        most = float(settings.until.max_samples or settings.num_samples)
        return most / 2 if settings.until.goal else most

    def problems(self, step: Step) -> pa.Table:
        """Return the problems; before a vote, without the answers that will win it."""
        if step.stage == "vote" and not self.is_there(step):
            return self.problems(input_step(step, "problems"))
        if step.digest not in self._tables:
            self._tables[step.digest] = self._table(step, "problems.parquet")
        return self._tables[step.digest]

    def _table(self, step: Step, file: str) -> pa.Table:
        """Return a table of an artifact; missing problems are made as their stage makes them, without a model."""
        if self.is_there(step):
            return pq.read_table(self.store.path(step.stage, step.digest) / file)
        with tempfile.TemporaryDirectory() as folder:
            inputs = {name: source.path for name, source in step.inputs.items() if isinstance(source, Source)}
            STAGES[step.stage].run(inputs, Path(folder), step.settings, Job())
            return pq.read_table(Path(folder) / file)

    def lengths(self, step: Step, model: Path, wording: Wording) -> Lengths:
        """Return the lengths of the examples of a training table or a problem set, in the tokens of `model`."""
        key = (step.digest, str(model), wording)
        if key not in self._lengths:
            self._lengths[key] = self._measure(step, model, wording)
        return self._lengths[key]

    def to_sample(self, step: Step, model: Path, wording: Wording) -> Lengths:
        """Return the lengths of a sampling's prompts with what is to come: the gold solution, or half of the limit."""
        settings, asked = step.settings, input_step(step, "problems")
        assert isinstance(settings, sample.Settings)
        gold = self.lengths(asked, model, wording)
        if is_worked(self.problems(asked)).any():
            return gold
        return replace(gold, totals=tuple(prompt + settings.max_new_tokens // 2 for prompt in gold.prompts))

    def _measure(self, step: Step, model: Path, wording: Wording) -> Lengths:
        if step.stage == "curate" and not self.is_there(step):  # the gold solutions represent those to come
            sampled = [source for _, source in _steps(step) if source.stage == "sample"]
            asked = input_step(step, "problems")
            like = self.to_sample(sampled[0], model, wording) if sampled else self.lengths(asked, model, wording)
            return replace(like, count=round(self.rows(step)))
        return measure(self.examples(step), model, wording)

    def examples(self, step: Step) -> pa.Table:
        """Return problem_id, question and completion of a training table, or of gold solutions where it is missing."""
        if step.stage == "curate" and self.is_there(step):
            return self._table(step, "training.parquet").select(["problem_id", "question", "completion"])
        table = self.problems(step if step.kind == "problems" else input_step(step, "problems"))
        names = ["problem_id", "question", "completion"]
        return pa.table([table["problem_id"], table["question"], gold_texts(table)], names)


def measure(examples: pa.Table, model: Path, wording: Wording) -> Lengths:
    """Count the tokens of at most MOST_COUNTED of the examples, drawn evenly."""
    tokenizer = load_light_tokenizer(model)
    step = max(1, -(-examples.num_rows // MOST_COUNTED))
    drawn = examples.take(list(range(0, examples.num_rows, step))).to_pylist()
    counted = [prompts.example(tokenizer, row["question"], row["completion"], wording) for row in drawn]
    totals = tuple(len(example.token_ids) for example in counted)
    return Lengths(tuple(example.prompt_length for example in counted), totals, examples.num_rows)


def _name(step: Step) -> str:
    """Return the name of the problem set, or of the file."""
    assert isinstance(step.settings, problems.Settings)
    file = step.inputs.get("file")
    return step.settings.set or (file.path.name if isinstance(file, Source) else step.path)


def _outside_files(step: Step) -> list[Path]:
    return [source.path for source in step.inputs.values() if isinstance(source, Source)]


def input_step(step: Step, name: str) -> Step:
    """Return the step that is the input of that name."""
    source = step.inputs[name]
    assert isinstance(source, Step)
    return source


def _steps(step: Step) -> Iterable[tuple[str, Step]]:
    return ((name, source) for name, source in step.inputs.items() if isinstance(source, Step))
