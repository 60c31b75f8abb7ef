"""The tables of a run as columns: read once, counted with Arrow and numpy."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from qrft import grading
from qrft.data.samples import pooled
from qrft.data.samples.pooled import Source
from qrft.evaluation.stats import expected_distinct
from qrft.grading.paths import Flags, gold_keys, is_beside_gold, is_cut_off, is_right_path, is_sound
from qrft.pipeline import cost, store
from qrft.report.run.settings import Settings
from qrft.report.words import MODELS

Ints: TypeAlias = npt.NDArray[np.int64]

Curve: TypeAlias = list[tuple[int, float]]  # (k, distinct paths per problem)

MAX_CURVE_POINTS = 100


@dataclass(frozen=True)
class Run:
    """The artifacts of a run by the names of its steps, and as `model` the base's folder; `settings` says what each is.

    The completions, which are large, are read only where they are shown.
    """

    inputs: Mapping[str, Path]
    settings: Settings

    def table(self, step: str, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        return pq.read_table(self.inputs[step] / name, columns=columns)

    def steps(self, kind: str, **wanted: str) -> list[str]:
        """Return the names of this run's own and shared steps of a kind, in the order of the run.

        wanted: phase and part, where they matter.
        """
        wanted["kind"], wanted["model"] = kind, ""
        return [s.name for s in self.settings.steps if all(getattr(s, key) == wanted[key] for key in wanted)]

    def step(self, kind: str, **wanted: str) -> str:
        """Return the name of the only such step. Raises ValueError where there is none, or more than one."""
        (name,) = self.steps(kind, **wanted)
        return name

    @cached_property
    def manifests(self) -> dict[str, dict[str, Any]]:
        return {step.name: store.manifest(self.inputs[step.name]) for step in self.settings.steps}

    @property
    def costs(self) -> dict[str, cost.Facts]:
        """Return what each step cost, as far as it is known."""
        return {name: manifest.get("cost", {}) for name, manifest in self.manifests.items()}

    @property
    def costs_of_rft(self) -> dict[str, cost.Facts]:
        """Return the cost of each step under RFT's model: trainings, and samplings as far as samples were looked at."""
        return {
            step.name: self._cost_of_first(step.name) if step.kind == "samples" else self.costs[step.name]
            for step in self.settings.steps
            if step.phase != "control" and (step.kind != "samples" or not step.part)  # no answers to test problems
        }

    def _cost_of_first(self, step: str) -> cost.Facts:
        first, report = self.settings.first_samples, self.manifests[step].get("report", {})
        if first is None or "num_tokens" not in report:
            return self.costs[step]
        samples = self.table(step, "samples.parquet", ["sample_index", "num_tokens"])
        looked_at = samples.filter(pc.less(samples["sample_index"], first))["num_tokens"]
        return cost.of_first(self.costs[step], report, pc.sum(looked_at, min_count=0).as_py())

    @cached_property
    def evaluation(self) -> dict[str, Any]:
        values: dict[str, Any] = json.loads((self.inputs[self.step("evaluation")] / "evaluation.json").read_bytes())
        return values

    @cached_property
    def problems(self) -> pa.Table:
        """Return the training problems, with the answers that their samples voted for."""
        return self.table(self.voted or self.step("problems", part="train"), "problems.parquet")

    @property
    def voted(self) -> str | None:
        """Return the step of the vote; None without one."""
        return next(iter(self.steps("problems", part="voted")), None)

    @property
    def models(self) -> list[str]:
        """Return base and, if this model got them, sft, control and rft."""
        return [name for name in MODELS if name in self.evaluation]

    @property
    def headlines(self) -> dict[str, dict[str, Any]]:
        """Return the measure that counts as each model's accuracy: its first one."""
        measures = self.evaluation["measures"]
        return {model: next(entry for entry in measures if entry["model"] == model) for model in self.models}

    @property
    def before_rft(self) -> str:
        """Return the model that RFT is compared with: sft, or base where there was no SFT."""
        return "sft" if "sft" in self.evaluation else "base"

    @property
    def has_rft(self) -> bool:
        return "rft" in self.evaluation

    @property
    def training(self) -> str:
        """Return the step that selected RFT's training set: that of the last round."""
        return self.steps("training")[-1]

    @cached_property
    def sources(self) -> dict[str, Source]:
        """Return the samples that were selected from, and their grades: of one round or model, or of several."""
        inputs = self.inputs
        return {one.name: Source(inputs[one.samples], inputs[one.graded]) for one in self.settings.pool}

    def sampled(self, columns: Sequence[str]) -> tuple[pa.Table, pa.Table]:
        """Return the samples that were looked at, and their grades."""
        return pooled.read(self.sources, self.settings.first_samples, columns)

    @cached_property
    def _counted(self) -> tuple[pa.Table, pa.Table]:
        return self.sampled(COUNTED)

    @property
    def samples(self) -> pa.Table:
        return self._counted[0]

    @property
    def graded(self) -> pa.Table:
        return self._counted[1]

    @cached_property
    def names_outside(self) -> pa.Array:
        """Return what the samples made elsewhere are called."""
        if pooled.OUTSIDE not in self.sources:
            return pa.array([], pa.string())
        outside = pq.read_table(self.sources[pooled.OUTSIDE].samples / "samples.parquet", columns=["model"])
        return outside["model"].unique()

    @cached_property
    def verdicts(self) -> pa.ChunkedArray:
        return self.table(self.training, "verdicts.parquet")["verdict"]

    @property
    def rules(self) -> grading.Rules:
        """Return the rules by which the samples of the training problems were graded."""
        return self.settings.rules

    @cached_property
    def problem_codes(self) -> Ints:
        """Return the problem of each sample, as its row in `problems`."""
        return self.codes_of(self.samples)

    def codes_of(self, samples: pa.Table) -> Ints:
        return as_ints(pc.index_in(samples["problem_id"], value_set=self.problems["problem_id"].combine_chunks()))

    @cached_property
    def passes(self) -> list[dict[str, int | None]]:
        """Return the cost and yield of each pass of sampling, as far as it was looked at; none without sample.until.

        A pass that first_samples cuts has num_satisfied None, since nobody counted how many had enough after it.
        """
        if len(self.sources) > 1:
            return []
        samples = next(iter(self.sources.values())).samples
        passes: list[dict[str, Any]] = store.manifest(samples).get("report", {}).get("rounds", [])
        first = self.settings.first_samples or math.inf
        whole = [row for row in passes if row["samples_per_problem"] <= first]
        before = whole[-1]["samples_per_problem"] if whole else 0
        if len(whole) == len(passes) or before == first:
            return whole
        left = {"num_samples": self.samples.num_rows, "num_tokens": self.num_tokens}
        left = {key: total - sum(row[key] for row in whole) for key, total in left.items()}
        return [*whole, {**passes[len(whole)], **left, "samples_per_problem": first, "num_satisfied": None}]

    @property
    def num_tokens(self) -> int:
        """Return the tokens of all samples that were looked at."""
        return int(pc.sum(self.samples["num_tokens"], min_count=0).as_py())

    @cached_property
    def samples_per_problem(self) -> int:
        """Return the largest number of samples of a problem; without sample.until all problems have as many."""
        counts = np.bincount(self.problem_codes)
        return int(counts.max(initial=0))

    @cached_property
    def correct_per_problem(self) -> Ints:
        """Return how many samples of each problem are correct: shape (num_problems,), in the order of `problems`."""
        is_correct = as_ints(self.graded["is_correct"]) > 0
        counts: Ints = np.bincount(self.problem_codes[is_correct], minlength=self.problems.num_rows)
        return counts

    @cached_property
    def own(self) -> tuple[pa.Table, pa.Table] | None:
        """Return all samples of this SFT model and their grades; None if it has none, or RFT selected from no others.

        A model without RFT has samples if other models select from them.
        """
        own = self.steps("samples", part="")
        chosen_from = {source.samples for source in self.sources.values()}
        if not own or (self.has_rft and {self.inputs[name] for name in own} >= chosen_from):
            return None
        first = Source(*(self.inputs[self.steps(kind, part="")[0]] for kind in Source._fields))
        return pooled.read({"": first}, None, COUNTED)

    @cached_property
    def gold_keys(self) -> pa.Array:
        """Return the key of the equation list of each problem's gold solution; null for a bare answer."""
        return gold_keys(self.problems, self.rules)

    def may_be_kept(self, samples: pa.Table, graded: pa.Table) -> Flags:
        """Return whether each sample is a right path that the selection looks at."""
        may_be = is_right_path(graded)
        if self.settings.cut_off == "drop":
            may_be &= ~is_cut_off(samples)
        return may_be & is_sound(graded) if self.settings.sound == "require" else may_be

    def right_paths(self, samples: pa.Table, graded: pa.Table, beside_gold: bool = False) -> pa.Table:
        """Return the problem (its row in `problems`) and the equation list of each sample that may be kept.

        beside_gold: without those that have the gold solution's equations.
        """
        codes = self.codes_of(samples)
        counted = self.may_be_kept(samples, graded)
        if beside_gold:
            counted &= is_beside_gold(graded["equation_key"], self.gold_keys.take(pa.array(codes)))
        return pa.table({"problem": codes, "key": graded["equation_key"]}).filter(pa.array(counted))

    def new_paths(self, samples: pa.Table, graded: pa.Table) -> Ints:
        """Count the distinct right paths beside the gold one that these samples hold of each problem."""
        paths = self.right_paths(samples, graded, beside_gold=True).group_by(["problem", "key"]).aggregate([])
        counts: Ints = np.bincount(as_ints(paths["problem"]), minlength=self.problems.num_rows)
        return counts

    def curve(self, samples: pa.Table, graded: pa.Table, beside_gold: bool = False) -> Curve:
        """Return the distinct right paths over k, from k = 1 to the fewest samples that a problem has.

        With sample.until a problem has few samples because many of them were right. So all problems count by as many
        of their first samples, and none by those that only hard ones have. Samples of files, of which problems may have
        any number, do not count here.
        """
        if len(self.names_outside):
            is_drawn = pc.invert(pc.is_in(samples["model"], value_set=self.names_outside))
            samples, graded = samples.filter(is_drawn), graded.filter(is_drawn)
        by_source = samples.group_by(["problem_id", "model"]).aggregate([([], "count_all")])["count_all"]
        is_first = pc.less(samples["sample_index"], pc.min(by_source))
        samples, graded = samples.filter(is_first), graded.filter(is_first)
        num_samples = int(np.bincount(self.codes_of(samples)).max(initial=0))
        rows = self.right_paths(samples, graded, beside_gold)
        counts = rows.group_by(["problem", "key"]).aggregate([([], "count_all")])["count_all"].to_pylist()
        return distinct_curve(counts, num_samples, max(self.problems.num_rows, 1))

    def losses(self, step: str) -> list[dict[str, float]]:
        """Return the logged losses of a training, a row per logging step."""
        lines = (self.inputs[step] / "loss.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.strip()]


COUNTED = ("problem_id", "model", "sample_index", "finish_reason", "num_tokens")


def as_ints(column: pa.Array | pa.ChunkedArray) -> Ints:
    """Return integers or booleans as int64; a null counts as 0."""
    values: Ints = column.cast(pa.int64()).fill_null(0).to_numpy()
    return values


def tally(column: pa.ChunkedArray) -> dict[str, int]:
    """Count how often each text occurs, the most frequent first."""
    counts = Counter({str(entry["values"]): entry["counts"] for entry in pc.value_counts(column).to_pylist()})
    return dict(counts.most_common())


def distinct_curve(counts: Iterable[int], num_samples: int, num_problems: int) -> Curve:
    """Return (k, distinct paths per problem that k of its num_samples samples hold on average), k = 1 .. num_samples.

    The unbiased expectation of stats.expected_distinct, summed over all paths of all problems at once: paths seen
    equally often share one term. `counts` holds the samples on each path.
    """
    seen = Counter(counts)
    points = np.unique(np.linspace(1, num_samples, min(num_samples, MAX_CURVE_POINTS)).round().astype(int)).tolist()
    return [
        (k, sum(paths * expected_distinct([count], num_samples, k) for count, paths in seen.items()) / num_problems)
        for k in points
    ]
