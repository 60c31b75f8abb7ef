"""Measure the pre-training loss: how well a model predicts a text, in nats per token and in bits per byte of UTF-8.

A token is what its tokenizer makes of it, so nats per token compare models with one tokenizer only; bits per byte
compare all. A text longer than the context goes through in windows that overlap by `context - stride` tokens. Every
window begins with exactly one beginning-of-text token, as training texts do, and every token of the text counts once,
in the first window that holds it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from qrft.errors import DataError, UsageError
from qrft.models.loading import load_model, one_message

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LOGITS_AT_ONCE = 1 << 26  # of a batch: 256 MiB in float32
TEXTS_AT_ONCE = 512  # tokenized together; their windows are sorted by length, so that batches hold little padding


class Window(NamedTuple):
    text: int  # number of the text
    token_ids: list[int]  # without the beginning-of-text token
    num_counted: int  # how many of the last tokens are counted in this window


class Measured(NamedTuple):
    """The loss on the counted tokens of a window."""

    text: int
    num_tokens: int
    nats: float


def windows(text: int, token_ids: Sequence[int], context: int, stride: int) -> Iterator[Window]:
    """Yield the windows of a text: each predicts up to `context` tokens and starts `stride` tokens after the last."""
    end = 0
    for start in range(0, len(token_ids), stride):
        before, end = end, min(start + context, len(token_ids))
        if end > before:
            yield Window(text, list(token_ids[start:end]), end - before)


def measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Iterable[str],
    context: int,
    stride: int | None = None,
    progress: Callable[[int], None] = lambda num_texts: None,
) -> dict[str, Any]:
    """Return the facts of `qrft loss`. stride: None is half of the context.

    Standard errors are those of a ratio of sums (linearised), over the texts; over the windows of a single text, which
    are then taken for independent; None for a single window. Raises UsageError for a context that the model lacks, and
    DataError for texts without a token.
    """
    stride = stride or max(1, context // 2)
    check_context(getattr(model.config, "max_position_embeddings", context), context, stride)
    start = time.monotonic()
    num_bytes: list[int] = []
    measured: list[Measured] = []
    remaining = iter(texts)
    while group := list(islice(remaining, TEXTS_AT_ONCE)):
        # A special token that is spelled in a text is only text.
        with one_message(tokenizer.name_or_path, "its tokenizer fails on a text"):
            ids = tokenizer(group, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        cut = [w for number, row in enumerate(ids, len(num_bytes)) for w in windows(number, row, context, stride)]
        num_bytes.extend(len(text.encode()) for text in group)
        for batch in _batches(cut, model.config.vocab_size):
            measured.extend(_measure_batch(model, batch, _first_token(tokenizer)))
            progress(len(num_bytes))
    if not measured:
        raise DataError("the text has no tokens. Name a file with text in it.")
    return {
        **_ratios(measured, num_bytes),
        "num_texts": len(num_bytes),
        "num_tokens": sum(m.num_tokens for m in measured),
        "num_bytes": sum(num_bytes),
        "context": context,
        "stride": stride,
        "seconds": time.monotonic() - start,
    }


def check_context(limit: int, context: int, stride: int) -> None:
    """Raise UsageError for a window that the model, which has `limit` positions, can't read."""
    if context > limit:
        raise UsageError(f"--context: found {context}, but the model has {limit} positions. Allowed: up to {limit}.")
    if not 1 <= stride <= context:
        raise UsageError(f"--stride: found {stride} with a context of {context}. Allowed: 1 to {context}.")


def _first_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the beginning-of-text token; models without one (Qwen) learn texts that follow an end-of-text token."""
    token: int = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    return token


def _batches(cut: list[Window], vocab_size: int) -> Iterator[list[Window]]:
    """Yield batches by length, the longest first, so that running out of memory shows at once."""
    batch: list[Window] = []
    for window in sorted(cut, key=lambda window: -len(window.token_ids)):
        if batch and (len(batch) + 1) * len(batch[0].token_ids) * vocab_size > LOGITS_AT_ONCE:
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch


def _measure_batch(model: PreTrainedModel, batch: list[Window], first: int) -> list[Measured]:
    """Measure a batch. Padding stands on the right, where no token of a causal model looks, so it needs no mask."""
    import torch

    lengths = [len(window.token_ids) for window in batch]
    inputs = torch.zeros(len(batch), max(lengths), dtype=torch.long)
    targets = torch.full_like(inputs, -100)
    for row, (window, length) in enumerate(zip(batch, lengths, strict=True)):
        inputs[row, :length] = torch.tensor([first, *window.token_ids[:-1]])
        targets[row, length - window.num_counted : length] = torch.tensor(window.token_ids[-window.num_counted :])
    with torch.inference_mode():
        logits = model(input_ids=inputs.to(model.device), use_cache=False).logits
        nats = torch.nn.functional.cross_entropy(
            logits.float().transpose(1, 2), targets.to(model.device), reduction="none"
        )
    sums = nats.double().sum(1).tolist()
    return [Measured(w.text, w.num_counted, total) for w, total in zip(batch, sums, strict=True)]


def _ratios(measured: list[Measured], num_bytes: list[int]) -> dict[str, float | None]:
    table = np.array(measured, np.float64).reshape(-1, 3)
    text = table[:, 0].astype(np.int64)
    tokens, nats = (np.bincount(text, table[:, column], len(num_bytes)).astype(np.float64) for column in (1, 2))
    per_token, per_byte = ratio(nats, tokens), ratio(nats / math.log(2), np.array(num_bytes, np.float64))
    if len(num_bytes) == 1:  # the bytes of a window are not known, but bits per byte are proportional to nats
        per_token = ratio(table[:, 2], table[:, 1])
        error = per_token[1] and per_token[1] * per_byte[0] / per_token[0]
        per_byte = per_byte[0], error
    names = ("nats_per_token", "nats_per_token_error", "bits_per_byte", "bits_per_byte_error")
    return dict(zip(names, (*per_token, *per_byte), strict=True))


def ratio(above: npt.NDArray[np.float64], below: npt.NDArray[np.float64]) -> tuple[float, float | None]:
    """Return sum over sum, and its standard error over the entries, which are drawn together.

    Source: Cochran, Sampling Techniques, 3rd ed., eq. 6.13. The error is None for fewer than two entries.
    """
    quotient, n = float(above.sum() / below.sum()), len(below)
    if n < 2:
        return quotient, None
    spread = float(((above - quotient * below) ** 2).sum())
    return quotient, math.sqrt(spread * n / (n - 1)) / float(below.sum())


def load_on_device(folder: Path) -> PreTrainedModel:
    """Load the model, in float32 on the processor, on a GPU in the type of its file."""
    import torch

    on_gpu = torch.cuda.is_available()
    model = load_model(folder, dtype="auto" if on_gpu else torch.float32)
    model.to("cuda" if on_gpu else "cpu")  # type: ignore[arg-type]
    model.eval()  # type: ignore[no-untyped-call]
    return model
