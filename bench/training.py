"""Training beside a padded Trainer, TRL and a plain loop: tokens per second, losses, and memory on a GPU.

    python bench/training.py --cache ~/.cache/qrft-bench --data ../shared/data [--threads 2] [--rounds 3] [--out FILE]

TRL is no dependency of qrft: `pip install trl` beside it, or its rows say "not measured"; so do those of a GPU where
there is none. Models: "tiny" is the tiny base; "smol" a random Llama of SmolLM-135M's shape with a tokenizer trained on
GSM8K. All sides train the same QLoRA on the same examples of GSM8K's training set in the same order, in float32 on the
CPU, with as many examples per step; only real tokens count, from the end of the first step on. One side after the
other, `--rounds` times, medians; of TRL's ways of batching the two fastest of the first round go on, and the better
counts. Run alone on the machine. Writes bench/results/training.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import machine
import shapes
import trainers
import training_gpu
from training_cases import NOT_MEASURED, SETTINGS, Case, Row, case, reached, save_tokenizer, speed_rows, speeds

from qrft.cli.actions import quiet_libraries
from qrft.models.find import find_model

BARS = {"padded": 1.5, "TRL": 1.0}
LOSS_BARS = {"TRL": 1e-3, "a plain loop": 1e-5}
LOSS_STEPS = 20
LONG = {"sequence_len": 1024}  # for the tiny base, whose tokens are short


def smol(cache: Path, rows: Sequence[dict[str, str]]) -> Path:
    """Make the random SmolLM once. Its tokenizer is written last, and says that the folder is whole."""
    folder = cache / "training" / "smol"
    if not (folder / "tokenizer.json").exists():
        shapes.save_smol(folder)
        save_tokenizer(folder, rows, shapes.SMOL_VOCAB)
    return folder


# ------------------------------------------------------------------------------------------------------ losses


def losses(work: Case) -> dict[str, Any]:
    """Return the largest difference of any step's loss: to TRL as it pads, and to the plain loop, on the whole base."""
    whole = work.settings.model_copy(update={"quantization": "none"})
    pairs: dict[str, Any] = {}
    if find_spec("trl"):
        ours = trainers.qrft(work.folder, work.examples, work.settings).losses
        theirs = trainers.trl("padded")(work.folder, work.in_order(), work.settings).losses
        pairs["TRL"] = {"qrft": ours, "other": theirs, "difference": largest_difference(ours, theirs)}
    ours = trainers.qrft(work.folder, work.examples, whole).losses
    theirs = trainers.plain(work.folder, work.in_order(), whole).losses
    pairs["a plain loop"] = {"qrft": ours, "other": theirs, "difference": largest_difference(ours, theirs)}
    return pairs


def largest_difference(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return max(abs(a - b) for a, b in zip(ours, theirs, strict=True))


# --------------------------------------------------------------------------------------------------------- GPU


def on_gpu(cache: Path, data: Path) -> dict[str, Any] | None:
    """Measure each case in a process of its own, with its own cap on memory; return None without a GPU."""
    import torch

    if not torch.cuda.is_available():
        return None
    figures: dict[str, Any] = {}
    for name in training_gpu.CASES:
        command = [sys.executable, str(Path(training_gpu.__file__)), "--cache", str(cache), "--data", str(data), name]
        done = subprocess.run(command, capture_output=True, text=True)
        last = done.stdout.strip().splitlines()[-1:] if done.returncode == 0 else []
        figures[name] = json.loads(last[0]) if last else {"error": done.stderr.strip().splitlines()[-1:]}
        print(f"  {name}: {json.dumps(figures[name])}", file=sys.stderr, flush=True)
    return figures


# ------------------------------------------------------------------------------------------------------- table


def table(result: dict[str, Any]) -> list[Row]:
    rows: list[Row] = [("model", "figure", "measured", "to reach", "reached")]
    for model in ("tiny", "smol"):
        rows += speed_rows(model, result["speeds"].get(model), BARS)
    for other, bar in LOSS_BARS.items():
        difference = result["losses"].get(other, {}).get("difference")
        words = NOT_MEASURED if difference is None else f"{difference:.1e} apart"
        is_near = difference is not None and difference <= bar
        name = f"losses of {LOSS_STEPS} steps against {other}"
        rows.append(("tiny", name, words, f"{bar:.0e}", reached(difference, is_near)))
    return rows + training_gpu.rows(result["gpu"] or {})


def show(rows: Sequence[Row]) -> str:
    """Lay the rows out in Markdown."""
    rows = [rows[0], ("---",) * 5, *rows[1:]]  # type: ignore[list-item]
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    return "\n".join("| " + " | ".join(f.ljust(w) for f, w in zip(row, widths, strict=True)) + " |" for row in rows)


# -------------------------------------------------------------------------------------------------------- main


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="Keeps the random models.")
    parser.add_argument("--data", type=Path, default=os.environ.get("QRFT_TEST_DATA"), help="Holds gsm8k/train.jsonl.")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", nargs="*", choices=("tiny", "smol"), default=["tiny", "smol"])
    parser.add_argument("--without-losses", action="store_true")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "training.json")
    options = parser.parse_args()
    if options.data is None:
        parser.error("--data is needed: the folder that holds gsm8k/train.jsonl")
    return options


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure all that can be measured on this machine. On one with a GPU the CPU's sides can't."""
    import torch

    lines = (options.data / "gsm8k" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    rows, tiny = [json.loads(line) for line in lines], find_model("tiny-base")
    makers: dict[str, Callable[[], Case]] = {
        "tiny": lambda: case(tiny, rows, num_steps=8, gradient_accumulation_steps=2, precision="float32", **LONG),
        "smol": lambda: case(smol(options.cache, rows), rows, num_steps=3, precision="float32"),
    }
    has_gpu = torch.cuda.is_available()
    skip = options.without_losses or has_gpu
    return {
        "speeds": {} if has_gpu else {name: speeds(makers[name](), options.rounds) for name in options.models},
        "losses": {} if skip else losses(case(tiny, rows, num_steps=LOSS_STEPS, **LONG)),
        "gpu": on_gpu(options.cache, options.data),
    }


def main() -> None:
    options = read_options()
    import torch

    quiet_libraries()
    torch.set_num_threads(options.threads)
    trl = version("trl") if find_spec("trl") else NOT_MEASURED
    result: dict[str, Any] = {"machine": {**machine.describe(), "trl": trl}, "threads": options.threads}
    result |= {"rounds": options.rounds, "settings": SETTINGS.model_dump(), **measure(options)}
    result["table"] = table(result)
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(show(result["table"]))
    print(f"\n{machine.in_words()} TRL {trl}. {options.threads} threads.")


if __name__ == "__main__":
    main()
