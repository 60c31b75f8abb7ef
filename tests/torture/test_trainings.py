"""Trainings of one seed are the same to the last bit, on one process and on two, whatever else the machine does."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers.commands import python, run_process
from helpers.models import make_model

TRAININGS = """
import hashlib, json, sys, tempfile
from pathlib import Path
sys.path.insert(0, {tests!r})
from helpers.trainings import train, RANDOM
found = []
for number in range({number}):
    with tempfile.TemporaryDirectory() as folder:
        settings = dict(num_processes={num_processes}, quantization={quantization!r}, **RANDOM)
        facts = train(Path({base!r}), Path(folder), **settings)
        adapter = Path(folder, "adapter/adapter_model.safetensors").read_bytes()
        losses = [row["loss"] for row in facts["losses"]]
        found.append((losses, hashlib.sha256(adapter).hexdigest()))
print(json.dumps(found))
"""


def trainings(base: Path, number: int, num_processes: int, quantization: str) -> list[str]:
    """Train so many times in a process of its own; return the losses and the adapter's hash of each, as JSON."""
    values = dict(number=number, base=str(base), num_processes=num_processes, quantization=quantization)
    done = run_process(python(TRAININGS.format(**values, tests=str(Path(__file__).parents[1]))))
    return [json.dumps(found) for found in json.loads(done.stdout.splitlines()[-1])]


LONG = [pytest.param(10, 10, num_processes, marks=pytest.mark.torture) for num_processes in (1, 2)]


@pytest.mark.parametrize(("number", "each", "num_processes"), [pytest.param(2, 2, 2, marks=pytest.mark.slow), *LONG])
def test_trainings_of_one_seed_are_equal_beside_load(
    number: int, each: int, num_processes: int, tmp_path: Path
) -> None:
    """Several at once, more than there are cores, each some times in its process; with dropout and noise."""
    base = make_model(tmp_path / "base")
    with ThreadPoolExecutor(len(os.sched_getaffinity(0)) + 2) as pool:
        kinds = ["none", "nf4"] * (number // 2)
        found = list(pool.map(lambda kind: (kind, trainings(base, each, num_processes, kind)), kinds))
    for kind in ("none", "nf4"):
        different = {result for other, results in found for result in results if other == kind}
        assert len(different) == 1, different
