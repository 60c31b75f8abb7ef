"""What bench/training.py and bench/training_gpu.py share: settings, cases, speeds, and the rows of the table."""

from __future__ import annotations

import random
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import shapes
import trainers

from qrft.config.training import Training
from qrft.models import prompts
from qrft.models.prompts import Example
from qrft.models.wording import PLAIN

SETTINGS = Training(
    lr_scheduler="constant", warmup_ratio=0.0, num_epochs=1.0, gradient_checkpointing=False, checkpoint_minutes=1e6
)
NOT_MEASURED = "not measured"
Row = tuple[str, str, str, str, str]  # model, figure, measured, to reach, reached


@dataclass(frozen=True)
class Case:
    """What each side trains: a base, examples and settings."""

    folder: Path
    examples: list[Example]
    settings: Training

    def in_order(self) -> list[Example]:
        """Return the examples as qrft comes to them."""
        return [self.examples[i] for step in trainers.steps(len(self.examples), self.settings) for i in step]


def case(folder: Path, rows: Sequence[dict[str, str]], num_steps: int, **changes: Any) -> Case:
    """Draw as many rows of GSM8K as so many steps take. changes: settings other than SETTINGS."""
    settings = SETTINGS.model_copy(update=changes)
    tokenizer = prompts.load_tokenizer(folder)
    made = (prompts.example(tokenizer, row["question"], row["answer"], PLAIN) for row in rows)
    short = [example for example in made if len(example.token_ids) <= settings.sequence_len]
    return Case(folder, random.Random(0).sample(short, num_steps * settings.batch_size), settings)


def save_tokenizer(folder: Path, rows: Sequence[dict[str, str]], vocab_size: int) -> None:
    """Train a tokenizer on the rows of GSM8K."""
    shapes.save_tokenizer(folder, (f"{row['question']}\n{row['answer']}" for row in rows), vocab_size)


# ------------------------------------------------------------------------------------------------------- speed


def speeds(work: Case, rounds: int, **own: Any) -> dict[str, Any]:
    """Measure real tokens per second of each side, and ours in terms of the others'. own: settings of qrft alone."""
    sides: dict[str, Callable[..., trainers.Trained]] = {"padded": trainers.padded}
    if find_spec("trl"):
        sides |= {f"TRL, {mode}": trainers.trl(mode) for mode in trainers.TRL_MODES}
    measured: dict[str, list[float]] = {name: [] for name in (*sides, "qrft")}
    ours = work.settings.model_copy(update=own)
    for _ in range(rounds):
        for name, train in sides.items():
            measured[name].append(train(work.folder, work.in_order(), work.settings).tokens_per_second)
        measured["qrft"].append(trainers.qrft(work.folder, work.examples, ours).tokens_per_second)
        print({name: round(each[-1]) for name, each in measured.items()}, file=sys.stderr, flush=True)
        fastest = sorted((name for name in sides if name != "padded"), key=lambda name: -measured[name][0])[:2]
        sides = {name: sides[name] for name in ("padded", *fastest)}
    medians = {name: statistics.median(each) for name, each in measured.items()}
    best = max((name for name in sides if name != "padded"), key=medians.__getitem__, default="padded")
    times = {name: medians["qrft"] / medians[name] for name in ("padded", best)}
    return {"tokens_per_second": medians, "times": times, "all": measured}


# ------------------------------------------------------------------------------------------------------- table


def speed_rows(model: str, figures: dict[str, Any] | None, bars: dict[str, float]) -> list[Row]:
    """Make the table's rows of what `speeds` measured, or of what was not measured."""
    rows = []
    for other, bar in bars.items():
        times = {name: ratio for name, ratio in (figures or {}).get("times", {}).items() if name.startswith(other)}
        name, ratio = next(iter(times.items()), (other, None))
        words = NOT_MEASURED
        if figures and ratio:
            per_second = figures["tokens_per_second"]
            words = f"{ratio:.2f} times ({per_second['qrft']:,.0f} to {per_second[name]:,.0f})"
        rows.append((model, f"tokens/s against {name}", words, f"{bar} times", reached(ratio, (ratio or 0) >= bar)))
    return rows


def reached(figure: float | None, is_reached: bool) -> str:
    return NOT_MEASURED if figure is None else "yes" if is_reached else "no"
