"""Sample solutions, shard by shard; a finished shard is not sampled again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from qrft.config.section import Seed
from qrft.config.sections import Sample
from qrft.data.schema import SAMPLES
from qrft.errors import UsageError
from qrft.grading.rules import DEFAULT_RULES, KeepOrDrop, Rules, Sound
from qrft.models import prompts
from qrft.models.gguf.prepare import base_file
from qrft.models.wording import Wording
from qrft.pipeline.stages import Inputs, Job, Report
from qrft.sampling.api import ModelFiles, Picking, SamplingParams
from qrft.sampling.backends import registry
from qrft.sampling.requests import choose_examples
from qrft.sampling.shards import SamplerSetup, collect, write_budget
from qrft.sampling.spec import SampledModel, SampleSpec, begin

VERSION = 3


class Settings(Sample, Wording):
    """`model` names the sampled model in the samples; a goal (`until`) counts what may be kept by the rules,
    `cut_off` and `sound`.
    """

    seed: Seed
    model: str
    rules: Rules | None = None
    cut_off: KeepOrDrop | None = None  # None without a goal
    sound: Sound | None = None  # None unless a goal counts sound paths alone
    judges_expressions: bool = False
    server_system: str | None = None  # what a teacher is told before each question
    few_shot: int = 0  # worked examples, drawn from the input `examples` by a seed of their own
    examples_seed: Seed | None = None

    def identity(self) -> dict[str, Any]:
        """Return the settings as ever; what counts towards a goal, only with one, and what a teacher is told."""
        optional = ("cut_off", "sound", "server_system")
        return {name: value for name, value in super().identity().items() if name not in optional or value}

    @property
    def runtime_keys(self) -> frozenset[str]:
        """The keys that do not decide the samples: how the sampler is reached, and what only other samplers read."""
        read = registry.own_values(self.sampler, dict(self))
        return frozenset((registry.all_keys() - read.keys()) | registry.backend(self.sampler).RUNTIME_KEYS)


def run(inputs: Inputs, out: Path, settings: Settings, job: Job) -> Report:
    """Write samples.parquet: for every problem, in order, its samples by index. With `until` also budget.jsonl."""
    spec = _spec(inputs, settings)
    setup, passes = begin(spec, _model(inputs, settings, out / "partial" / "answers-as", job.num_threads))
    _check_traces(setup, spec.rules)
    facts = collect(setup, passes, out / "partial", job.progress, replaces_damaged=True)
    shards = sorted((out / "partial").glob("shard-*.parquet"))
    _join(shards, spec.problems, passes.tally is None, out / "samples.parquet")
    write_budget(passes, out)
    num_prompt_tokens = sum(len(request.prompt_ids) for request in passes.requests)
    return {**facts, "num_prompt_tokens": num_prompt_tokens, "share_stopped": facts["finish_reasons"]["stop"]}


def _check_traces(setup: SamplerSetup, rules: Rules) -> None:
    """Refuse a prompt that opens a trace where the grading does not know of it: thoughts would be graded."""
    traces = setup.params.stops_outside
    if traces and traces.is_open and not rules.trace_is_open:
        raise UsageError(
            f"prompt chat: the chat template opens a trace with {traces.opening}, so that a sample which "
            "never closes it would be graded by what it thought. Set grade.trace_is_open: true, or choose prompt plain."
        )


def _spec(inputs: Inputs, settings: Settings) -> SampleSpec:
    return SampleSpec(
        problems=pq.read_table(inputs["problems"] / "problems.parquet"),
        num_samples=settings.until.max_samples or settings.num_samples,
        params=SamplingParams(**{name: getattr(settings, name) for name in (*Picking.model_fields, "seed")}),
        wording=settings.wording,
        examples=_examples(inputs, settings),
        server_system=settings.server_system,
        until=settings.until,
        rules=settings.rules or DEFAULT_RULES,
        cut_off=settings.cut_off or "drop",
        sound=settings.sound or "off",
    )


def _examples(inputs: Inputs, settings: Settings) -> list[prompts.Solved]:
    """Take few_shot + 1 problems of the input `examples`, in an order that its seed decides."""
    if "examples" not in inputs:
        return []
    table = pq.read_table(inputs["examples"] / "problems.parquet")
    order = np.random.default_rng(settings.examples_seed).permutation(table.num_rows)
    return choose_examples(table.take(order), settings.few_shot, settings.wording, "problems/train")


def _model(inputs: Inputs, settings: Settings, memory: Path, num_threads: int | None) -> SampledModel:
    """Return what is sampled; without an input `model` it is a teacher, of which a server has everything."""
    is_teacher = "model" not in inputs
    files = ModelFiles(settings.model, memory=memory) if is_teacher else _files(inputs, settings.model)
    own = registry.own_settings(settings.sampler, dict(settings))
    folder = inputs.get("model")
    return SampledModel(settings.sampler, own, settings.model, folder, lambda requests: files, num_threads)


def _files(inputs: Inputs, model: str) -> ModelFiles:
    """Find the model: GGUF files come from the exports, other samplers read what the training wrote.

    A server knows a tuned model by a name made from its training, so that it can't be mistaken for another.
    """
    if "base" in inputs:
        base, adapter = base_file(inputs["base"]), inputs.get("adapter")
        if adapter and base_file(adapter).exists():  # the export merged it
            base, adapter = base_file(adapter), None
        return ModelFiles(model, inputs["model"], gguf=base, adapter_gguf=adapter and adapter / "adapter.gguf")
    trained = inputs.get("adapter") or inputs.get("tuned")
    if trained is None:
        return ModelFiles(model, inputs["model"])
    name = f"{model}-{trained.name.rpartition('-')[2][:12]}"
    if "tuned" in inputs:
        return ModelFiles(name, (trained / "model").resolve(), is_tuned=True)
    return ModelFiles(name, inputs["model"], (trained / "adapter").resolve(), is_tuned=True)


def _join(shards: Sequence[Path], problems: pa.Table, is_in_order: bool, out: Path) -> None:
    """Write one file, a row group per shard. Passes leave a problem's samples in several: those are sorted first."""
    with pq.ParquetWriter(out, SAMPLES) as writer:
        if is_in_order:
            for shard in shards:
                writer.write_table(pq.read_table(shard))
        else:
            writer.write_table(_by_problem(pa.concat_tables(map(pq.read_table, shards)), problems))


def _by_problem(samples: pa.Table, problems: pa.Table) -> pa.Table:
    place = pc.index_in(samples["problem_id"], problems["problem_id"].combine_chunks())
    keys = [("place", "ascending"), ("sample_index", "ascending")]
    return samples.take(pc.sort_indices(samples.append_column("place", place), keys))
