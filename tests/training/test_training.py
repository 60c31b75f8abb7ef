"""What a training tells of itself, and what it refuses: on the CPU, with the real libraries."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers.models import make_model
from helpers.trainings import EXAMPLES, largest_difference, tensors, train

from qrft.config.load import load_training
from qrft.errors import DataError, ModelError, UsageError


def test_a_run_tells_its_losses_speed_and_memory(small: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    facts = train(small, tmp_path, lambda done, total, note: notes.append(note))
    assert len(notes) == 12 and "tokens/s, 0% padding" in notes[-1] and "GiB" in notes[-1]
    assert [row["step"] for row in facts["losses"]] == list(range(1, 13))
    assert facts["losses"][-1]["epoch"] == 2 and facts["losses"][0]["epoch"] == pytest.approx(1 / 6)
    assert facts["num_tokens"] == 2 * sum(len(e.token_ids) for e in EXAMPLES)
    assert facts["padding_share"] == 0 and facts["peak_memory_bytes"] > 2**27 and facts["seconds"] > 0
    card = (tmp_path / "adapter/README.md").read_text()
    assert (
        "22 worked solutions in 12 steps" in card
        and f"{facts['final_loss']:.4f}" in card
        and "| `lora_r` | 4 |" in card
    )


def test_a_report_that_is_not_installed_is_one_clear_error(small: Path, tmp_path: Path) -> None:
    missing = [name for name in ("wandb", "trackio", "tensorboard") if find_spec(name) is None]
    if not missing:
        pytest.skip("all of them are installed")
    with pytest.raises(UsageError, match=rf"train\.report_to: found {missing[0]}, not all of them installed.*install"):
        train(small, tmp_path, report_to=missing[:1])


def test_an_adapter_is_trained_further_from_where_it_was(small: Path, tmp_path: Path) -> None:
    for kind in ("default", "pissa"):  # the latter is saved at twice the rank
        first = train(small, tmp_path / kind, lora_init=kind)
        further = train(small, tmp_path / f"{kind}-2", start=tmp_path / kind / "adapter", learning_rate=1e-9)
        assert largest_difference(tensors(tmp_path / kind), tensors(tmp_path / f"{kind}-2")) < 1e-6
        assert further["losses"][0]["loss"] < first["losses"][0]["loss"] - 0.5


def test_a_base_from_the_hub_is_called_by_its_name_there(small: Path, tmp_path: Path) -> None:
    base = tmp_path / "hub/models--some-one--a-model/snapshots/0123abc"
    shutil.copytree(small, base)
    train(base, tmp_path, num_epochs=0.1)
    assert "base_model: some-one/a-model\n" in (tmp_path / "adapter/README.md").read_text()
    config = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "some-one/a-model"


def test_reports_go_where_they_are_asked_to(small: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    train(small, tmp_path, num_epochs=0.1, report_to=["tensorboard"])
    assert list((tmp_path / "adapter/logs").glob("events.*"))


def test_no_examples_is_one_clear_error(small: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        train(small, tmp_path, examples=[])
    assert str(error.value) == (
        "There are no examples to train on: every problem was dropped. Raise train.sequence_len."
    )


@pytest.mark.parametrize("targets", [["no_such_layer"], ["q_proj", "no_such_layer"]])
def test_targets_that_match_nothing_are_one_clear_error(small: Path, tmp_path: Path, targets: list[str]) -> None:
    with pytest.raises(ModelError, match=r"train\.target_modules: no_such_layer matches.*q_proj.*Use all-linear"):
        train(small, tmp_path, target_modules=targets)


def test_a_base_quantised_already_is_one_clear_error(small: Path, tmp_path: Path) -> None:
    config = json.loads((small / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    make_model(tmp_path / "base")
    (tmp_path / "base/config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"quantised already \(gptq\)\. Expected the original weights"):
        train(tmp_path / "base", tmp_path)


def test_settings_that_contradict_are_one_clear_error() -> None:
    """They can't become a Training, which is all that the trainer takes."""
    with pytest.raises(UsageError) as error:
        load_training({"adapter": "none", "quantization": "nf4"})
    assert str(error.value) == (
        "train: adapter: found none with train.quantization nf4, whose weights can't be trained. "
        "Allowed: lora, or train.quantization none"
    )
    with pytest.raises(UsageError) as error:
        load_training({"lora_init": "loftq", "quantization": "none"})
    assert str(error.value) == (
        "train: lora_init: found loftq with train.quantization none, which leaves no quantisation error to start from. "
        "Allowed: default, pissa, or train.quantization nf4"
    )
