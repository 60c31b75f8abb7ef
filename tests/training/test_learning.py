"""What is learnt: the losses of a plain loop, whatever the rows, the schedule and the form of the optimizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.models import make_model
from helpers.trainings import EXAMPLES, RANDOM, SETTINGS, changed, largest_difference, tensors, train

from qrft.config.training import Training
from qrft.data.problems import tiny_math
from qrft.models import prompts
from qrft.models.any_shape import read_shape
from qrft.models.find import BUILTIN
from qrft.models.wording import PLAIN
from qrft.training import checkpoints, memory, schedule

TINY = BUILTIN["tiny-base"]


def plain_loop(base: Path, settings: Training) -> list[float]:
    """Full fine-tuning as one writes it by hand: one example after the other, no packing, torch's own loss."""
    import torch
    from transformers import AutoModelForCausalLM

    learner = AutoModelForCausalLM.from_pretrained(base)
    optimizer = torch.optim.AdamW(learner.parameters(), lr=settings.learning_rate, weight_decay=0.0)
    losses = []
    for step in schedule.steps(len(EXAMPLES), 4, settings.num_epochs, settings.seed):
        num_targets = sum(len(EXAMPLES[i].token_ids) - EXAMPLES[i].prompt_length for i in step)
        loss = torch.zeros(())
        for i in step:
            ids = torch.tensor([EXAMPLES[i].token_ids])
            labels = ids.clone()
            labels[:, : EXAMPLES[i].prompt_length] = -100
            logits = learner(ids).logits[0, :-1]
            loss = loss + torch.nn.functional.cross_entropy(logits, labels[0, 1:], reduction="sum") / num_targets
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def test_the_losses_are_those_of_a_plain_loop(small: Path, tmp_path: Path) -> None:
    changes = {"learning_rate": 1e-4, "lr_scheduler": "constant", "warmup_ratio": 0.0, "weight_decay": 0.0}
    facts = train(small, tmp_path, adapter="none", **changes)
    ours = [row["loss"] for row in facts["losses"]]
    theirs = plain_loop(small, changed(**changes))
    assert len(ours) == 12 and max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) < 1e-5
    assert len({round(loss, 2) for loss in ours}) > 6


def test_how_a_step_is_cut_into_rows_does_not_change_what_is_learnt(small: Path, tmp_path: Path) -> None:
    cuts: list[dict[str, Any]] = [
        {},
        {"packing": False},
        {"micro_batch_size": 1, "gradient_accumulation_steps": 4},
        {"gradient_checkpointing": True},
    ]
    for i, cut in enumerate(cuts):
        train(small, tmp_path / str(i), num_epochs=1, **cut)
    for i in (1, 2, 3):
        assert largest_difference(tensors(tmp_path / "0"), tensors(tmp_path / str(i))) < 2e-4


@pytest.mark.parametrize(("asked", "per_row"), [(False, 1), (True, 2)])
def test_checkpointing_computes_every_block_again(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: bool, per_row: int
) -> None:
    from transformers.models.llama.modeling_llama import LlamaMLP

    original, calls = LlamaMLP.forward, []

    def counted(self: Any, states: Any) -> Any:
        calls.append(self.training)
        return original(self, states)

    monkeypatch.setattr(LlamaMLP, "forward", counted)
    train(small, tmp_path, num_epochs=0.1, gradient_checkpointing=asked)
    assert calls == [True] * 2 * per_row  # of two blocks


