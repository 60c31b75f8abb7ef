"""Turn rows of text into a fine-tuned adapter or model, for the stage `train` and for `qrft train`."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qrft.config.training import Training
from qrft.data.training_rows import Row
from qrft.errors import DataError, ModelError
from qrft.grading.traces import TRACES
from qrft.machine import let_gpu_memory_grow
from qrft.models import prompts
from qrft.models.prompts import Example
from qrft.models.wording import CHAT, Wording
from qrft.progress import Progress
from qrft.training.checkpoints import as_begun
from qrft.training.watch import NotFinite

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SHOWN_CHARACTERS = 2000
SHOWN_NAMES = 16

log = logging.getLogger(__name__)  # tells a person about a training, beside its progress


@dataclass(frozen=True)
class Examples:
    """What is trained on, with the names of its rows, and how many longer rows were dropped or cut."""

    kept: list[Example]
    names: list[str]
    num_dropped: int
    num_cut: int

    def facts(self) -> dict[str, int]:
        return {
            "num_too_long": self.num_dropped + self.num_cut,
            "num_dropped": self.num_dropped,
            "num_cut": self.num_cut,
        }


def finetune(
    model_dir: Path,
    rows: Sequence[Row],
    settings: Training,
    out: Path,
    checkpoints: Path,
    progress: Progress,
    *,
    start: Path | None = None,
    num_threads: int | None = None,
    num_steps: int | None = None,
) -> dict[str, Any]:
    """Train on the rows into `out`, resuming from `checkpoints` if it holds one; return the trainer's facts and counts.

    start: the folder of an adapter that is trained further. num_threads: None takes all cores. num_steps: None takes
    what the settings say.
    Raises DataError for an empty completion and when no example is left, ModelError for a model that can't be trained
    or a loss that is not a finite number.
    """
    let_gpu_memory_grow()
    import torch

    from qrft.training import memory, model, replicas, trainer

    progress(0, 1, "loading the model")
    model.refuse_quantized(model_dir)  # fails before examples are made
    if num_threads:
        torch.set_num_threads(num_threads)
    tokenizer = prompts.load_tokenizer(model_dir)
    examples = make_examples(rows, tokenizer, settings)
    if is_main():
        describe(examples, tokenizer, settings)
    fitting = memory.fit_here(as_begun(settings, checkpoints), model_dir, num_threads)
    processes = replicas.num_processes(fitting.batch_size, num_threads)
    with _named(examples.names):
        facts = trainer.train(
            model_dir, examples.kept, tokenizer, fitting, out, checkpoints, progress, start, processes, num_steps
        )
    return {**facts, **examples.facts()}


def is_main() -> bool:
    """Return whether this process reports and writes: the first, if torchrun or accelerate started several."""
    return int(os.environ.get("RANK", 0)) == 0


def make_examples(rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, settings: Training) -> Examples:
    """Tokenize every row. One longer than sequence_len is dropped, or loses the end of its completion.

    A row that is cut has no end-of-text; it is dropped too when nothing of its completion would be left.
    Raises DataError for an empty completion, and when no example is left.
    """
    limit, cuts = settings.sequence_len, settings.too_long == "cut"
    kept: list[Example] = []
    names: list[str] = []
    num_cut = 0
    for row in rows:
        example = _example(row, tokenizer, settings.wording)
        if len(example.token_ids) > limit:
            if not cuts or example.prompt_length >= limit:
                continue
            example = Example(example.token_ids[:limit], example.prompt_length)
            num_cut += 1
        kept.append(example)
        names.append(row.name)
    if not kept:
        reason = "the training set is empty"
        if rows:
            reason = f"all {len(rows):,} are longer than train.sequence_len {limit}. Raise it, or give other data"
        raise DataError(f"There are no examples to train on: {reason}.")
    return Examples(kept, names, len(rows) - len(kept), num_cut)


def _example(row: Row, tokenizer: PreTrainedTokenizerBase, wording: Wording) -> Example:
    if not row.completion.strip():
        raise DataError(f"{row.name}: its completion is empty, so there is nothing to learn. Remove it or complete it.")
    if TRACES.closing not in row.completion and prompts.opens_trace(tokenizer, wording):
        raise DataError(
            f"{row.name}: its completion does not close the trace that the chat template opens with {TRACES.opening}, "
            "so the model would learn to take its solution for a thought. Choose prompt plain or alpaca, or a template "
            f"that does not open one, or put {TRACES.closing} before each solution."
        )
    try:
        return prompts.example(tokenizer, row.question, row.completion, wording)
    except DataError as error:
        raise DataError(f"{row.name}: {error}") from None


def describe(examples: Examples, tokenizer: PreTrainedTokenizerBase, settings: Training) -> None:
    """Log the counts, and the first example with its special tokens as the model sees it."""
    token_ids, prompt_length = examples.kept[0]
    lengths = [len(example.token_ids) for example in examples.kept]
    log.info("%s examples, %s tokens, the longest has %s", f"{len(lengths):,}", f"{sum(lengths):,}", max(lengths))
    for count, fate in ((examples.num_dropped, "left out"), (examples.num_cut, "cut")):
        if count:
            log.warning("%s longer than train.sequence_len %s: %s", f"{count:,}", settings.sequence_len, fate)
    if settings.prompt == CHAT:
        log.info("%s", prompts.told_ends(tokenizer, settings.wording))
    parts = []
    for name, ids in (("prompt", token_ids[:prompt_length]), ("completion", token_ids[prompt_length:])):
        text = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        shown = text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]} ..."
        parts.append(f"--- {name} of the first example: {len(ids)} tokens\n{shown}\n")
    log.info("%s---", "".join(parts))


@contextmanager
def _named(names: Sequence[str]) -> Iterator[None]:
    """Name the examples in the trainer's error about a step, which knows only their numbers."""
    try:
        yield
    except NotFinite as error:
        shown = [names[index] for index in error.indices[:SHOWN_NAMES]]
        more = len(error.indices) - len(shown)
        raise ModelError(error.wording(", ".join(shown) + (f" and {more} more" if more else ""))) from error
