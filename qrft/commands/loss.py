"""Measure the pre-training loss of a model on a text file: `qrft loss`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from qrft.data import jsonl
from qrft.data.files import line_blocks
from qrft.errors import DataError
from qrft.models import prompts
from qrft.models.find import find_model, fingerprint
from qrft.models.json_file import read_json
from qrft.progress import Progress
from qrft.training import text_loss

LONGEST_TEXT = 1 << 30  # bytes of a file that is one text, perhaps without a line end
COMPRESSED = (".gz", ".zst")


def run(
    base: str,
    path: Path,
    context: int,
    stride: int | None,
    limit: int | None,
    progress: Progress,
) -> dict[str, Any]:
    """Return the facts, with the model's fingerprint and the file's. limit: take only the first texts.

    Raises DataError for a file without texts, ModelError for a base that can't be read, UsageError for a window that
    the model can't read.
    """
    texts = read_texts(path)
    first = next(texts, None)  # a wrong file is reported before a model is loaded
    if first is None:
        raise DataError(f'{path}: has no text in it. Name a text file, or JSONL with a text per line under "text".')
    folder = find_model(base)
    limit_of_model = read_json(folder / "config.json").get("max_position_embeddings", context)
    text_loss.check_context(limit_of_model, context, stride or 1)
    tokenizer = prompts.load_tokenizer(folder)
    progress(0, 1, "loading the model")
    facts = text_loss.measure(
        text_loss.load_on_device(folder),
        tokenizer,
        islice(_joined(first, texts), limit),
        context,
        stride,
        lambda num_texts: progress(num_texts, num_texts, f"{num_texts:,} texts"),
    )
    return {**facts, "model": fingerprint(folder), "text": fingerprint(path)}


def _joined(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def read_texts(path: Path) -> Iterator[str]:
    """Yield the "text" of each line of a .jsonl file, or all of another file as one text; .gz and .zst are unpacked.

    Raises DataError, with the file and the line, for what can't be read.
    """
    stem = path.with_suffix("") if path.suffix in COMPRESSED else path
    if stem.suffix in (".jsonl", ".json"):
        yield from (_text(row, place) for place, row in jsonl.objects(path, "text"))
    elif data := b"".join(block for block, _ in line_blocks(path, LONGEST_TEXT)):
        yield _decoded(data, str(path))


def _text(row: dict[str, Any], place: str) -> str:
    text = row.get("text")
    if not isinstance(text, str):
        keys = f"the keys {', '.join(row) or '(none)'}"
        raise DataError(f'{place}: found {keys[:80]}, expected a text under "text". Correct or remove the line.')
    return text


def _decoded(data: bytes, place: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{place}: byte 0x{data[error.start]:02x} at {error.start} is not UTF-8. Save it as UTF-8."
        ) from None
