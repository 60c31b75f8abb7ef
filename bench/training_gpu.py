"""One case of bench/training.py on a GPU, in a process of its own: prints its figures as one line of JSON.

    python bench/training_gpu.py --cache FOLDER --data FOLDER CASE

The models are random, of Llama's shapes, in NF4 on disk already (shapes.save_nf4); 33B takes 17 GB there. For memory,
torch may use no more than the cap less what CUDA itself took, and every example has 512 tokens.
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
import training

from qrft.models.prompts import Example

GIB = 2**30
CAPS = {"7B": 8, "13B": 12, "33B": 24}  # GiB
SPEED_BARS = {"padded": 2.0, "TRL": 1.1}
ESTIMATE_BAR = 0.10
NUM_TOKENS = 512
CASES = [*(f"memory {name}" for name in CAPS), "speed 7B"]


def model(cache: Path, name: str, rows: list[dict[str, str]]) -> Path:
    """Its tokenizer is written last, and says that the folder is whole."""
    folder = cache / "training" / name
    if not (folder / "tokenizer.json").exists():
        shapes.save_nf4(folder, **shapes.LLAMA[name])
        training.save_tokenizer(folder, rows, shapes.LLAMA_VOCAB)
    return folder


def accept_nf4() -> None:
    """qrft refuses a quantised base, since it can't be exported; here a whole one would fill the disk."""
    from qrft.training import model as training_model

    training_model.refuse_quantized = lambda folder: None


def used() -> int:
    """Bytes of the GPU that torch's allocator does not know of: CUDA's own, where nothing else runs on it."""
    import torch

    torch.zeros(1, device="cuda")
    free, total = torch.cuda.mem_get_info()
    return total - free - torch.cuda.memory_reserved()


def memory(folder: Path, cap: int) -> dict[str, Any]:
    """Trains three steps with what the planner chooses for `cap` GiB, capped there; peaks and the estimate in GiB."""
    import torch

    from qrft.models.shape import read_shape
    from qrft.training import memory as planner

    context = used()
    torch.cuda.set_per_process_memory_fraction((cap * GIB - context) / torch.cuda.mem_get_info()[1])
    shape = read_shape(folder)
    settings = {"vram": cap, "gradient_checkpointing": None, "gradient_accumulation_steps": 2}
    config = planner.fit({**training.SETTINGS, **settings}, shape, cap * GIB)
    numbers = random.Random(0)
    ids = [[numbers.randrange(2, shapes.LLAMA_VOCAB) for _ in range(NUM_TOKENS)] for _ in range(48)]
    done = trainers.qrft(folder, [Example(row, NUM_TOKENS // 4) for row in ids], config)
    chosen = ("micro_batch_size", "gradient_accumulation_steps", "gradient_checkpointing", "optimizer")
    return {
        "peak": (torch.cuda.max_memory_allocated() + context) / GIB,
        "reserved": (torch.cuda.max_memory_reserved() + context) / GIB,
        "estimate": sum(planner.estimate(shape, config).values()) / GIB,
        "cap": cap,
        "tokens_per_second": done.tokens_per_second,
        "chosen": {name: config[name] for name in chosen},
    }


def speed(folder: Path, problems: list[dict[str, str]]) -> dict[str, Any]:
    """GSM8K's lengths, 16 examples a step, no cap. The padded Trainer as people write it: activations checkpointed."""
    shared = {"gradient_accumulation_steps": 2, "gradient_checkpointing": True}
    work = training.case(folder, problems, num_steps=6, **shared)
    return training.speeds(work, rounds=3, gradient_checkpointing=None)


def rows(found: dict[str, Any]) -> list[training.Row]:
    """The table's rows, of what was measured and of what was not."""
    made: list[training.Row] = []
    for name, cap in CAPS.items():
        figures = found.get(f"memory {name}", {})
        peak, estimate = figures.get("peak"), figures.get("estimate")
        what = f"peak memory, {NUM_TOKENS} tokens"
        made.append((name, what, _gib(peak), f"{cap} GiB", training.reached(peak, peak is not None and peak <= cap)))
        off = estimate / peak - 1 if peak else None
        words = training.NOT_MEASURED if off is None else f"{off:+.0%} ({_gib(estimate)} to {_gib(peak)})"
        is_near = off is not None and abs(off) <= ESTIMATE_BAR
        made.append((name, "estimate of it", words, f"{ESTIMATE_BAR:.0%}", training.reached(off, is_near)))
    return made + training.speed_rows("7B", found.get("speed 7B"), SPEED_BARS)


def _gib(size: float | None) -> str:
    return training.NOT_MEASURED if size is None else f"{size:.2f} GiB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("case", choices=CASES)
    options = parser.parse_args()
    training.quiet_libraries()
    lines = (options.data / "gsm8k" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    problems = [json.loads(line) for line in lines]
    kind, name = options.case.split()
    accept_nf4()
    folder = model(options.cache, name, problems)
    figures = memory(folder, CAPS[name]) if kind == "memory" else speed(folder, problems)
    sys.stdout.write("\n" + json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
