"""Several processes train what one does.

By torchrun, which `accelerate launch` runs itself for several GPUs; for several processes on the CPU it wants MPI.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.models import make_model
from helpers.trainings import EXAMPLES, RANDOM, changed, largest_difference, tensors, train

from qrft.config.training import Training

SCRIPT = """
import json, os, sys
from pathlib import Path
from qrft.config.training import Training
from qrft.models import prompts
from qrft.training import trainer

base, out, settings, second, examples, last = (json.loads(word) for word in sys.argv[1:])
rank, out = os.environ["RANK"], Path(out)
settings |= second if rank == "1" else {}

def progress(done, total, note):
    (out / f"progress-{rank}").write_text(str(done))
    if done == last:
        os._exit(1)

examples = [prompts.Example(*example) for example in examples]
settings = Training.model_construct(**settings)
facts = trainer.train(Path(base), examples, None, settings, out / "adapter", out / "checkpoints", progress)
(out / f"facts-{rank}.json").write_text(json.dumps(facts))
"""


def launch(folder: Path, base: Path, settings: Training, last: int | None = None, **second: Any) -> bool:
    """Two processes on the CPU; False: they ended themselves at step `last`. second: other settings of the second."""
    folder.mkdir(exist_ok=True)
    script = folder / "script.py"
    script.write_text(SCRIPT)
    values = map(json.dumps, (str(base), str(folder), settings.model_dump(), second, EXAMPLES, last))
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script), *values]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment)
    assert done.returncode == 0 or last is not None, done.stderr
    return done.returncode == 0


@pytest.mark.slow
def test_two_processes_learn_what_one_does(tmp_path: Path) -> None:
    base = make_model(tmp_path / "base")
    settings = changed(micro_batch_size=7)  # the last step of an epoch has one example, for one of the processes
    assert launch(tmp_path / "two", base, settings)
    one = train(base, tmp_path / "one", micro_batch_size=7)
    assert largest_difference(tensors(tmp_path / "one"), tensors(tmp_path / "two")) < 2e-4
    facts = [json.loads((tmp_path / f"two/facts-{rank}.json").read_text()) for rank in (0, 1)]
    for mine, first, second in zip(one["losses"], facts[0]["losses"], facts[1]["losses"], strict=True):
        assert mine["loss"] == pytest.approx(first["loss"], abs=1e-4) and first["loss"] == second["loss"]
    assert (tmp_path / "two/progress-0").read_text() == "8" and not (tmp_path / "two/progress-1").exists()


@pytest.mark.slow
def test_two_processes_take_one_optimizer(tmp_path: Path) -> None:
    """Each fits its settings to the memory that it finds free."""
    base = make_model(tmp_path / "base")
    settings = changed(optimizer="adamw", num_epochs=0.5)
    for name, second in (("alike", {}), ("apart", {"optimizer": "adamw_8bit"})):
        assert launch(tmp_path / name, base, settings, **second)
    assert largest_difference(tensors(tmp_path / "alike"), tensors(tmp_path / "apart")) == 0
    facts = [json.loads((tmp_path / f"apart/facts-{rank}.json").read_text()) for rank in (0, 1)]
    assert [each["optimizer"] for each in facts] == ["adamw", "adamw"]


@pytest.mark.slow
def test_two_processes_resume_bit_for_bit(tmp_path: Path) -> None:
    base = make_model(tmp_path / "base")
    settings = changed(**RANDOM, checkpoint_minutes=0, num_epochs=1)
    assert launch(tmp_path / "whole", base, settings)
    assert not launch(tmp_path / "cut", base, settings, last=4)
    assert [path.name for path in (tmp_path / "cut/checkpoints").glob("checkpoint-*")] == ["checkpoint-3"]
    assert launch(tmp_path / "cut", base, settings)
    files = [tmp_path / name / "adapter/adapter_model.safetensors" for name in ("whole", "cut")]
    assert files[0].read_bytes() == files[1].read_bytes()
