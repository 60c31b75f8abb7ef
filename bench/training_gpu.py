"""One case of bench/training.py on a GPU, in a process of its own: prints its figures as one line of JSON.

    python bench/training_gpu.py --cache FOLDER --data FOLDER CASE

The models are random, of Llama's shapes, in NF4 on disk already (shapes.save_nf4); 33B takes 17 GB there. For memory,
torch may use no more than the cap less what CUDA itself and paged optimizer states take, which count as used, and every
example has 512 tokens.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path
from typing import Any

import shapes
import trainers
from training_cases import NOT_MEASURED, SETTINGS, Row, case, reached, save_tokenizer, speed_rows, speeds

from qrft.cli.actions import quiet_libraries
from qrft.models.prompts import Example

GIB = 2**30
CAPS = {"7B": 8, "13B": 12, "33B": 24}  # GiB
SPEED_BARS = {"padded": 2.0, "TRL": 1.1}
ESTIMATE_BAR = 0.10
NUM_TOKENS = 512
CASES = [*(f"memory {name}" for name in CAPS), "speed 7B"]


def model(cache: Path, name: str, rows: list[dict[str, str]]) -> Path:
    """Make the random model once. Its tokenizer is written last, and says that the folder is whole."""
    folder = cache / "training" / name
    if not (folder / "tokenizer.json").exists():
        shapes.save_nf4(folder, **shapes.LLAMA[name])
        save_tokenizer(folder, rows, shapes.LLAMA_VOCAB)
    return folder


def accept_nf4() -> None:
    """qrft refuses a quantised base, since it can't be exported; here a whole one would fill the disk."""
    from qrft.training import model as training_model

    training_model.refuse_quantized = lambda folder: None


def used() -> int:
    """Return the bytes of the GPU that torch's allocator does not know of: CUDA's own, where nothing else runs."""
    import torch

    torch.zeros(1, device="cuda")
    free, total = torch.cuda.mem_get_info()
    return total - free - torch.cuda.memory_reserved()


def memory(folder: Path, cap: int) -> dict[str, Any]:
    """Train three steps with what the planner chooses for `cap` GiB, capped there; peaks and the estimate in GiB."""
    import torch

    from qrft.models.any_shape import read_shape
    from qrft.training import memory as planner

    context, shape = used(), read_shape(folder)
    asked = {"vram": cap, "gradient_checkpointing": None, "gradient_accumulation_steps": 2}
    settings = planner.fit(SETTINGS.model_copy(update=asked), shape, cap * GIB).model_copy(update={"vram": None})
    parts = planner.estimate(shape, settings)
    outside = context + (parts["optimizer"] if settings.optimizer.startswith("paged") else 0)
    torch.cuda.set_per_process_memory_fraction((cap * GIB - outside) / torch.cuda.mem_get_info()[1])
    numbers = random.Random(0)
    ids = [[numbers.randrange(2, shapes.LLAMA_VOCAB) for _ in range(NUM_TOKENS)] for _ in range(48)]
    done = trainers.qrft(folder, [Example(row, NUM_TOKENS // 4) for row in ids], settings)
    chosen = {"micro_batch_size", "gradient_accumulation_steps", "gradient_checkpointing", "optimizer"}
    return {
        "peak": (torch.cuda.max_memory_allocated() + context + done.paged) / GIB,
        "reserved": (torch.cuda.max_memory_reserved() + context + done.paged) / GIB,
        "paged": done.paged / GIB,
        "estimate": sum(parts.values()) / GIB,
        "cap": cap,
        "tokens_per_second": done.tokens_per_second,
        "chosen": settings.model_dump(include=chosen),
    }


def speed(folder: Path, problems: list[dict[str, str]]) -> dict[str, Any]:
    """Measure with GSM8K's lengths, 16 examples per step, no cap; the padded Trainer checkpoints, as is usual."""
    shared = {"gradient_accumulation_steps": 2, "gradient_checkpointing": True}
    work = case(folder, problems, num_steps=6, **shared)
    return speeds(work, rounds=3, gradient_checkpointing=None)


def rows(results: dict[str, Any]) -> list[Row]:
    """Make the table's rows of what was measured and of what was not."""
    made: list[Row] = []
    for name, cap in CAPS.items():
        figures = results.get(f"memory {name}", {})
        peak, estimate = figures.get("peak"), figures.get("estimate")
        what = f"peak memory, {NUM_TOKENS} tokens"
        made.append((name, what, _gib(peak), f"{cap} GiB", reached(peak, peak is not None and peak <= cap)))
        off = estimate / peak - 1 if peak else None
        words = NOT_MEASURED if off is None else f"{off:+.0%} ({_gib(estimate)} to {_gib(peak)})"
        is_near = off is not None and abs(off) <= ESTIMATE_BAR
        made.append((name, "estimate of it", words, f"{ESTIMATE_BAR:.0%}", reached(off, is_near)))
    return made + speed_rows("7B", results.get("speed 7B"), SPEED_BARS)


def _gib(size: float | None) -> str:
    return NOT_MEASURED if size is None else f"{size:.2f} GiB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("case", choices=CASES)
    options = parser.parse_args()
    quiet_libraries()
    lines = (options.data / "gsm8k" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    problems = [json.loads(line) for line in lines]
    kind, name = options.case.split()
    accept_nf4()
    folder = model(options.cache, name, problems)
    figures = memory(folder, CAPS[name]) if kind == "memory" else speed(folder, problems)
    sys.stdout.write("\n" + json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
