"""A folder of shards: Parquet files of schema.SAMPLES, each there whole or not at all."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from qrft.data.disk import write_atomic
from qrft.data.files import reason
from qrft.data.schema import SAMPLES
from qrft.errors import DamagedError, StoreError
from qrft.progress import Progress
from qrft.sampling.api import Completion, Request, Sampler, SamplingParams, Stats
from qrft.sampling.backends.stop_texts import first_stop
from qrft.sampling.passes import Passes

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BUDGET = "budget.jsonl"
log = logging.getLogger(__name__)


class Part(NamedTuple):
    """Which of the shards a command makes: the `number`-th, counted from 1, and every `of`-th after it."""

    number: int
    of: int

    def has(self, shard: int) -> bool:
        return shard % self.of == self.number - 1


WHOLE = Part(1, 1)


@dataclass(frozen=True)
class SamplerSetup:
    """How samples are made. `open` is called when the first is wanted. `tokenizer`: None if a server sends texts."""

    open: Callable[[], Sampler]
    params: SamplingParams
    tokenizer: PreTrainedTokenizerBase | None
    model: str  # the model's name in the samples
    eos_ids: Sequence[int] = ()  # the tokens that end a sample; a server knows its own


@dataclass
class Meter:
    """How the time of the new samples was spent."""

    num_samples: int = 0
    num_tokens: int = 0
    seconds: float = 0.0
    finished: Stats | None = None  # of the shards before
    merged_speedup: float | None = None  # LlamaProcess's
    is_on_gpu: bool = False  # in a process of the sampler's own

    def note(self, stats: Stats) -> str:
        words = [f"{self.num_tokens / self.seconds:,.0f} tokens/s"] if self.seconds else []
        if stats.num_live:
            words.append(f"{stats.num_live} live")
        if shares := _shares(stats):
            words.append(f"decode {shares['decode_share']:.0%}, pick {shares['pick_share']:.0%}")
        return ", ".join(words)

    def facts(self) -> dict[str, Any]:
        facts = {"num_new": self.num_samples, "seconds": self.seconds}
        if self.num_samples:
            facts["tokens_per_second"] = self.num_tokens / self.seconds
        if self.is_on_gpu:
            facts["gpu_seconds"] = self.seconds
        if self.merged_speedup is not None:
            facts["merged_speedup"] = self.merged_speedup
        return {**facts, **_shares(self.finished or Stats())}


def _shares(stats: Stats) -> dict[str, float]:
    """Return shares of the time inside the sampler. A server does not report any."""
    if not stats.decode_seconds or not stats.total_seconds:
        return {}
    total = stats.total_seconds
    return {"decode_share": stats.decode_seconds / total, "pick_share": stats.pick_seconds / total}


def collect(
    setup: SamplerSetup,
    passes: Passes,
    folder: Path,
    progress: Progress,
    *,
    replaces_damaged: bool = False,
    part: Part = WHOLE,
) -> dict[str, Any]:
    """Make the shards that the folder lacks. Return facts of all its samples and of the time the new ones took.

    replaces_damaged: sample a damaged shard again, instead of leaving that to the person whose folder it is. part:
    which of the shards are made, if there is no goal.
    Raises SamplerError when the sampler fails (the shards before it stay) and StoreError for a shard that can't be
    written, or is not of these settings.
    """
    meter = Meter()
    with ExitStack() as stack:
        sampler: Sampler | None = None
        for number, shard in enumerate(passes.shards()):
            if not part.has(number):
                passes.skip(shard)
                continue
            path = folder / name_of(number)
            table = _known(path, shard, replaces_damaged)
            if table is None:
                if sampler is None:
                    progress(sum(passes.num_samples.values()), passes.num_wanted, "opening the model")
                    sampler = stack.enter_context(closing(setup.open()))
                    meter.merged_speedup = getattr(sampler, "merged_speedup", None)
                    meter.is_on_gpu = getattr(sampler, "is_on_gpu", False)
                table = to_table(list(_watched(setup, sampler, passes, shard, meter, progress)), shard, setup)
                _write(table, path)
            passes.add(table)
    return {**passes.facts(), **meter.facts()}


def name_of(number: int) -> str:
    """Return the file name of a shard."""
    return f"shard-{number:06}.parquet"


def _known(path: Path, shard: Sequence[Request], replaces_damaged: bool) -> pa.Table | None:
    try:
        return read(path, shard) if path.exists() else None
    except DamagedError:
        if not replaces_damaged:
            raise
        log.warning("%s: is damaged and is sampled again", path)
        return None


def remove_temporaries(folder: Path) -> None:
    """Remove the half-written files of a killed process."""
    for leftover in folder.glob(".*.tmp"):
        ours = re.fullmatch(r"\.(shard-\d{6,}\.parquet|settings\.json|budget\.jsonl)\.[0-9a-f]{8}\.tmp", leftover.name)
        if ours and not leftover.is_symlink():
            leftover.unlink()


def write_budget(passes: Passes, folder: Path) -> None:
    """Write budget.jsonl, a line per problem, where there is a goal: what its samples brought."""
    if passes.tally:
        write_atomic(folder / BUDGET, "".join(json.dumps(row) + "\n" for row in passes.by_problem()))


def stream(setup: SamplerSetup, passes: Passes) -> Iterator[Completion]:
    """Yield every sample with its text, in the order in which they end within a shard; nothing is kept."""
    with closing(setup.open()) as sampler:
        for shard in passes.shards():
            done = []
            with closing(sampler.generate(shard, setup.params, setup.eos_ids)) as completions:  # type: ignore[type-var]
                for completion in completions:
                    done.extend(finish([completion], setup))
                    yield done[-1]
            passes.add(to_table(done, shard, setup))


def _watched(
    setup: SamplerSetup, sampler: Sampler, passes: Passes, shard: list[Request], meter: Meter, progress: Progress
) -> Iterator[Completion]:
    before = meter.seconds
    start = time.monotonic()
    done = sum(passes.num_samples.values())
    for number, completion in enumerate(sampler.generate(shard, setup.params, setup.eos_ids), 1):
        meter.num_samples += 1
        meter.num_tokens += completion.num_tokens
        meter.seconds = before + time.monotonic() - start
        progress(done + number, passes.num_wanted, meter.note(sampler.stats))
        yield completion
    meter.seconds = before + time.monotonic() - start
    meter.finished = sampler.stats if meter.finished is None else meter.finished + sampler.stats


def finish(completions: Sequence[Completion], setup: SamplerSetup) -> list[Completion]:
    """Return the completions with their texts, which end where a stop text begins."""
    texts = [c.text for c in completions]
    lacking = [i for i, text in enumerate(texts) if text is None]
    if lacking:
        assert setup.tokenizer is not None  # without a tokenizer the sampler sends texts
        ids = [completions[i].token_ids for i in lacking]
        for i, text in zip(lacking, setup.tokenizer.batch_decode(ids, skip_special_tokens=True), strict=True):
            texts[i] = text
    return [_cut(c, text or "", setup.params) for c, text in zip(completions, texts, strict=True)]


def _cut(completion: Completion, text: str, params: SamplingParams) -> Completion:
    place = first_stop(text, params.stop, params.stops_outside)
    if place < 0:
        return replace(completion, text=text)
    return replace(completion, text=text[:place], finish_reason="stop_text")


def to_table(completions: Sequence[Completion], shard: Sequence[Request], setup: SamplerSetup) -> pa.Table:
    """Return the completions as schema.SAMPLES, by problem and sample, whatever order they ended in."""
    order = {request.problem_id: index for index, request in enumerate(shard)}
    rows = sorted(finish(completions, setup), key=lambda c: (order[c.problem_id], c.sample_index))
    columns = {
        "problem_id": [c.problem_id for c in rows],
        "model": [setup.model] * len(rows),
        "sample_index": [c.sample_index for c in rows],
        "completion": [c.text for c in rows],
        "finish_reason": [c.finish_reason for c in rows],
        "num_tokens": [c.num_tokens for c in rows],
        "logprob": [c.logprob for c in rows],
    }
    return pa.table(columns, schema=SAMPLES)


def read(path: Path, shard: Sequence[Request]) -> pa.Table:
    """Read a shard that is there. Raises DamagedError when it can't be read, StoreError when it holds other samples."""
    try:
        table = pq.read_table(path, page_checksum_verification=True)
        held = list(zip(table["problem_id"].to_pylist(), table["sample_index"].to_pylist(), strict=True))
    except (OSError, pa.ArrowException, KeyError) as error:
        raise DamagedError(f"{path}: can't be read ({reason(error)}). Remove it to have it sampled again.") from error
    if table.schema != SAMPLES:  # a flipped bit of the footer, which no checksum covers, may change a name or a type
        raise DamagedError(f"{path}: has other columns than samples have. Remove it to have it sampled again.")
    wanted = [(r.problem_id, i) for r in shard for i in range(r.first_sample, r.first_sample + r.num_samples)]
    if held != wanted:
        raise StoreError(
            f"{path}: holds {_span(held)}, expected {_span(wanted)}. It was not made with these settings, or a shard "
            "before it was changed. Remove it and the later shards to have them sampled again."
        )
    return table


def _span(samples: Sequence[tuple[str, int]]) -> str:
    if not samples:
        return "no samples"
    (first, low), (last, high) = samples[0], samples[-1]
    return f"{len(samples):,} samples from {first!r} {low} to {last!r} {high}"


def _write(table: pa.Table, path: Path) -> None:
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, write_page_checksum=True)
    write_atomic(path, buffer.getvalue().to_pybytes())
