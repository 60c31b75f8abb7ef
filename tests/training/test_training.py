"""Training on the CPU, with the real libraries: the tiny base, and smaller random models where that is enough."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from helpers.models import make_model
from helpers.trainings import EXAMPLES, RANDOM, SETTINGS, changed, largest_difference, tensors, train

from qrft.config.load import load_training
from qrft.config.training import Training
from qrft.data.problems import tiny_math
from qrft.errors import DataError, ModelError, UsageError
from qrft.models import prompts
from qrft.models.find import BUILTIN
from qrft.models.shape import read_shape
from qrft.training import checkpoints, lora, memory, model, schedule, watch

TINY = BUILTIN["tiny-base"]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama whose tokenizer has no padding token."""
    return make_model(tmp_path_factory.mktemp("models") / "small")


# The order


def test_an_epoch_takes_every_example_once_in_batches_the_last_one_smaller() -> None:
    steps = schedule.steps(22, 4, 2, seed=0)
    assert [len(step) for step in steps] == [4, 4, 4, 4, 4, 2] * 2
    first, second = (list(chain.from_iterable(steps[i : i + 6])) for i in (0, 6))
    assert sorted(first) == sorted(second) == list(range(22))
    assert first != second != list(range(22))


def test_the_order_follows_from_the_seed_and_epochs_may_be_fractions() -> None:
    steps = schedule.steps(22, 4, 3, seed=1)
    assert steps == schedule.steps(22, 4, 3, seed=1) != schedule.steps(22, 4, 3, seed=2)
    assert schedule.steps(22, 4, 1.5, seed=1) == steps[:9]
    assert len(schedule.steps(30, 1, 0.1, seed=1)) == 3  # 0.1 * 30 is a little more than 3 in floating point
    assert len(schedule.steps(22, 4, 0.001, seed=1)) == 1


def test_processes_share_a_step_in_equal_parts() -> None:
    lengths = [100, 10, 20, 30, 40, 5]
    parts = [schedule.share(range(6), lengths, 2, process) for process in (0, 1)]
    assert sorted(parts[0] + parts[1]) == list(range(6))
    assert [sum(lengths[i] for i in part) for part in parts] == [105, 100]
    assert [schedule.share([3], lengths, 2, process) for process in (0, 1)] == [[3], []]


# The model


def test_a_prompt_has_one_bos_and_is_the_same_in_training_and_sampling() -> None:
    tokenizer = prompts.load_tokenizer(TINY)
    ids, length = prompts.example(tokenizer, "How many?", "#### 3", "alpaca")
    assert ids[:length] == prompts.prompt_ids(tokenizer, "How many?", "alpaca")
    assert ids.count(tokenizer.bos_token_id) == 1 and ids[0] == tokenizer.bos_token_id
    assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(ids[length:-1]) == "#### 3"


def test_the_base_is_nf4_with_double_quantisation_and_every_linear_layer_has_an_adapter() -> None:
    import bitsandbytes as bnb

    learner = model.load(TINY, changed(quantization="nf4"))
    linear = [m for m in learner.modules() if isinstance(m, bnb.nn.Linear4bit)]
    assert len(linear) == 4 * 7  # q, k, v, o, gate, up, down in each of 4 layers
    assert all(m.weight.quant_type == "nf4" and m.weight.quant_state.nested for m in linear)
    trained = [name for name, p in learner.named_parameters() if p.requires_grad]
    assert len(trained) == 4 * 7 * 2 and all("lora_" in name for name in trained)


def test_what_is_not_quantised_keeps_its_precision() -> None:
    import torch

    base = model.load_base(TINY, "nf4", dtype=torch.bfloat16)
    learner = lora.add(base, TINY, changed(quantization="nf4"))
    kept = {p.dtype for name, p in learner.named_parameters() if "norm" in name or "embed" in name}
    learning = {p.dtype for p in learner.parameters() if p.requires_grad}
    assert kept == {torch.bfloat16} and learning == {torch.float32}


@pytest.mark.parametrize("quantization", ["nf4", "none"])
def test_an_adapter_computes_what_peft_does(tmp_path: Path, quantization: str) -> None:
    import torch

    folder = make_model(tmp_path, "llama-untied-biases")
    settings = {"quantization": quantization, "use_rslora": True, "lora_dropout": 0.1}
    learner = model.load(folder, changed(**settings)).train()
    learned = [parameter for parameter in learner.parameters() if parameter.requires_grad]
    for parameter in learned:
        torch.nn.init.normal_(parameter, std=0.1)

    def logits_and_gradients() -> list[torch.Tensor]:
        torch.manual_seed(0)
        logits = learner(input_ids=torch.arange(40).view(2, 20)).logits
        return [logits, *torch.autograd.grad(logits.square().mean(), learned)]

    ours = logits_and_gradients()
    for _, layer in lora._layers(learner):
        del layer.forward  # peft's own is the class's
    torch.testing.assert_close(ours, logits_and_gradients(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("init", ["pissa", "loftq"])
def test_another_beginning_brings_the_quantised_base_nearer_to_the_original(small: Path, init: str) -> None:
    """What the model computes is the base's weight plus the adapter's product: how far is that from the original?"""
    original = tensors(small, "model.safetensors")

    def error(kind: str) -> float:
        learner = model.load(small, changed(quantization="nf4", lora_init=kind, lora_r=8))
        total = 0.0
        for name, layer in lora._layers(learner):
            a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
            now = lora._dequantized(layer.get_base_layer().weight) + layer.scaling["default"] * b @ a
            lost = now - original[name.removeprefix("base_model.model.") + ".weight"]
            total += lost.square().sum().item()
        return total

    assert error(init) < 0.8 * error("default")


@pytest.mark.parametrize("init", ["default", "pissa"])
@pytest.mark.parametrize("use_rslora", [False, True])
def test_the_saved_adapter_on_the_original_base_is_the_trained_model(
    small: Path, tmp_path: Path, init: str, use_rslora: bool
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    learner = model.load(small, changed(lora_init=init, use_rslora=use_rslora))
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in learner.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    lora.save(learner, tmp_path, "a-base")
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(small), tmp_path)
    ids = torch.arange(40)[None]
    with torch.no_grad():
        trained, again = (m.eval()(ids, attention_mask=torch.ones_like(ids)).logits for m in (learner, loaded))
        base = AutoModelForCausalLM.from_pretrained(small)(ids).logits
    assert float((trained - again).abs().max()) < 1e-3 < 1e-1 < float((trained - base).abs().max())


@pytest.mark.parametrize("init", ["pissa", "loftq"])
def test_an_untrained_adapter_changes_nothing_whatever_it_began_with(small: Path, tmp_path: Path, init: str) -> None:
    learner = model.load(small, changed(quantization="nf4", lora_init=init))
    lora.save(learner, tmp_path / "adapter", "a-base")
    factors = tensors(tmp_path)
    for name in factors:
        if "lora_A" in name:
            assert float((factors[name.replace("lora_A", "lora_B")] @ factors[name]).abs().max()) < 1e-5
    assert json.loads((tmp_path / "adapter/adapter_config.json").read_text())["r"] == 2 * SETTINGS.lora_r


# What is learnt


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


def test_training_learns_and_a_seed_gives_the_same_adapter(tmp_path: Path, small: Path) -> None:
    tokenizer = prompts.load_tokenizer(TINY)
    rows = tiny_math.problems("train", seed=0, num_problems=12)
    worked = [prompts.example(tokenizer, row["question"], row["solution"], "plain") for row in rows]
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


# Resuming


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


# Out of memory, and numbers that are none


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


# What is told, and what is refused


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
