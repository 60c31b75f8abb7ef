"""Sample solutions with llama.cpp, shard by shard; a shard that is there is not sampled again."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from qrft import prompts
from qrft.gguf.prepare import base_file
from qrft.sampling.messages import Completion, Request, SamplingParams
from qrft.sampling.pool import open_sampler
from qrft.schema import SAMPLES
from qrft.stages import Config, Inputs, Progress, Report

VERSION = 1

# A kill loses at most one shard, and the context runs empty at a shard's end: about 2% of its time at 32 sequences.
SAMPLES_PER_SHARD = 2048


def run(inputs: Inputs, out: Path, config: Config, progress: Progress) -> Report:
    """Writes samples.parquet: for every problem, in order, its samples by index."""
    tokenizer = prompts.load_tokenizer(inputs["model"])
    requests = _requests(tokenizer, inputs["problems"], config)
    size = max(1, SAMPLES_PER_SHARD // config["num_samples"])
    shards = {out / "partial" / f"shard-{i:06}.parquet": requests[i : i + size] for i in range(0, len(requests), size)}
    todo = {path: shard for path, shard in shards.items() if not path.exists()}
    num_samples = len(requests) * config["num_samples"]
    done = num_samples - sum(len(shard) for shard in todo.values()) * config["num_samples"]
    stats: dict[str, float] = {}
    if todo:
        stats = _sample(inputs, config, todo, tokenizer, lambda n, note: progress(done + n, num_samples, note))
    return {**_join(list(shards), out / "samples.parquet"), **stats}


def _requests(tokenizer: Any, problems: Path, config: Config) -> list[Request]:
    rows = pq.read_table(problems / "problems.parquet", columns=["problem_id", "question"]).to_pylist()
    return [
        Request(
            row["problem_id"], prompts.prompt_ids(tokenizer, row["question"], config["prompt"]), config["num_samples"]
        )
        for row in rows
    ]


def _sample(
    inputs: Inputs,
    config: Config,
    todo: dict[Path, list[Request]],
    tokenizer: Any,
    progress: Callable[[int, str], None],
) -> dict[str, float]:
    params = SamplingParams(
        config["temperature"], config["top_p"], config["top_k"], config["max_new_tokens"], config["seed"]
    )
    adapter = inputs["adapter"] / "adapter.gguf" if "adapter" in inputs else None
    start, num_tokens, num_done = time.monotonic(), 0, 0
    settings = {"n_threads": config["num_threads"], "n_seq_max": config["num_sequences"]}
    with open_sampler(base_file(inputs["base"]), adapter, **settings) as sampler:

        def watched(completions: Iterator[Completion]) -> Iterator[Completion]:
            nonlocal num_tokens, num_done
            for completion in completions:
                num_tokens += len(completion.token_ids)
                num_done += 1
                progress(num_done, f"{num_tokens / (time.monotonic() - start):,.0f} tokens/s")
                yield completion

        for path, shard in todo.items():
            completions = list(watched(sampler.generate(shard, params, [tokenizer.eos_token_id])))
            _write(_table(completions, shard, tokenizer, config["model"]), path)
    seconds = time.monotonic() - start
    return {"tokens_per_second": num_tokens / seconds}


def _table(completions: Sequence[Completion], shard: Sequence[Request], tokenizer: Any, model: str) -> pa.Table:
    """The rows in the order of the problems and their samples, whatever order they ended in."""
    order = {request.problem_id: index for index, request in enumerate(shard)}
    rows = sorted(completions, key=lambda c: (order[c.problem_id], c.sample_index))
    texts = tokenizer.batch_decode([c.token_ids for c in rows], skip_special_tokens=True)
    return pa.Table.from_pylist(
        [
            {
                "problem_id": c.problem_id,
                "model": model,
                "sample_index": c.sample_index,
                "completion": text,
                "finish_reason": c.finish_reason,
                "num_tokens": len(c.token_ids),
                "logprob": c.logprob,
            }
            for c, text in zip(rows, texts, strict=True)
        ],
        schema=SAMPLES,
    )


def _write(table: pa.Table, path: Path) -> None:
    """A shard is visible only when whole."""
    temporary = path.with_suffix(".tmp")
    pq.write_table(table, temporary)
    os.replace(temporary, path)


def _join(shards: Sequence[Path], out: Path) -> dict[str, float]:
    rows = stops = tokens = 0
    with pq.ParquetWriter(out, SAMPLES) as writer:
        for shard in shards:
            table = pq.read_table(shard)
            writer.write_table(table)
            rows += table.num_rows
            tokens += sum(table["num_tokens"].to_pylist())
            stops += table["finish_reason"].to_pylist().count("stop")
    return {"num_samples": rows, "num_tokens": tokens, "share_stopped": stops / max(1, rows)}
