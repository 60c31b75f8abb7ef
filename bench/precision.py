"""Training in float32 and in bfloat16 on this processor, with random models of several widths: which is faster, and how
far apart the losses are.

    python bench/precision.py --data ../shared/data [--models smol 512] [--rounds 3] [--steps 3]

"smol" is SmolLM-135M's shape; a number is the hidden size of a Llama of six layers with a vocabulary of 8,192. QLoRA as
`qrft train` does it: real tokens per second, medians, the two in turns. With `ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16` a
processor with AMX is one without. Run alone on the machine. Writes precision.json into bench/results.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import machine
import shapes
import trainers
from training_cases import case, save_tokenizer

from qrft.cli.actions import quiet_libraries
from qrft.machine import has_bfloat16_unit

PRECISIONS = ("float32", "bfloat16")
VOCAB = 8192


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("QRFT_TEST_DATA"), help="Holds gsm8k/train.jsonl.")
    parser.add_argument("--models", nargs="*", default=["smol", "512", "384", "128"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "precision.json")
    options = parser.parse_args()
    quiet_libraries()
    lines = (options.data / "gsm8k" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    isa = os.environ.get("ONEDNN_MAX_CPU_ISA", "")
    figures: dict[str, Any] = {}
    for name in options.models:
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder), name, rows)
            figures[name] = measure(Path(folder), rows, options)
        print(name, json.dumps(figures[name]), file=sys.stderr, flush=True)
    result = {
        "machine": machine.describe(),
        "has_bfloat16_unit": has_bfloat16_unit(),
        "ONEDNN_MAX_CPU_ISA": isa,
        "models": figures,
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def make(folder: Path, name: str, rows: list[dict[str, str]]) -> None:
    """Write a random model with a tokenizer trained on GSM8K."""
    if name == "smol":
        shapes.save_smol(folder)
        save_tokenizer(folder, rows[:1000], shapes.SMOL_VOCAB)
    else:
        shapes.save_llama(folder, int(name), num_layers=6, vocab_size=VOCAB)
        save_tokenizer(folder, rows[:1000], VOCAB)


def measure(folder: Path, rows: list[dict[str, str]], options: argparse.Namespace) -> dict[str, Any]:
    """Return the medians of each precision, their ratio, and the largest difference of a step's loss."""
    speeds: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
    losses = {}
    for _ in range(options.rounds):
        for precision in PRECISIONS:
            work = case(folder, rows, num_steps=options.steps, precision=precision)
            done = trainers.qrft(work.folder, work.examples, work.settings)
            speeds[precision].append(done.tokens_per_second)
            losses[precision] = done.losses
    medians = {precision: statistics.median(each) for precision, each in speeds.items()}
    return {
        "tokens_per_second": medians,
        "times": medians["bfloat16"] / medians["float32"],
        "largest_difference": max(abs(a - b) for a, b in zip(*losses.values(), strict=True)),
        "all": speeds,
    }


if __name__ == "__main__":
    main()