def test_checkpointing_takes_no_gradient_of_the_embeddings(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers asks for one whenever it checkpoints, which would go through the whole first block for nothing."""
    from torch.nn import Embedding

    original, wants_gradient = Embedding.__call__, []

    def watched(self: Any, ids: Any) -> Any:
        embedded = original(self, ids)
        wants_gradient.append(embedded.requires_grad)
        return embedded

    monkeypatch.setattr(Embedding, "__call__", watched)
    facts = [train(small, tmp_path / str(asked), gradient_checkpointing=asked) for asked in (False, True)]
    assert wants_gradient and not any(wants_gradient)
    losses = [[row["loss"] for row in each["losses"]] for each in facts]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert largest_difference(tensors(tmp_path / "False"), tensors(tmp_path / "True")) < 2e-4


def test_steps_may_be_counted_in_place_of_epochs(tmp_path: Path, small: Path) -> None:
    facts = train(small, tmp_path, num_steps=3, num_epochs=50)
    assert facts["num_steps"] == len(facts["losses"]) == 3
    assert Training(num_steps=3).identity()["num_steps"] == 3
    assert "num_steps" not in Training().identity(), "older trainings are known by what they were"


def test_training_learns_and_a_seed_gives_the_same_adapter(tmp_path: Path, small: Path) -> None:
    tokenizer = prompts.load_tokenizer(TINY)
    rows = tiny_math.problems("train", seed=0, num_problems=12)
    worked = [prompts.example(tokenizer, row["question"], row["solution"], PLAIN) for row in rows]
    losses = train(TINY, tmp_path / "tiny", examples=worked, quantization="nf4", num_epochs=4)["losses"]
    assert losses[-1]["loss"] < 0.5 * losses[0]["loss"]
    for name, seed in {"one": 0, "again": 0, "other": 1}.items():
        train(small, tmp_path / name, seed=seed, num_epochs=1, **RANDOM)
    one, again, other = (
        (tmp_path / n / "adapter/adapter_model.safetensors").read_bytes() for n in ("one", "again", "other")
    )
    assert one == again != other


@pytest.mark.parametrize(
    ("scheduler", "ends_at"),
    [("cosine", 0.0), ("linear", 0.0), ("polynomial", 0.0), ("constant", 1.0), ("inverse_sqrt", 0.5)],
)
def test_every_schedule_warms_up_and_ends_where_it_should(
    small: Path, tmp_path: Path, scheduler: str, ends_at: float
) -> None:
    losses = train(small, tmp_path, lr_scheduler=scheduler, warmup_ratio=0.25)["losses"]
    rates = [row["learning_rate"] / SETTINGS.learning_rate for row in losses]
    assert rates[:4] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert rates[-1] == pytest.approx(ends_at, abs=0.12) and max(rates) == pytest.approx(1)


def test_noise_on_the_embeddings_is_measured_by_each_examples_own_length(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qrft.training.step_trainer import StepTrainer

    seen = []
    original = StepTrainer._add_noise

    def record(self: Any, module: Any, given: Any, embedded: Any) -> Any:
        noisy = original(self, module, given, embedded)
        for part in (noisy - embedded)[0].split(self.pack["example_lengths"]):
            seen.append(float(part.abs().max()) * part.numel() ** 0.5)
        return noisy

    monkeypatch.setattr(StepTrainer, "_add_noise", record)
    train(small, tmp_path, num_epochs=1, neftune_noise_alpha=5.0)
    assert len(seen) == len(EXAMPLES) and all(4.8 < alpha <= 5.001 for alpha in seen)


def test_full_fine_tuning_saves_a_model_of_the_bases_precision_that_loads(tmp_path: Path, small: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = AutoModelForCausalLM.from_pretrained(small).bfloat16()
    base.save_pretrained(tmp_path / "base")
    AutoTokenizer.from_pretrained(small).save_pretrained(tmp_path / "base")
    facts = train(tmp_path / "base", tmp_path, adapter="none", learning_rate=1e-3)
    assert facts["losses"][-1]["loss"] < facts["losses"][0]["loss"]
    trained = AutoModelForCausalLM.from_pretrained(tmp_path / "adapter")
    assert trained.dtype == torch.bfloat16 and AutoTokenizer.from_pretrained(tmp_path / "adapter").pad_token is None
    assert largest_difference(trained.state_dict(), base.state_dict()) > 1e-3
    assert "PeftModel" not in (tmp_path / "adapter/README.md").read_text()


def test_a_training_changes_nothing_for_the_next_one_in_the_process(small: Path, tmp_path: Path) -> None:
    """transformers asks bitsandbytes for 32-bit states of a model's embeddings, in a place that all models share."""
    adapter = {"optimizer": "adamw_8bit", "num_epochs": 1, "lora_r": 64}
    train(small, tmp_path / "one", **adapter)
    train(small, tmp_path / "between", adapter="none", optimizer="adamw_8bit", num_epochs=1)
    train(small, tmp_path / "two", **adapter)
    one, two = ((tmp_path / name / "adapter/adapter_model.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two


@pytest.mark.parametrize("kind", ["llama-tied", "llama-untied-biases"])
def test_the_states_of_every_weight_in_8_bit_are_estimated_to_the_byte(kind: str, tmp_path: Path) -> None:
    import torch
    from torch.utils._pytree import tree_leaves

    base = make_model(tmp_path / "base", kind)
    train(base, tmp_path, adapter="none", optimizer="adamw_8bit", num_epochs=0.3, checkpoint_minutes=0)
    checkpoint = checkpoints.last(tmp_path / "checkpoints")
    assert checkpoint is not None
    states = tree_leaves(torch.load(checkpoint / "optimizer.pt", weights_only=True)["state"])
    held = {t.data_ptr(): t.nbytes for t in states if isinstance(t, torch.Tensor)}
    settings = changed(adapter="none", optimizer="adamw_8bit")
    assert memory.estimate(read_shape(base), settings, on_gpu=False)["optimizer"] == sum(held.values())
