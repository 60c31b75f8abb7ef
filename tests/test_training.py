"""QLoRA training on the CPU, with the real libraries and the tiny base."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qrft import prompts
from qrft.errors import DataError, ModelError
from qrft.models import BUILTIN
from qrft.problems import tiny_math
from qrft.training import qlora

TINY = BUILTIN["tiny-base"]
CONFIG: dict[str, Any] = {
    "quantization": "nf4",
    "lora_r": 4,
    "lora_alpha": 8,
    "lora_dropout": 0.1,  # draws random numbers in every step, which a resumed run must draw alike
    "target_modules": "all-linear",
    "use_rslora": False,
    "learning_rate": 1e-2,
    "lr_scheduler": "cosine",
    "warmup_ratio": 0.1,
    "weight_decay": 0.0,
    "num_epochs": 3,
    "micro_batch_size": 4,
    "gradient_accumulation_steps": 1,
    "checkpoint_minutes": 60,
    "seed": 0,
}


@pytest.fixture(scope="module")
def examples() -> list[prompts.Example]:
    tokenizer = prompts.load_tokenizer(TINY)
    rows = tiny_math.problems("train", seed=0, num_problems=24)
    return [prompts.example(tokenizer, row["question"], row["solution"], "plain") for row in rows]


def train(
    examples: list[prompts.Example],
    out: Path,
    progress: Callable[[int, int, str], None] = lambda *_: None,
    **changes: Any,
) -> list[dict[str, float]]:
    return qlora.train(TINY, examples, 1, {**CONFIG, **changes}, out / "adapter", out / "checkpoints", progress)


def weights(out: Path) -> bytes:
    return (out / "adapter" / "adapter_model.safetensors").read_bytes()


def test_a_prompt_has_one_bos_and_is_the_same_in_training_and_sampling() -> None:
    tokenizer = prompts.load_tokenizer(TINY)
    ids, length = prompts.example(tokenizer, "How many?", "#### 3", "alpaca")
    assert ids[:length] == prompts.prompt_ids(tokenizer, "How many?", "alpaca")
    assert ids.count(tokenizer.bos_token_id) == 1 and ids[0] == tokenizer.bos_token_id
    assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(ids[length:-1]) == "#### 3"


def test_the_loss_is_on_the_completion_only() -> None:
    batch = qlora.collate([prompts.Example([5, 6, 7, 8], 2), prompts.Example([5, 9], 1)], pad_id=1)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8], [5, 9, 1, 1]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch["labels"].tolist() == [[-100, -100, 7, 8], [-100, 9, -100, -100]]


def test_the_base_is_nf4_with_double_quantisation_and_every_linear_layer_has_an_adapter() -> None:
    import bitsandbytes as bnb

    model = qlora.add_lora(qlora.load_base(TINY, "nf4"), CONFIG)
    linear = [m for m in model.modules() if isinstance(m, bnb.nn.Linear4bit)]
    assert len(linear) == 4 * 7  # q, k, v, o, gate, up, down in each of 4 layers
    assert all(m.weight.quant_type == "nf4" and m.weight.quant_state.nested for m in linear)
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert len(trained) == 4 * 7 * 2 and all("lora_" in name for name in trained)


def test_training_learns_and_a_seed_gives_the_same_adapter(tmp_path: Path, examples: list[prompts.Example]) -> None:
    losses = train(examples, tmp_path / "one", num_epochs=10)
    assert losses[-1]["loss"] < 0.7 * losses[0]["loss"]
    train(examples, tmp_path / "two", num_epochs=1)
    train(examples, tmp_path / "three", num_epochs=1)
    train(examples, tmp_path / "four", num_epochs=1, seed=1)
    assert weights(tmp_path / "two") == weights(tmp_path / "three") != weights(tmp_path / "four")


def test_a_resumed_run_equals_an_undisturbed_one_bit_for_bit(tmp_path: Path, examples: list[prompts.Example]) -> None:
    class Killed(Exception):
        pass

    def stop_at_9(done: int, total: int, note: str) -> None:
        assert total == 18
        if done == 9:
            raise Killed

    train(examples, tmp_path / "whole")
    with pytest.raises(Killed):
        train(examples, tmp_path / "stopped", stop_at_9, checkpoint_minutes=0)
    checkpoints = tmp_path / "stopped" / "checkpoints"
    assert qlora.last_checkpoint(checkpoints) == checkpoints / "checkpoint-8"
    (checkpoints / "checkpoint-9").mkdir(exist_ok=True)  # what a kill leaves of a checkpoint half-written
    steps: list[int] = []
    train(examples, tmp_path / "stopped", lambda done, *_: steps.append(done))
    assert steps[0] == 9
    assert weights(tmp_path / "stopped") == weights(tmp_path / "whole")


def test_no_examples_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not one example to train on"):
        train([], tmp_path)


def test_targets_that_match_nothing_are_one_clear_error(tmp_path: Path, examples: list[prompts.Example]) -> None:
    with pytest.raises(ModelError, match=r"train\.target_modules.*Use all-linear"):
        train(examples, tmp_path, target_modules=["no_such_layer"])
