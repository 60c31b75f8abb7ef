"""A step that runs out of memory is done again in smaller rows; a loss that is no number ends the training."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.trainings import EXAMPLES, largest_difference, tensors, train

from qrft.errors import ModelError
from qrft.training import checkpoints, schedule, watch


def out_of_memory_errors() -> dict[str, Callable[[], Any]]:
    """Return how torch says that memory is short: of its own allocators, of cuBLAS and of the driver."""
    import torch

    def fail(error: Exception) -> None:
        raise error

    return {
        "torch": lambda: fail(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")),
        "cublas": lambda: fail(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(h)`")),
        "driver": lambda: fail(torch.AcceleratorError("CUDA error: out of memory")),
        "processor": lambda: torch.empty(2**60),
    }


@pytest.mark.parametrize("kind", ["torch", "cublas", "driver", "processor"])
def test_out_of_memory_halves_the_rows_and_does_the_step_again(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    from qrft.training import step_trainer as steps

    original, sizes = steps.completion_loss, []

    def fails_once(learner: Any, pack: Any) -> Any:
        sizes.append(pack["input_ids"].numel())
        loss = original(learner, pack)
        if len(sizes) == 3:
            loss.backward()  # as far as it can have come
            out_of_memory_errors()[kind]()
        return loss

    undisturbed = train(small, tmp_path / "one")
    monkeypatch.setattr(steps, "completion_loss", fails_once)
    facts = train(small, tmp_path / "two")
    assert facts["num_out_of_memory"] == 1 and facts["row_tokens"] == sizes[2] // 2
    assert max(sizes[3:]) <= facts["row_tokens"]
    told = [record.getMessage() for record in caplog.records if record.name.startswith("qrft")]
    assert told == [f"Step 3 ran out of memory: rows of at most {sizes[2] // 2} tokens from here on"]
    assert len(facts["losses"]) == 12
    assert facts["losses"][2]["loss"] == pytest.approx(undisturbed["losses"][2]["loss"], abs=1e-5)
    assert largest_difference(tensors(tmp_path / "one"), tensors(tmp_path / "two")) < 2e-4


def test_another_error_within_a_step_is_not_taken_for_a_lack_of_memory(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qrft.training import step_trainer as steps

    def fails(learner: Any, pack: Any) -> Any:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(steps, "completion_loss", fails)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        train(small, tmp_path)


@pytest.mark.parametrize("kind", ["torch", "cublas", "driver", "processor"])
def test_a_model_that_does_not_fit_is_one_clear_error(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    from transformers import AutoModelForCausalLM

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", lambda *_, **__: out_of_memory_errors()[kind]())
    with pytest.raises(ModelError, match=r"the model and its optimizer do not fit into memory .*train\.lora_r"):
        train(small, tmp_path)


@pytest.mark.parametrize("own", [{}, {"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:64"}])
def test_gpu_memory_is_taken_in_segments_that_grow_unless_the_user_says_otherwise(own: dict[str, str]) -> None:
    """torch reads its settings when they are first needed: in a process of its own."""
    script = "from qrft.machine import let_gpu_memory_grow as grow; import torch; grow(); "
    script += "print(torch._C._accelerator_getAllocatorSettings())"
    environment = {name: value for name, value in os.environ.items() if "ALLOC_CONF" not in name} | own
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == next(iter(own.values()), "expandable_segments:True")


def test_an_example_that_does_not_fit_alone_is_one_clear_error(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from qrft.training import step_trainer as steps

    def fails(learner: Any, pack: Any) -> Any:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(steps, "completion_loss", fails)
    with pytest.raises(ModelError, match=r"Step 1: not even one example of \d+ tokens.*train\.sequence_len"):
        train(small, tmp_path)


def test_a_loss_that_is_no_number_stops_before_the_weights_change(small: Path, tmp_path: Path) -> None:
    import torch

    with pytest.raises(
        watch.NotFinite, match=r"step \d+ is not a finite number.*examples \d+, .*learning_rate"
    ) as error:
        train(small, tmp_path, adapter="none", learning_rate=1e30, warmup_ratio=0.0, checkpoint_minutes=0)
    order = schedule.steps(len(EXAMPLES), 4, 2, seed=0)
    assert error.value.indices == order[error.value.step - 1] and error.value.last_loss is not None
    assert "problems p-1" in error.value.wording("problems p-1")
    checkpoint = checkpoints.last(tmp_path / "checkpoints")
    assert checkpoint is not None and checkpoint.name == f"checkpoint-{error.value.step - 1}"
    saved = tensors(checkpoint, checkpoints.WEIGHTS)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in saved.values())
