"""Training beside a padded Trainer, TRL and a plain loop: tokens a second, losses, and memory on a GPU.

    python bench/training.py --cache ~/.cache/qrft-bench --data ../shared/data [--threads 2] [--rounds 3] [--out FILE]

TRL is no dependency of qrft: `pip install trl` beside it, or its rows say "not measured"; so do those of a GPU where
there is none. Models: "tiny" is the tiny base; "smol" a random Llama of SmolLM-135M's shape with a tokenizer trained on
GSM8K. All sides train the same QLoRA on the same examples of GSM8K's training set in the same order, in float32 on the
CPU, with as many examples a step; only real tokens count, from the end of the first step on. One side after the other,
`--rounds` times, medians; of TRL's ways of batching the two fastest of the first round go on, and the better counts.
Run alone on the machine. Writes bench/results/training.json.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import machine
import shapes
import trainers

from qrft.cli.actions import quiet_libraries
from qrft.models import prompts
from qrft.models.find import find_model
from qrft.models.prompts import Example

SETTINGS: dict[str, Any] = {
    "seed": 0,
    "quantization": "nf4",
    "adapter": "lora",
    "lora_r": 32,
    "lora_alpha": 64,
    "lora_dropout": 0.0,
    "target_modules": "all-linear",
    "use_rslora": False,
    "lora_init": "default",
    "learning_rate": 2e-4,
    "lr_scheduler": "constant",
    "warmup_ratio": 0.0,
    "weight_decay": 0.0,
    "neftune_noise_alpha": None,
    "num_epochs": 1.0,
    "micro_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "sequence_len": 512,
    "too_long": "drop",
    "packing": True,
    "attention": "auto",
    "gradient_checkpointing": False,
    "optimizer": "auto",
    "vram": None,
    "report_to": (),
    "checkpoint_minutes": 1e6,
}
BARS = {"padded": 1.5, "TRL": 1.0}
LOSS_BARS = {"TRL": 1e-3, "a plain loop": 1e-5}
LOSS_STEPS = 20
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Case:
    folder: Path
    examples: list[Example]
    config: dict[str, Any]

    def in_order(self) -> list[Example]:
        """The examples as qrft comes to them."""
        return [self.examples[i] for step in trainers.steps(len(self.examples), self.config) for i in step]


def case(folder: Path, rows: Sequence[dict[str, str]], num_steps: int, **settings: Any) -> Case:
    """A random choice of GSM8K for so many steps."""
    config = {**SETTINGS, **settings}
    tokenizer = prompts.load_tokenizer(folder)
    made = (prompts.example(tokenizer, row["question"], row["answer"], "plain") for row in rows)
    short = [example for example in made if len(example.token_ids) <= config["sequence_len"]]
    return Case(folder, random.Random(0).sample(short, num_steps * trainers.batch_size(config)), config)


def smol(cache: Path, rows: Sequence[dict[str, str]]) -> Path:
    folder = cache / "training" / "smol"
    if not (folder / "tokenizer.json").exists():
        shapes.save_smol(folder)
        save_tokenizer(folder, rows, shapes.SMOL_VOCAB)
    return folder


def save_tokenizer(folder: Path, rows: Sequence[dict[str, str]], vocab_size: int) -> None:
    shapes.save_tokenizer(folder, (f"{row['question']}\n{row['answer']}" for row in rows), vocab_size)


# ------------------------------------------------------------------------------------------------------- speed


def speeds(work: Case, rounds: int, **own: Any) -> dict[str, Any]:
    """Real tokens a second of each side, and ours in terms of the others'. own: settings that only qrft gets."""
    sides: dict[str, Callable[..., trainers.Trained]] = {"padded": trainers.padded}
    if find_spec("trl"):
        sides |= {f"TRL, {mode}": trainers.trl(mode) for mode in trainers.TRL_MODES}
    found: dict[str, list[float]] = {name: [] for name in (*sides, "qrft")}
    for _ in range(rounds):
        for name, train in sides.items():
            found[name].append(train(work.folder, work.in_order(), work.config).tokens_per_second)
        found["qrft"].append(trainers.qrft(work.folder, work.examples, {**work.config, **own}).tokens_per_second)
        print({name: round(each[-1]) for name, each in found.items()}, file=sys.stderr, flush=True)
        fastest = sorted((name for name in sides if name != "padded"), key=lambda name: -found[name][0])[:2]
        sides = {name: sides[name] for name in ("padded", *fastest)}
    medians = {name: statistics.median(each) for name, each in found.items()}
    best = max((name for name in sides if name != "padded"), key=medians.__getitem__, default="padded")
    times = {name: medians["qrft"] / medians[name] for name in ("padded", best)}
    return {"tokens_per_second": medians, "times": times, "all": found}


