"""Sample solutions with llama.cpp, shard by shard; a shard that is there is not sampled again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from qrft import grading
from qrft.data.disk import write_atomic
from qrft.data.schema import SAMPLES
from qrft.models import prompts
from qrft.models.gguf.prepare import base_file
from qrft.pipeline.stages import Config, Inputs, Progress, Report
from qrft.sampling.api import ModelFiles, Sampler, SamplingParams
from qrft.sampling.backends import registry
from qrft.sampling.budget import SAMPLES_PER_SHARD, Rounds, Until
from qrft.sampling.requests import choose_examples, make_requests, work_of
from qrft.sampling.shards import Job, collect
from qrft.sampling.tally import Tally

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

VERSION = 2


def run(inputs: Inputs, out: Path, config: Config, progress: Progress) -> Report:
    """Writes samples.parquet: for every problem, in order, its samples by index. With `until` also budget.jsonl."""
    tokenizer = prompts.load_tokenizer(inputs["model"])
    problems = pq.read_table(inputs["problems"] / "problems.parquet")
    rounds = _rounds(problems, tokenizer, config, _examples(inputs, config))

    def open_llama() -> Sampler:
        adapter = inputs["adapter"] / "adapter.gguf" if "adapter" in inputs else None
        files = ModelFiles(config["model"], gguf=base_file(inputs["base"]), adapter_gguf=adapter)
        work = work_of(rounds.requests, rounds.asked[-1], config["max_new_tokens"])
        settings = registry.own_settings("llama.cpp", config)
        return registry.backend("llama.cpp").open_model(files, settings, work=work, n_threads=config["num_threads"])

    eos_ids = prompts.end_ids(tokenizer, config["prompt"])
    job = Job(open_llama, _params(config), tokenizer, config["model"], eos_ids)
    facts = collect(job, rounds, out / "partial", progress)
    shards = sorted((out / "partial").glob("shard-*.parquet"))
    _join(shards, problems, rounds.tally is None, out / "samples.parquet")
    if rounds.tally:
        write_atomic(out / "budget.jsonl", "".join(json.dumps(row) + "\n" for row in rounds.by_problem()))
    num_prompt_tokens = sum(len(request.prompt_ids) for request in rounds.requests)
    return {**facts, "num_prompt_tokens": num_prompt_tokens, "share_stopped": facts["finish_reasons"]["stop"]}


def _examples(inputs: Inputs, config: Config) -> list[prompts.Solved]:
    """Of the input `examples`: the first few_shot problems, and one to spare, in an order that its seed decides."""
    if "examples" not in inputs:
        return []
    table = pq.read_table(inputs["examples"] / "problems.parquet")
    order = np.random.default_rng(config["examples_seed"]).permutation(table.num_rows)
    return choose_examples(table.take(order), config["few_shot"], config["prompt"], "problems/train")


def _rounds(
    problems: pa.Table, tokenizer: PreTrainedTokenizerBase, config: Config, examples: Sequence[prompts.Solved]
) -> Rounds:
    until, tally = Until(**config["until"]), None
    if until.goal:
        tally = Tally(problems, until, grading.Rules(**config["rules"]), config["num_threads"])
    requests = make_requests(problems, tokenizer, config["prompt"], examples)
    return Rounds(requests, [until.max_samples or config["num_samples"]], tally, SAMPLES_PER_SHARD)


def _params(config: Config) -> SamplingParams:
    return SamplingParams(**{name: config[name] for name in SamplingParams.model_fields})


def _join(shards: Sequence[Path], problems: pa.Table, is_in_order: bool, out: Path) -> None:
    """One file, a row group a shard. Rounds leave a problem's samples in several shards: those are sorted first."""
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
