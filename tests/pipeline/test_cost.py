"""What a stage costs: its floating-point operations, and what the machine's meters say."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from helpers.models import make_model

from qrft.config.section import Section
from qrft.config.training import Training
from qrft.models.any_shape import read_shape
from qrft.pipeline import cost


def training(**changes: Any) -> Training:
    return Training.model_validate(changes)


def test_what_a_training_and_a_sampling_cost(tmp_path: Path) -> None:
    inputs = {"model": make_model(tmp_path)}
    size = read_shape(tmp_path).num_linear
    trained = {"num_tokens": 2500, "num_trained": 300}
    whole = cost.of_stage("train", training(adapter="none", quantization="none"), inputs, trained)
    assert whole == {"num_tokens": 2500, "flops": 6 * size * 2500}
    small = cost.of_stage("train", training(), inputs, trained)
    assert small == {"num_tokens": 2500, "flops": (4 * size + 6 * 300) * 2500}
    report = {"num_tokens": 600, "num_samples": 20, "num_problems": 5, "num_prompt_tokens": 100}
    sampled = cost.of_stage("sample", Section(), inputs, report)
    assert sampled == {"num_tokens": 600, "flops": 700 * (2 * size + 2 * 2 * 50 * 64)}
    on_a_gpu = cost.of_stage("sample", Section(), inputs, {**report, "gpu_seconds": 1.5})
    assert on_a_gpu == {**sampled, "gpu_seconds": 1.5}
    assert cost.of_stage("grade", Section(), inputs, report) == cost.of_stage("train", training(), inputs, report) == {}
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')  # no causal language model
    assert cost.of_stage("sample", Section(), inputs, report) == {"num_tokens": 600}


def test_sums_hold_what_is_known() -> None:
    costs = {"a": {"flops": 1e9, "cpu_seconds": 1.0}, "b": {"cpu_seconds": 2.5}, "c": {}}
    assert cost.total(costs) == {"flops": 1e9, "cpu_seconds": 3.5}


# ------------------------------------------------------------------------------------------------------- meters ----


def spin(seconds: float) -> None:
    start = time.process_time()
    while time.process_time() - start < seconds:
        pass


def test_processor_time_counts_children_and_not_waiting(tmp_path: Path) -> None:
    with cost.Meter(tmp_path) as meter:
        spin(0.2)
        code = "import time\nwhile time.process_time() < 0.4: pass"
        subprocess.run([sys.executable, "-c", code], check=True)
        time.sleep(0.3)
    assert 0.59 <= meter.facts["cpu_seconds"] < meter.seconds
    assert "cpu_joules" not in meter.facts and "gpu_seconds" not in meter.facts


def package(root: Path, number: int, name: str = "package-0", joules: float = 100.0) -> Path:
    """A folder as Linux shows a processor's meter."""
    folder = root / f"intel-rapl:{number}"
    folder.mkdir()
    for file, value in (("name", name), ("max_energy_range_uj", 262_143_000_000), ("energy_uj", int(joules * 1e6))):
        (folder / file).write_text(f"{value}\n")
    return folder / "energy_uj"


def test_energy_of_all_packages_across_a_counters_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "READ_EVERY", 0.02)
    first, second = package(tmp_path, 0, joules=262_100), package(tmp_path, 1, "package-1")
    package(tmp_path, 2, "psys").write_text("5")  # holds the packages already
    with cost.Meter(tmp_path) as meter:
        for joules in (262_140, 7, 50):  # begins again at 262,143
            temporary = tmp_path / "new"
            temporary.write_text(str(joules * 1_000_000))
            os.replace(temporary, first)
            time.sleep(0.1)
        second.write_text(str(130 * 1_000_000))
    assert meter.facts["cpu_joules"] == pytest.approx((262_143 - 262_100) + 50 + 30)


def test_energy_that_can_not_be_read_is_absent(tmp_path: Path) -> None:
    package(tmp_path, 0)
    second = package(tmp_path, 1, "package-1")
    with cost.Meter(tmp_path) as meter:
        second.unlink()
    assert "cpu_joules" not in meter.facts
    with cost.Meter(tmp_path) as meter:
        pass
    assert "cpu_joules" not in meter.facts
