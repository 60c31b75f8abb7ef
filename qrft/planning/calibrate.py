"""Twenty optimizer steps and twenty decodes on this machine, which correct a forecast."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from qrft.config.training import Training
from qrft.models import prompts
from qrft.models.gguf.prepare import prepare_base
from qrft.pipeline.graph import Source, Step
from qrft.pipeline.stages import Job, export, train
from qrft.planning import sampling, training
from qrft.planning.amounts import Lengths, input_step, measure
from qrft.planning.basis import Basis, Speed
from qrft.planning.sizes import folder_of, shape_of
from qrft.progress import Progress
from qrft.sampling.api import ModelFiles, Request, Sampler, SamplingParams
from qrft.sampling.backends import registry
from qrft.training import memory

STEPS = 20


def calibrate(steps: Sequence[Step], basis: Basis, num_threads: int | None, progress: Progress) -> Speed:
    """Measure the first training and the first sampling of the plan, whether they are done or not.

    Raises the errors of a run: ModelError, SamplerError, DataError.
    """
    trained = next(step for step in steps if step.stage == "train")
    sampled = next(step for step in steps if step.stage == "sample" and "model" in step.inputs)
    progress(0, 2, f"{STEPS} steps of training")
    train_factor, above = _train(trained, basis, num_threads)
    progress(1, 2, f"{STEPS} decodes")
    decode_factor = 1.0 if sampling.reads(sampled) == "server" else _decode(sampled, basis, num_threads)
    progress(2, 2, "")
    return Speed(train_factor, decode_factor, above, is_measured=True)


def _train(step: Step, basis: Basis, num_threads: int | None) -> tuple[float, int]:
    """Return measured over estimated time, and measured minus estimated memory, of the stage on a small table."""
    chosen, _, _ = training.choose(step, basis)
    shape, model = shape_of(step), folder_of(step)
    settings = chosen.model_copy(
        update={"num_epochs": 1.0, "num_steps": None, "checkpoint_minutes": 1e6, "report_to": ()}
    )
    table = _repeated(basis.amounts.examples(input_step(step, "training")), settings.batch_size * STEPS)
    lengths = measure(table, model, settings.wording).up_to(settings.sequence_len)
    num_steps, seconds, peak = _run(model, table, settings, num_threads)
    tokens = round(lengths.count * lengths.mean_total * (num_steps - 1) / num_steps)
    expected = training.seconds(basis, shape, settings, lengths, tokens)
    estimated = memory.estimate(shape, settings, tokens=training.largest_row(settings, lengths), **basis.arithmetic)
    return seconds / (expected or seconds), peak - sum(estimated.values())


def _repeated(table: pa.Table, num_rows: int) -> pa.Table:
    """Return the first rows, repeated if there are too few, each with its own id."""
    taken = table.take([i % table.num_rows for i in range(num_rows)])
    return taken.set_column(0, "problem_id", pa.array(map(str, range(num_rows))))


def _run(model: Path, table: pa.Table, settings: Training, num_threads: int | None) -> tuple[int, float, int]:
    """Return the number of steps, the seconds of all but the first, and the bytes at the peak."""
    ends: dict[int, float] = {}
    totals: list[int] = []

    def progress(done: int, total: int, note: str) -> None:
        ends.setdefault(done, time.monotonic())
        totals.append(total)

    with tempfile.TemporaryDirectory() as folder:
        rows, out = Path(folder) / "training", Path(folder) / "out"
        rows.mkdir()
        (out / "partial").mkdir(parents=True)
        pq.write_table(table, rows / "training.parquet")
        with _no_messages():
            facts = train.run({"model": model, "training": rows}, out, settings, Job(num_threads, progress))
    num_steps = totals[-1]
    return num_steps, ends[num_steps] - ends[1], _peak(facts)


@contextmanager
def _no_messages() -> Iterator[None]:
    """Silence the training, which would show its first example."""
    logger = logging.getLogger("qrft.training")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _peak(facts: Mapping[str, Any]) -> int:
    """Return the peak in bytes: on a GPU what the allocator took plus the process's context, otherwise main memory."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved() + memory.CUDA_CONTEXT
    return int(facts["peak_memory_bytes"])


def _decode(step: Step, basis: Basis, n_threads: int | None) -> float:
    """Return measured over estimated time of decoding by the base; what an adapter adds is a small share."""
    model, settings = folder_of(step), sampling.sampling_of(step)
    tokenizer = prompts.load_tokenizer(model)
    live = sampling.live_sequences(step, basis)
    problems = basis.amounts.problems(input_step(step, "problems"))
    questions = list(islice(cycle(problems["question"].to_pylist()), live))
    ids = [prompts.prompt_ids(tokenizer, question, settings.wording) for question in questions]
    requests = [Request(str(i), prompt) for i, prompt in enumerate(ids)]
    files = ModelFiles("base", model, gguf=_base(step, model, n_threads))
    own = registry.own_settings(settings.sampler, dict(settings))
    with closing(registry.backend(settings.sampler).open_model(files, own, n_threads=n_threads)) as sampler:
        # The prompts alone, then with what is measured; the best of three, as the first makes the context's memory.
        first, all_of_them = (min(_generate(sampler, requests, num) for _ in range(3)) for num in (1, 1 + STEPS))
    lengths = Lengths(tuple(map(len, ids)), tuple(len(prompt) + STEPS for prompt in ids), live)
    expected = sampling.seconds(step, basis, lengths, live, STEPS, live, reads_prompts=False)
    return max(1e-6, all_of_them - first) / (expected or all_of_them - first)


def _generate(sampler: Sampler, requests: list[Request], num_tokens: int) -> float:
    start = time.monotonic()
    for _ in sampler.generate(requests, SamplingParams(temperature=1.0, max_new_tokens=num_tokens), []):
        pass
    return time.monotonic() - start


def _base(step: Step, model: Path, n_threads: int | None) -> Path | None:
    """Return the base model's GGUF file; None where the sampler reads none."""
    base = step.inputs.get("base")
    if base is None:
        return None
    if isinstance(base, Source):
        return base.path
    assert isinstance(base.settings, export.Settings) and base.settings.quant
    return prepare_base(str(model), quant=base.settings.quant, n_threads=n_threads)