# ------------------------------------------------------------------------------------------------------ losses


def losses(work: Case) -> dict[str, Any]:
    """The largest difference of any step's loss: to TRL as it pads, and to the plain loop, on the whole base."""
    whole = {**work.config, "quantization": "none"}
    found: dict[str, Any] = {}
    if find_spec("trl"):
        ours = trainers.qrft(work.folder, work.examples, work.config).losses
        theirs = trainers.trl("padded")(work.folder, work.in_order(), work.config).losses
        found["TRL"] = {"qrft": ours, "other": theirs, "difference": largest_difference(ours, theirs)}
    ours = trainers.qrft(work.folder, work.examples, whole).losses
    theirs = trainers.plain(work.folder, work.in_order(), whole).losses
    found["a plain loop"] = {"qrft": ours, "other": theirs, "difference": largest_difference(ours, theirs)}
    return found


def largest_difference(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return max(abs(a - b) for a, b in zip(ours, theirs, strict=True))


# --------------------------------------------------------------------------------------------------------- GPU


def on_gpu(cache: Path, data: Path) -> dict[str, Any] | None:
    """Each case in a process of its own, with its own cap on memory; None without a GPU."""
    import torch
    import training_gpu

    if not torch.cuda.is_available():
        return None
    found: dict[str, Any] = {}
    for name in training_gpu.CASES:
        command = [sys.executable, str(Path(training_gpu.__file__)), "--cache", str(cache), "--data", str(data), name]
        done = subprocess.run(command, capture_output=True, text=True)
        last = done.stdout.strip().splitlines()[-1:] if done.returncode == 0 else []
        found[name] = json.loads(last[0]) if last else {"error": done.stderr.strip().splitlines()[-1:]}
        print(f"  {name}: {json.dumps(found[name])}", file=sys.stderr, flush=True)
    return found


# ------------------------------------------------------------------------------------------------------- table


Row = tuple[str, str, str, str, str]


def table(result: dict[str, Any]) -> list[Row]:
    import training_gpu

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


def speed_rows(model: str, figures: dict[str, Any] | None, bars: dict[str, float]) -> list[Row]:
    rows = []
    for other, bar in bars.items():
        times = {name: ratio for name, ratio in (figures or {}).get("times", {}).items() if name.startswith(other)}
        name, ratio = next(iter(times.items()), (other, None))
        words = NOT_MEASURED
        if figures and ratio:
            speeds = figures["tokens_per_second"]
            words = f"{ratio:.2f} times ({speeds['qrft']:,.0f} to {speeds[name]:,.0f})"
        rows.append((model, f"tokens/s against {name}", words, f"{bar} times", reached(ratio, (ratio or 0) >= bar)))
    return rows


def reached(figure: float | None, is_reached: bool) -> str:
    return NOT_MEASURED if figure is None else "yes" if is_reached else "no"


def show(rows: Sequence[Row]) -> str:
    """As Markdown."""
    rows = [rows[0], ("---",) * 5, *rows[1:]]  # type: ignore[list-item]
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    return "\n".join("| " + " | ".join(f.ljust(w) for f, w in zip(row, widths, strict=True)) + " |" for row in rows)


def main() -> None:
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
    import torch

    quiet_libraries()
    torch.set_num_threads(options.threads)
    lines = (options.data / "gsm8k" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    tiny, long = find_model("tiny-base"), {"sequence_len": 1024}  # its tokens are short
    makers: dict[str, Callable[[], Case]] = {
        "tiny": lambda: case(tiny, rows, num_steps=8, gradient_accumulation_steps=2, **long),
        "smol": lambda: case(smol(options.cache, rows), rows, num_steps=3),
    }
    trl = version("trl") if find_spec("trl") else NOT_MEASURED
    result: dict[str, Any] = {"machine": {**machine.describe(), "trl": trl}, "threads": options.threads}
    result |= {"rounds": options.rounds, "settings": SETTINGS}
    has_gpu = torch.cuda.is_available()  # on which the CPU's sides can't be measured
    result["speeds"] = {} if has_gpu else {name: speeds(makers[name](), options.rounds) for name in options.models}
    skip = options.without_losses or has_gpu
    result["losses"] = {} if skip else losses(case(tiny, rows, num_steps=LOSS_STEPS, **long))
    result["gpu"] = on_gpu(options.cache, options.data)
    result["table"] = table(result)
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(show(result["table"]))
    print(f"\n{machine.in_words()} TRL {trl}. {options.threads} threads.")


if __name__ == "__main__":
    main()
