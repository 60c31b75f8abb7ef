"""Training in bfloat16, as a GPU does it: on the processor by the same autocast, slowly where it has no unit for it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.trainings import SETTINGS, changed, train

from qrft.data.problems import tiny_math
from qrft.machine import has_bfloat16_unit
from qrft.models import prompts
from qrft.models.find import BUILTIN
from qrft.models.wording import PLAIN
from qrft.training import model, precision

TINY = BUILTIN["tiny-base"]
KINDS: dict[str, dict[str, Any]] = {
    "nf4": {"quantization": "nf4"},
    "plain LoRA": {},
    "every weight": {"adapter": "none"},
    "checkpointing": {"quantization": "nf4", "gradient_checkpointing": True},
    "without packing": {"quantization": "nf4", "packing": False},
    "eager attention": {"quantization": "nf4", "attention": "eager"},
    "8-bit optimizer": {"quantization": "nf4", "optimizer": "adamw_8bit"},
    "two processes": {"quantization": "nf4", "num_processes": 2},
}


@cache
def worked(number: int) -> list[prompts.Example]:
    tokenizer = prompts.load_tokenizer(TINY)
    rows = tiny_math.problems("train", seed=0, num_problems=number)
    return [prompts.example(tokenizer, row["question"], row["solution"], PLAIN) for row in rows]


def in_both(tmp_path: Path, number: int, **changes: Any) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """Return the rows of the losses of a training in float32, and of the same in bfloat16."""
    rows = []
    for chosen in ("float32", "bfloat16"):
        out = tmp_path / chosen
        facts = train(TINY, out, examples=worked(number), precision=chosen, sequence_len=128, **changes)
        assert facts["precision"] == chosen
        rows.append(facts["losses"])
    return rows[0], rows[1]


@pytest.mark.parametrize("kind", KINDS)
def test_losses_and_gradients_in_bfloat16_are_those_in_float32(tmp_path: Path, kind: str) -> None:
    """Of the same weights: nothing is learnt."""
    exact, rounded = in_both(tmp_path, 8, **{**KINDS[kind], "learning_rate": 1e-12, "num_epochs": 1})
    for key, tolerance in (("loss", {"abs": 0.005}), ("grad_norm", {"rel": 0.02})):
        expected, found = ([row[key] for row in rows] for rows in (exact, rounded))
        assert found == pytest.approx(expected, **tolerance) and found != expected


@pytest.mark.slow
def test_a_training_in_bfloat16_ends_with_the_losses_of_float32(tmp_path: Path) -> None:
    """They fall to a half. The first ten steps lag by 0.01: what a new adapter adds is less than the sum is rounded."""
    shared = {"quantization": "nf4", "lora_r": 32, "lora_alpha": 64, "learning_rate": 2e-4, "micro_batch_size": 8}
    exact, rounded = ([row["loss"] for row in rows] for rows in in_both(tmp_path, 200, num_epochs=3, **shared))
    assert rounded[-15:] == pytest.approx(exact[-15:], abs=0.01)
    assert rounded == pytest.approx(exact, abs=0.05) and exact[-1] < 0.5 * exact[0]


@pytest.mark.parametrize("adapter", ["lora", "none"])
def test_what_is_frozen_is_held_in_16_bits_and_what_learns_in_32(small: Path, adapter: str) -> None:
    learner = model.load(small, changed(precision="bfloat16", adapter=adapter))
    kinds = {
        requires: {p.dtype for p in learner.parameters() if p.requires_grad == requires} for requires in (True, False)
    }
    assert kinds == {True: {torch.float32}, False: {torch.bfloat16} if adapter == "lora" else set()}


@pytest.mark.parametrize(
    ("width", "on_gpu", "has_bfloat16", "chosen"),
    [
        (64, True, True, "bfloat16"),
        (4096, True, False, "float32"),
        (576, False, True, "bfloat16"),
        (384, False, True, "float32"),
        (576, False, False, "float32"),
    ],
)
def test_auto_takes_what_is_faster(
    width: int, on_gpu: bool, has_bfloat16: bool, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "pays", lambda width: width > 500)
    where = {"on_gpu": on_gpu, "has_bfloat16": has_bfloat16}
    assert model.choose_precision(SETTINGS, width, **where) == chosen
    for asked in ("float32", "bfloat16"):
        assert model.choose_precision(changed(precision=asked), width, **where) == asked
    if not on_gpu:  # what learns begins in 16 bits, where small updates are rounded away for many steps
        assert model.choose_precision(changed(adapter="none"), width, **where) == "float32"


def test_this_processor_takes_bfloat16_only_if_it_has_a_unit_for_it_and_that_pays(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if torch.cuda.is_available():
        pytest.skip("the GPU decides here")
    unit = torch.cpu._is_amx_tile_supported() or torch.backends.cpu.get_cpu_capability() == "AVX512_BF16"
    assert has_bfloat16_unit() or not unit
    monkeypatch.setattr(precision, "pays", lambda width: has_bfloat16_unit())
    expected = "bfloat16" if has_bfloat16_unit() else "float32"
    assert train(small, tmp_path / "one", num_epochs=0.1)["precision"] == expected


@pytest.mark.parametrize(("gain", "chosen"), [(1.05, False), (1.2, True)])
def test_a_width_is_measured_once(gain: float, chosen: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    times = {torch.float32: gain, torch.bfloat16: 1.0}
    monkeypatch.setattr(precision, "seconds", lambda width, dtype: times.pop(dtype))
    for width in (2 * precision.WIDEST, precision.WIDEST):
        precision.pays.cache_clear()
        assert precision.pays(width) == chosen
    precision.pays.cache_clear()
    assert not times


def test_both_are_timed_as_training_computes_them() -> None:
    assert all(0 < precision.seconds(64, dtype) < 60 for dtype in (torch.float32, torch.bfloat16))
