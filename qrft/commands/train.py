"""Fine-tune once on data of one's own, into a folder that appears whole or not at all: `qrft train`, `qrft.train`."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qrft.commands.settings import differences, digest, named
from qrft.config.load import load_training
from qrft.config.paths import for_people
from qrft.config.training import Training
from qrft.config.yaml_lines import shorten
from qrft.data import disk
from qrft.data.problems.registry import PUBLISHED, locate
from qrft.data.training_rows import Row, read_training_rows
from qrft.errors import DataError, UsageError
from qrft.models.find import find_model
from qrft.progress import Progress, unwatched
from qrft.training.finetune import finetune, is_main

COMMAND = "qrft train"  # whose work folder it is
CARD = "train.json"  # in the finished folder: what made it, and the facts
SETTINGS, CHECKPOINTS = "settings.json", "checkpoints"  # in the work folder


@dataclass(frozen=True)
class Task:
    """What to train. `data`: its name for people."""

    base: str
    model_dir: Path
    data: str
    rows: Sequence[Row]
    settings: Training
    threads: int | None

    def decides(self) -> dict[str, Any]:
        """Return all that decides what is learnt, in JSON's types."""
        texts = [[row.question, row.completion] for row in self.rows]
        return {
            "base": named(self.base, self.model_dir),
            "data": {"name": for_people([self.data])[self.data], "digest": digest(texts)},
            **self.settings.identity(),
        }


def task(
    base: str,
    data: str | Path | Sequence[tuple[str, str]],
    overrides: Sequence[str] = (),
    *,
    threads: int | None = None,
    **settings: Any,
) -> Task:
    """Check a training and read its data. overrides: those of --set.

    Raises UsageError for settings that are not allowed, DataError for data and ModelError for a base that can't be
    read.
    """
    checked = load_training(settings, overrides)
    if base.endswith(".gguf"):
        raise UsageError(
            f"{base}: a .gguf can't be trained. Give the folder or the hub name of the model that it was made from."
        )
    if isinstance(data, str | Path):
        name = str(data)
        rows = read_training_rows(locate(name) if name in PUBLISHED else Path(data))
    else:
        name, rows = "the rows", [_row(i, pair) for i, pair in enumerate(data)]
    return Task(base, find_model(base), name, rows, checked, threads)


def _row(number: int, pair: Any) -> Row:
    if not (isinstance(pair, tuple | list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)):
        raise DataError(
            f"row {number}: found {shorten(repr(pair))}. Expected a pair of texts: question and completion."
        )
    return Row(f"row {number}", *pair)


def train(
    base: str,
    data: str | Path | Sequence[tuple[str, str]],
    output: str | Path,
    *,
    threads: int | None = None,
    progress: Progress = unwatched,
    **settings: Any,
) -> dict[str, Any]:
    """Fine-tune `base` on `data` into the folder `output`, and return the facts that its train.json keeps.

    base: a known name, a folder, a hub name, a .gguf. data: a JSONL or Parquet file, or pairs of question and
    completion.
    settings: those of --set, such as lora_r=64, num_epochs=2, prompt="chat", seed=1. The same call goes on after any
    stop, and does nothing when the folder exists. progress: called with steps done, steps in all and a note.
    Raises UsageError for settings that are not allowed and for a folder made with other ones, DataError, ModelError.
    """
    place = disk.check_place(output)
    return run(task(base, data, threads=threads, **settings), place, progress)


def run(work: Task, output: Path, progress: Progress) -> dict[str, Any]:
    """Make the folder if it does not exist; `is_new` among the facts says whether it was made now."""
    if (kept := finished(work, output)) is not None:
        return kept
    decides, partial = work.decides(), _partial(output)
    with disk.disk_errors(output.parent), _alone(partial, decides):
        folder = partial / "trained"
        if is_main():
            disk.remove(folder)  # half-written by a killed process
        facts = finetune(
            work.model_dir, work.rows, work.settings, folder, partial / CHECKPOINTS, progress, num_threads=work.threads
        )
        losses = facts.pop("losses")
        if is_main():
            disk.write_atomic(folder / "loss.jsonl", "".join(json.dumps(entry) + "\n" for entry in losses))
            disk.write_atomic(folder / CARD, json.dumps({"settings": decides, "facts": facts}, indent=1) + "\n")
            disk.publish(folder, output)
            shutil.rmtree(partial)
    return {**facts, "is_new": True}


def finished(work: Task, output: Path) -> dict[str, Any] | None:
    """Return the facts of the folder if it exists, None if it is to be made. Raises UsageError for another folder."""
    if not disk.check_place(output).exists() or (output.is_dir() and not any(output.iterdir())):
        return None
    try:
        card = json.loads((output / CARD).read_bytes())
        settings, facts = dict(card["settings"]), dict(card["facts"])
    except (OSError, ValueError, LookupError, TypeError):
        raise UsageError(
            f"{output}: already exists, and was not made by this command. Name another folder with -o."
        ) from None
    _agree(output, settings, work.decides(), "was made", "or name another folder with -o")
    if disk.owns(_partial(output), COMMAND):
        shutil.rmtree(_partial(output), ignore_errors=True)  # left over when a kill came right after the rename
    return {**facts, "is_new": False}


def _partial(output: Path) -> Path:
    return output.with_name(f"{output.name}.partial")


@contextlib.contextmanager
def _alone(partial: Path, decides: Mapping[str, Any]) -> Iterator[None]:
    """Lock the work folder, begun with these settings. If a training has several processes, only the first one does."""
    if not is_main():
        yield
        return
    disk.own_folder(partial, COMMAND)
    with disk.lock(partial, f"{partial} is being written", " or name another folder with -o"):
        path = partial / SETTINGS
        if _has_checkpoint(partial):  # without a checkpoint, any settings may replace these
            kept = json.loads(path.read_bytes())
            _agree(partial, kept, decides, "was begun", f"remove {partial}, or name another folder with -o")
        disk.write_atomic(path, json.dumps(decides, indent=1))
        try:
            yield
        except BaseException:
            if not _has_checkpoint(partial):  # nothing to resume from
                shutil.rmtree(partial, ignore_errors=True)
            raise


def _has_checkpoint(partial: Path) -> bool:
    return any((partial / CHECKPOINTS).glob("checkpoint-*"))


def _agree(folder: Path, kept: Mapping[str, Any], now: Mapping[str, Any], what: str, way_out: str) -> None:
    if changed := list(differences(kept, now)):
        changes = "; ".join(changed)
        raise UsageError(f"{folder}: {what} with other settings: {changes}. Give the former settings, {way_out}.")
