"""Open a sampler for problems, and the shards that it fills, for `qrft run`, `qrft sample` and `qrft.sample` alike."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa

from qrft.config.section import Section
from qrft.grading.rules import DEFAULT_RULES, KeepOrDrop, Rules, Sound
from qrft.models import prompts
from qrft.models.wording import CHAT, PLAIN, Wording
from qrft.sampling.api import ModelFiles, Request, Sampler, SamplingParams, Work
from qrft.sampling.backends import registry
from qrft.sampling.backends.registry import SamplerName
from qrft.sampling.budget import NO_GOAL, SAMPLES_PER_SHARD, Until
from qrft.sampling.passes import Passes
from qrft.sampling.requests import make_requests, work_of
from qrft.sampling.shards import SamplerSetup
from qrft.sampling.tally import Tally

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SampleSpec:
    """What to sample.

    `problems`: schema.PROBLEMS. `num_samples`: the most per problem. `examples`: worked ones for the prompts, one to
    spare. `server_system`: the system turn of a server with a chat template of its own. `rules`,
    `cut_off` and `sound` say what counts towards the goal of `until`.
    """

    problems: pa.Table
    num_samples: int
    params: SamplingParams
    wording: Wording = PLAIN
    examples: Sequence[prompts.Solved] = ()
    server_system: str | None = None
    until: Until = NO_GOAL
    rules: Rules = DEFAULT_RULES
    cut_off: KeepOrDrop = "drop"
    sound: Sound = "off"
    samples_per_shard: int = SAMPLES_PER_SHARD


@dataclass(frozen=True)
class SampledModel:
    """Which model is sampled, and by what.

    `settings`: the sampler's own. `label`: what the samples say of their model. `folder`: the Hugging Face folder that
    makes the token ids; None where a server does. `files`: called with the requests when the first sample is wanted.
    """

    sampler: SamplerName
    settings: Section
    label: str
    folder: Path | None
    files: Callable[[Sequence[Request]], ModelFiles]
    num_threads: int | None = None


def begin(spec: SampleSpec, model: SampledModel, asked: Sequence[int] = ()) -> tuple[SamplerSetup, Passes]:
    """Return how samples are made, and which ones, for `shards.collect` or `shards.stream`. Nothing is opened yet.

    `asked`: the numbers of samples asked for so far, rising to `spec.num_samples`. Raises ModelError for a tokenizer
    that can't be read, and DataError for a question that can't be put into a prompt.
    """
    tokenizer = None if model.folder is None else prompts.load_tokenizer(model.folder)
    requests = make_requests(spec.problems, tokenizer, spec.wording, spec.examples, spec.server_system)
    if tokenizer is not None and spec.wording.prompt == CHAT:
        log.info("%s", prompts.told_ends(tokenizer, spec.wording))
    rules = spec.rules
    if tokenizer is not None and rules.traces and prompts.opens_trace(tokenizer, spec.wording, rules.traces):
        rules = rules.model_copy(update={"trace_is_open": True})
    tally = None
    if spec.until.goal:
        tally = Tally(spec.problems, spec.until, rules, model.num_threads, cut_off=spec.cut_off, sound=spec.sound)
    passes = Passes(requests, asked or [spec.num_samples], tally, spec.samples_per_shard)
    work = work_of(requests, spec.num_samples, spec.params.max_new_tokens)
    eos_ids = [] if tokenizer is None else prompts.end_ids(tokenizer, spec.wording)
    open_sampler = partial(_open, model, requests, work)
    params = spec.params.model_copy(update={"stops_outside": rules.traces})
    return SamplerSetup(open_sampler, params, tokenizer, model.label, eos_ids), passes


def _open(model: SampledModel, requests: Sequence[Request], work: Work) -> Sampler:
    backend = registry.backend(model.sampler)
    return backend.open_model(model.files(requests), model.settings, work=work, n_threads=model.num_threads)
