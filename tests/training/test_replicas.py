"""Processes that share each step: they learn what one learns, and none of them outlives the training."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.processes import children, has_ended
from helpers.trainings import EXAMPLES, RANDOM, largest_difference, tensors, train

from qrft.errors import ModelError
from qrft.training import replicas


@pytest.mark.parametrize("changes", [{}, {"quantization": "nf4"}, {"adapter": "none"}, {"packing": False}])
def test_several_processes_learn_what_one_learns(small: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    before = children(os.getpid())  # of other tests, such as the process that renders chat templates
    name = "adapter/model.safetensors" if "adapter" in changes else "adapter/adapter_model.safetensors"
    one = train(small, tmp_path / "one", **changes)
    three = train(small, tmp_path / "three", num_processes=3, **changes)
    assert [row["loss"] for row in three["losses"]] == pytest.approx([row["loss"] for row in one["losses"]], rel=1e-5)
    # The gradients are those of one process but for the order of additions; AdamW makes steps of the same size of them.
    assert largest_difference(tensors(tmp_path / "one", name), tensors(tmp_path / "three", name)) < 1e-3
    assert three["padding_share"] == one["padding_share"] == 0.0
    assert children(os.getpid()) == before


def test_a_step_of_fewer_examples_than_processes_is_whole(small: Path, tmp_path: Path) -> None:
    one = train(small, tmp_path / "one", examples=EXAMPLES[:5])
    four = train(small, tmp_path / "four", examples=EXAMPLES[:5], num_processes=4)
    assert [row["loss"] for row in four["losses"]] == pytest.approx([row["loss"] for row in one["losses"]], rel=1e-5)


def test_a_resumed_run_draws_in_every_process_what_an_undisturbed_one_draws(small: Path, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    before = children(os.getpid())

    def stop(done: int, total: int, note: str) -> None:
        if done == 7:
            raise Killed

    train(small, tmp_path / "whole", num_processes=2, **RANDOM)
    with pytest.raises(Killed):
        train(small, tmp_path / "cut", stop, checkpoint_minutes=0, num_processes=2, **RANDOM)
    assert children(os.getpid()) == before
    train(small, tmp_path / "cut", num_processes=2, **RANDOM)
    assert largest_difference(tensors(tmp_path / "whole"), tensors(tmp_path / "cut")) == 0.0


def test_the_threads_are_as_before_afterwards(small: Path, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    train(small, tmp_path, num_processes=2)
    assert torch.get_num_threads() == before


def test_a_process_that_ends_is_one_clear_error(small: Path, tmp_path: Path) -> None:
    before = children(os.getpid())

    def kill(done: int, total: int, note: str) -> None:
        for child in {*children(os.getpid())} - {*before}:
            os.kill(child, signal.SIGKILL)

    with pytest.raises(ModelError, match="most likely because memory ran out"):
        train(small, tmp_path, kill, num_processes=2)
    assert children(os.getpid()) == before


def test_memory_that_runs_out_in_one_process_makes_the_rows_of_all_smaller(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row of two examples is too large for the second process alone, the first time."""
    from qrft.training import step_trainer

    parent, real = os.getpid(), step_trainer.completion_loss

    def too_large(model: Any, pack: Any) -> Any:
        if os.getpid() != parent and len(pack["example_lengths"]) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(model, pack)

    one = train(small, tmp_path / "one")
    monkeypatch.setattr(step_trainer, "completion_loss", too_large)
    two = train(small, tmp_path / "two", num_processes=2)
    assert two["num_out_of_memory"] > 0
    assert [row["loss"] for row in two["losses"]] == pytest.approx([row["loss"] for row in one["losses"]], rel=1e-5)


PARENT = """
import os, sys, time
import torch
from qrft.training.replicas import Replicas

copies = Replicas(2, [torch.nn.Parameter(torch.ones(3))], lambda seconds: time.sleep(seconds))
copies.begin([(0,), (0,)])
copies.gather()
print(*(copy.process.pid for copy in copies._replicas), flush=True)
time.sleep(60)
"""


def test_processes_end_when_their_parent_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = parent.stdout.readline().split()
        assert len(pids) == 2
        parent.kill()
    assert all(has_ended(int(pid)) for pid in pids)


def test_a_step_has_no_more_processes_than_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [replicas.num_processes(batch, 8) for batch in (1, 4, 16)] == [1, 4, 8]
    monkeypatch.setenv("WORLD_SIZE", "2")  # accelerate's
    assert replicas.num_processes(16, 8) == 1
