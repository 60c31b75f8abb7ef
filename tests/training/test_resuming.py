"""A training that was killed goes on from its last checkpoint, to the same end and in the same memory."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import damage
from helpers.models import make_model
from helpers.trainings import EXAMPLES, RANDOM, changed, largest_difference, tensors, train

from qrft.config.training import Training
from qrft.data.training_rows import Row
from qrft.errors import ModelError
from qrft.training import checkpoints, memory
from qrft.training.finetune import finetune


class Killed(Exception):
    pass


def kill_at(step: int) -> Callable[[int, int, str], None]:
    def progress(done: int, total: int, note: str) -> None:
        assert total == 12
        if done == step:
            raise Killed

    return progress


@pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")
@pytest.mark.parametrize(
    "changes",
    [
        {"quantization": "nf4", "lora_init": "pissa"},
        {"quantization": "nf4", "precision": "bfloat16"},
        {"adapter": "none", "lora_dropout": 0.0, "optimizer": "paged_adamw_8bit"},
    ],
)
def test_a_resumed_run_equals_an_undisturbed_one_bit_for_bit(
    small: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    changes = {**RANDOM, **changes}
    name = "adapter/model.safetensors" if "adapter" in changes else "adapter/adapter_model.safetensors"
    whole = train(small, tmp_path / "whole", **changes)
    with pytest.raises(Killed):
        train(small, tmp_path / "cut", kill_at(7), checkpoint_minutes=0, **changes)
    folder = tmp_path / "cut/checkpoints"
    assert checkpoints.last(folder) == folder / "checkpoint-6"
    steps: list[int] = []
    cut = train(small, tmp_path / "cut", lambda done, *_: steps.append(done), **changes)
    assert steps == [7, 8, 9, 10, 11, 12]
    assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    for mine, undisturbed in zip(cut["losses"], whole["losses"], strict=True):
        for key in ("step", "loss", "grad_norm", "learning_rate", "epoch"):
            assert mine[key] == undisturbed[key]


@pytest.mark.parametrize(
    ("key", "began", "elsewhere"), [("optimizer", "adamw_8bit", "adamw"), ("precision", "bfloat16", "float32")]
)
def test_a_training_goes_on_with_the_optimizer_and_the_precision_that_it_began_with(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, began: str, elsewhere: str
) -> None:
    """With less free memory, or on another processor, auto names another."""

    def tune(name: str, automatic: str, last: int = 12) -> dict[str, Any]:
        def fit_here(asked: Training, *_: object) -> Training:
            return asked.model_copy(update={key: automatic}) if getattr(asked, key) == "auto" else asked

        def progress(done: int, total: int, note: str) -> None:
            if done == last < total:
                raise Killed

        monkeypatch.setattr(memory, "fit_here", fit_here)
        rows = [Row(str(i), f"What is {i} + {i}?", f"#### {i + i}") for i in range(24)]
        settings = changed(sequence_len=64, checkpoint_minutes=0, num_epochs=2)
        return finetune(small, rows, settings, tmp_path / name / "adapter", tmp_path / name / "checkpoints", progress)

    whole = tune("whole", began)
    with pytest.raises(Killed):
        tune("cut", began, last=7)
    cut = tune("cut", elsewhere)
    assert whole[key] == cut[key] == began
    assert largest_difference(tensors(tmp_path / "whole"), tensors(tmp_path / "cut")) == 0


# The child ends itself with the signal that nothing can catch, at the moment that is named.
MOMENTS = {
    "between two of its files": "torch.save",
    "before it has its place": "checkpoints.publish",
    "before the older one is dropped": "checkpoints.shutil.rmtree",
}
CHILD = """
import json, os, signal, sys
from pathlib import Path
import torch
from qrft.config.training import Training
from qrft.models import prompts
from qrft.training import checkpoints, trainer

base, out, settings, examples, moment = (json.loads(word) for word in sys.argv[1:])

def progress(done, total, note):
    if done == 5:
        owner, _, name = moment.rpartition(".")
        setattr(eval(owner), name, lambda *_: os.kill(os.getpid(), signal.SIGKILL))

examples = [prompts.Example(*example) for example in examples]
settings = Training.model_construct(**settings)
trainer.train(Path(base), examples, None, settings, Path(out) / "adapter", Path(out) / "checkpoints", progress)
"""


@pytest.mark.parametrize(
    "moment", [pytest.param(m, marks=[pytest.mark.slow] * (i != 1)) for i, m in enumerate(MOMENTS)]
)
def test_killed_within_a_checkpoint_a_run_goes_on_from_a_whole_one(small: Path, tmp_path: Path, moment: str) -> None:
    settings = changed(**RANDOM, checkpoint_minutes=0).model_dump()
    values = [str(small), str(tmp_path / "cut"), settings, EXAMPLES, MOMENTS[moment]]
    child = subprocess.run([sys.executable, "-c", CHILD, *map(json.dumps, values)], capture_output=True, text=True)
    assert child.returncode == -signal.SIGKILL, child.stderr
    steps: list[int] = []
    train(small, tmp_path / "cut", lambda done, *_: steps.append(done), **RANDOM)
    assert steps[0] in (5, 6)
    train(small, tmp_path / "whole", **RANDOM)
    assert largest_difference(tensors(tmp_path / "cut"), tensors(tmp_path / "whole")) == 0


def test_a_checkpoint_of_another_model_is_one_clear_error(small: Path, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(small, tmp_path, kill_at(2), checkpoint_minutes=0)
    for change in ({"target_modules": ["q_proj"]}, {"lora_r": 5}):
        with pytest.raises(ModelError, match=r"other trained weights.*Delete the folder"):
            train(small, tmp_path, **change)


PEAK = """
import json, resource, sys
from pathlib import Path
from qrft.config.training import Training
from qrft.models import prompts
from qrft.training import trainer

base, out, settings, examples, last = (json.loads(word) for word in sys.argv[1:])

def progress(done, total, note):
    if done == last:
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        raise SystemExit

examples = [prompts.Example(*example) for example in examples]
settings = Training.model_construct(**settings)
trainer.train(Path(base), examples, None, settings, Path(out) / "adapter", Path(out) / "checkpoints", progress)
"""


@pytest.mark.parametrize("happens", damage.KINDS)
def test_a_damaged_checkpoint_is_named_and_not_gone_on_from(
    small: Path, tmp_path: Path, happens: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """One bit of it would teach something else in silence."""
    train(small, tmp_path / "whole")
    with pytest.raises(Killed):
        train(small, tmp_path / "cut", kill_at(7), checkpoint_minutes=0)
    checkpoint = tmp_path / "cut/checkpoints/checkpoint-6"
    happens(checkpoint / "trained.safetensors", random.Random(5))
    steps: list[int] = []
    train(small, tmp_path / "cut", lambda done, *_: steps.append(done))
    name = "adapter/adapter_model.safetensors"
    assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert f"{checkpoint}: is damaged, so the training goes on from an earlier one or begins again" in caplog.text
    assert steps[0] <= 1


@pytest.mark.slow
def test_resuming_needs_no_more_memory_than_running(tmp_path: Path) -> None:
    """A model whose weights, gradients and optimizer state are most of the process: 35M parameters, 16 bytes each."""
    base = make_model(tmp_path / "base", hidden_size=512, intermediate_size=2048, num_hidden_layers=9)
    settings = changed(adapter="none", checkpoint_minutes=0).model_dump()
    peaks = []
    for last in (3, 6):
        values = [str(base), str(tmp_path), settings, EXAMPLES, last]
        child = subprocess.run(
            [sys.executable, "-c", PEAK, *map(json.dumps, values)], capture_output=True, text=True, check=True
        )
        peaks.append(int(child.stdout) * 1024)
    assert checkpoints.last(tmp_path / "checkpoints") == tmp_path / "checkpoints/checkpoint-5"
    assert peaks[0] > 16 * 35e6
    assert peaks[1] < 1.03 * peaks[0]
