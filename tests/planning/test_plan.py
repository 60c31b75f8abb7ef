"""`qrft plan`, and the estimate of memory behind it: held against the real tensors wherever a CPU can make them."""

from __future__ import annotations

import io
import itertools
import json
import re
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.commands import fails, run_qrft
from helpers.models import make_model, make_tokenizer
from helpers.paths import TINY
from rich.console import Console
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from qrft.cli.actions import show_plan
from qrft.cli.console import Terminal
from qrft.config.load import load
from qrft.config.training import Training
from qrft.errors import ModelError, UsageError
from qrft.models.any_shape import read_shape
from qrft.models.find import BUILTIN
from qrft.models.prompts import Example
from qrft.models.shape import Shape
from qrft.models.wording import PLAIN
from qrft.pipeline import flow
from qrft.pipeline.execute import run_step
from qrft.pipeline.graph import STAGES, Step
from qrft.pipeline.stages import curate
from qrft.pipeline.store import Store
from qrft.planning import basis, devices, sampling, training
from qrft.planning.amounts import Amounts, Lengths
from qrft.planning.basis import Basis, Speed
from qrft.planning.calibrate import calibrate
from qrft.planning.forecast import ESTIMATES, forecast
from qrft.training import loss, memory, precision

ARCHITECTURES = ["llama-tied", "mistral", "qwen2-tied", "qwen3"]
# Llama-2's sizes; LLaMA's 33B
LARGE = {
    "7B": Shape(4096, 11008, 32, 32, 32, 128, 32000, False),
    "13B": Shape(5120, 13824, 40, 40, 40, 128, 32000, False),
    "33B": Shape(6656, 17920, 60, 52, 52, 128, 32000, False),
}
LARGE_SIZES = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "vocab_size": 32000}
QWEN_SIZES = {"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "vocab_size": 151_936} | {
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
}


def settings(**changes: Any) -> Training:
    return Training(**changes)


# ------------------------------------------------------------------------------------- parts that are exact ----


def nbytes(tensors: Any) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def load_nf4(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    nf4 = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True
    )
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, quantization_config=nf4)


@pytest.mark.parametrize("kind", ["llama-untied-biases", *ARCHITECTURES])
def test_nf4_weights_and_their_state_are_counted_to_the_byte(kind: str, tmp_path: Path) -> None:
    folder = make_model(tmp_path, kind)
    shape, model = read_shape(folder), load_nf4(folder)
    assert memory.weights(shape, True, 4) == nbytes(model.parameters())
    states = [p.quant_state for p in model.parameters() if hasattr(p, "quant_state")]
    parts = itertools.chain(*((s.absmax, s.code, s.offset, s.state2.absmax, s.state2.code) for s in states))
    assert memory.quantisation_state(shape) == nbytes(parts)


def add_lora(model: Any, rank: int, targets: Any = "all-linear") -> Any:
    from peft import LoraConfig, get_peft_model

    return get_peft_model(model, LoraConfig(r=rank, target_modules=targets, task_type="CAUSAL_LM"))


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "down_proj"]])
def test_adapter_gradients_and_optimizer_are_counted_to_the_byte(targets: Any, tmp_path: Path) -> None:
    from bitsandbytes.optim import AdamW8bit

    folder = make_model(tmp_path, "qwen2-tied", hidden_size=128)
    config = settings(lora_r=48, target_modules=targets, optimizer="adamw")
    parts = memory.estimate(read_shape(folder), config, on_gpu=False)
    model = add_lora(load_nf4(folder), 48, targets)
    trained = [p for p in model.parameters() if p.requires_grad]
    assert parts["adapter"] == nbytes(trained)
    model(input_ids=torch.arange(8)[None], labels=torch.arange(8)[None]).loss.backward()
    assert parts["gradients"] == nbytes(p.grad for p in trained)

    plain = torch.optim.AdamW(trained)
    plain.step()
    assert parts["optimizer"] == nbytes(t for state in plain.state.values() for t in state.values())

    in_8_bit = AdamW8bit(trained)
    for i, p in enumerate(trained):
        in_8_bit.init_state(in_8_bit.param_groups[0], p, 0, i)
    tensors = {id(t): t for state in in_8_bit.state.values() for t in state.values() if isinstance(t, torch.Tensor)}
    assert memory.optimizer([p.numel() for p in trained], "adamw_8bit") == nbytes(tensors.values())
    assert {t.dtype for t in tensors.values()} == {torch.uint8, torch.float32}


# ---------------------------------------------------------------------------------- parts that are estimated ----


class Peak(TorchDispatchMode):
    """The most bytes that lived at once of the storages that tensor operations made."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.known = {id(t.untyped_storage()) for t in [*model.parameters(), *model.buffers()]}
        self.live: dict[int, int] = {}
        self.most = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = operation(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self.add(tensor.untyped_storage())
        return out

    def add(self, storage: torch.UntypedStorage) -> None:
        if id(storage) not in self.known and id(storage) not in self.live:
            self.live[id(storage)] = storage.nbytes()
            weakref.finalize(storage, self.live.pop, id(storage))
            self.most = max(self.most, sum(self.live.values()))


def measured_peak(folder: Path, config: Training, num_examples: int, length: int) -> int:
    """Bytes beside parameters and gradients in a forward and backward pass over a packed row, by qrft's own parts."""
    from qrft.training import attention, loss, packing
    from qrft.training.model import load

    attention.register()
    model = load(folder, config, attention.PER_EXAMPLE)
    model.train()
    loss.install(model)
    ids = torch.randint(2, 290, (num_examples, length), generator=torch.Generator().manual_seed(0)).tolist()
    pack = packing.collate([Example(row, length // 3) for row in ids])
    for parameter in model.parameters():  # as in every micro-batch but a step's first
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    with Peak(model) as peak:
        peak.known |= {id(gradient.untyped_storage()) for gradient in gradients}
        with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bfloat16"):
            total = loss.completion_loss(model, pack)
        total.backward()
    return peak.most


@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_activations_are_estimated_within_a_tenth(kind: str, checkpointing: bool, tmp_path: Path) -> None:
    check_estimate(tmp_path, kind, settings(gradient_checkpointing=checkpointing, lora_r=8))


@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize("adapter", ["lora", "none"])
def test_and_so_they_are_in_mixed_precision(adapter: str, checkpointing: bool, tmp_path: Path) -> None:
    kinds: dict[str, dict[str, Any]] = {"lora": {"lora_r": 8}, "none": {"adapter": "none", "quantization": "none"}}
    config = settings(gradient_checkpointing=checkpointing, precision="bfloat16", **kinds[adapter])
    check_estimate(tmp_path, "llama-tied", config)


def check_estimate(tmp_path: Path, kind: str, config: Training) -> None:
    folder = make_model(
        tmp_path, kind, hidden_size=128, intermediate_size=384, num_hidden_layers=8, max_position_embeddings=512
    )
    measured = measured_peak(folder, config, num_examples=4, length=100)
    for on_gpu in (False, True):
        chosen = config if config.precision == "bfloat16" else config.model_copy(update={"precision": "float32"})
        parts = memory.estimate(read_shape(folder), chosen, tokens=400, on_gpu=on_gpu)
        assert parts["activations"] + parts["logits"] == pytest.approx(measured, rel=0.1)


@pytest.mark.parametrize(("on_gpu", "precision"), [(False, "float32"), (True, "float32"), (False, "bfloat16")])
@pytest.mark.parametrize("chunk", [2**20, 2**22])
def test_and_so_are_the_logits_of_a_chunk(
    chunk: int, on_gpu: bool, precision: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 20,000 x 267 logits. A device has its own chunks; they are measured here as the processor's."""
    folder = make_model(tmp_path, "llama-tied", vocab_size=20_000, hidden_size=128, num_hidden_layers=4)
    config = settings(gradient_checkpointing=True, lora_r=8, precision=precision)
    monkeypatch.setattr(loss, "CHUNK_ELEMENTS", {"cpu": chunk})
    measured = measured_peak(folder, config, num_examples=4, length=100)
    monkeypatch.setattr(memory, "CHUNK_ELEMENTS", {"cuda" if on_gpu else "cpu": chunk})
    parts = memory.estimate(read_shape(folder), config, tokens=400, on_gpu=on_gpu)
    assert parts["activations"] + parts["logits"] == pytest.approx(measured, rel=0.1)
    assert parts["logits"] > 0.7 * measured


# ---------------------------------------------------------------------------------------------------------- fit ----


def test_fitting_here_counts_the_context_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that asks for the free memory has CUDA's context by then. The plan asks before there is one."""
    shape, folder = LARGE["7B"], tmp_path
    config = settings(vram="auto", lora_r=64)
    chosen = memory.fit(config, shape, 8 * memory.GIB)
    parts = memory.estimate(shape, chosen)
    before = sum(parts.values()) + memory.error(parts)  # just enough
    monkeypatch.setattr(memory, "read_shape", lambda _: shape)
    monkeypatch.setattr(memory, "has_bfloat16", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (before - memory.CUDA_CONTEXT, 8 * memory.GIB))
    assert memory.fit_here(config, folder) == memory.fit(config, shape, before) == chosen


@pytest.mark.parametrize(("name", "gib", "rank"), [("7B", 8, 64), ("13B", 12, 64), ("33B", 24, 64), ("33B", 24, 16)])
def test_the_large_ones_fit_the_cards_they_are_meant_for(name: str, gib: int, rank: int) -> None:
    """At 512 tokens, LoRA of this rank on all linear layers."""
    config = settings(vram=gib, lora_r=rank, sequence_len=512, micro_batch_size=16)
    chosen = memory.fit(config, LARGE[name], 200 * memory.GIB)
    parts = memory.estimate(LARGE[name], chosen)
    assert sum(parts.values()) + memory.error(parts) <= gib * memory.GIB
    assert chosen.micro_batch_size * chosen.gradient_accumulation_steps == 16
    assert chosen.gradient_checkpointing is True
    assert chosen.optimizer == ("adamw" if (name, rank) == ("33B", 16) else "paged_adamw_8bit")
    assert {k for k, value in config if value != getattr(chosen, k)} <= {
        "micro_batch_size",
        "gradient_accumulation_steps",
        "gradient_checkpointing",
        "optimizer",
        "precision",
    }


@pytest.mark.parametrize("vram", [None, "auto"])
def test_the_faster_optimizer_is_taken_where_it_fits(vram: Any) -> None:
    """With a micro-batch and checkpointing that stay; of a 7B model with rank 64 it takes 1 GB more."""
    config = settings(vram=vram, lora_r=64, gradient_checkpointing=True, micro_batch_size=1)
    plain, paged = (memory.estimate(LARGE["7B"], config.model_copy(update={"optimizer": o})) for o in memory.AUTOMATIC)
    needed = [sum(parts.values()) + memory.error(parts) for parts in (plain, paged)]
    assert plain["optimizer"] > 3.9 * paged["optimizer"] > 1e9
    for free, optimizer in ((needed[0], "adamw"), (needed[0] - 1, "paged_adamw_8bit"), (needed[1], "paged_adamw_8bit")):
        assert memory.fit(config, LARGE["7B"], free).optimizer == optimizer
    named = config.model_copy(update={"optimizer": "adamw_8bit"})
    assert memory.fit(named, LARGE["7B"], needed[0]).optimizer == "adamw_8bit"


def test_a_plan_names_the_optimizer_that_will_be_chosen(tmp_path: Path) -> None:
    for gib, optimizer in ((24, "adamw"), (0.4, "paged_adamw_8bit")):
        steps = json.loads(plan(tmp_path, "--gpu", f"{gib}GiB", "--json"))["steps"]
        notes = [note for step in steps if step["stage"] == "train" for note in step["notes"]]
        assert notes and all(f", {optimizer}, " in note for note in notes)


def test_more_memory_is_used() -> None:
    config = settings(vram="auto", micro_batch_size=4, gradient_accumulation_steps=4)
    chosen = [memory.fit(config, LARGE["7B"], gib * memory.GIB) for gib in (6.5, 10, 80)]
    sizes = [c.micro_batch_size for c in chosen]
    assert sizes[0] < sizes[1] and [c.gradient_checkpointing for c in chosen] == [True, True, False]


def test_what_does_not_fit_is_refused_with_its_parts_and_a_way_out() -> None:
    with pytest.raises(ModelError) as error:
        memory.fit(settings(vram=8), LARGE["13B"], 24 * memory.GIB)
    message = str(error.value)
    assert "train.vram: found 8, 8.00 GiB to use" in message and "weights 6.52 GiB" in message
    assert "train.lora_r" in message or "base_model" in message


def test_without_vram_the_settings_stay_and_nothing_is_refused() -> None:
    chosen = memory.fit(settings(micro_batch_size=64), LARGE["33B"], memory.GIB)
    assert chosen.micro_batch_size == 64 and chosen.gradient_checkpointing is True
    kept = memory.fit(settings(gradient_checkpointing=False), LARGE["33B"], memory.GIB)
    assert kept.gradient_checkpointing is False


def test_vram_changes_how_a_step_is_done_and_not_what_it_learns(tmp_path: Path) -> None:
    """On the processor it is main memory that is filled."""
    from qrft.data.training_rows import Row
    from qrft.training.finetune import finetune

    rows = [Row(str(i), f"What is {i} + {i}?", f"#### {i + i}") for i in range(24)]
    config = settings(micro_batch_size=2, gradient_accumulation_steps=4, num_epochs=2.0)
    facts = {}
    for vram in (None, 8):
        folder = tmp_path / str(vram)
        chosen = config.model_copy(update={"vram": vram})
        facts[vram] = finetune(
            BUILTIN["tiny-base"], rows, chosen, folder, folder / "p", lambda done, total, note: None, num_threads=1
        )
    assert facts[8]["row_tokens"] == 4 * facts[None]["row_tokens"]
    losses = [[row["loss"] for row in fact["losses"]] for fact in facts.values()]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4) and len(losses[0]) == 6


# --------------------------------------------------------------------------------------------------------- plan ----


def plan(tmp_path: Path, *options: str) -> str:
    return run_qrft("plan", TINY, "-o", tmp_path / "runs", *options).stdout


@pytest.mark.parametrize("width", [80, 120])
def test_a_plan_fits_the_terminal(width: int, tmp_path: Path) -> None:
    out = io.StringIO()
    terminal = Terminal(Console(width=width, highlight=False, file=out))
    show_plan(str(TINY), [], tmp_path, terminal, gpu="RTX 3090", price=(0.3, False))
    text = out.getvalue()
    lines = text.splitlines()
    assert max(len(line.rstrip()) for line in lines) <= width
    names = [step.path for step in flow.plan(load(TINY), BUILTIN["tiny-base"])]
    assert [line.split()[0] for line in lines[1 : 1 + len(names)]] == names  # whole, a line each
    for word in ("weights", "quantisation state", "activations", "cache", "overhead", "kWh", "Cost", "RTX 3090"):
        assert word in text


def test_a_plan_in_json_adds_up(tmp_path: Path) -> None:
    found = json.loads(plan(tmp_path, "--gpu", "RTX 3090", "--price", "2/h", "--watts", "100", "--json"))
    steps = {step["step"]: step for step in found["steps"]}
    train = steps["sft/train"]
    assert train["memory_bytes"] == sum(train["memory_by_part"].values()) and not train["is_there"]
    assert found["seconds"] == pytest.approx(sum(step["seconds"] for step in found["steps"]))
    assert found["cost"] == pytest.approx(2 * found["seconds"] / 3600)
    assert found["kwh"] == pytest.approx(100 * found["seconds"] / 3.6e6)
    # 300 problems x 24 epochs, and of each problem 30 samples
    assert steps["round-1/samples"]["tokens"] / 9000 == pytest.approx(train["tokens"] / 7200, rel=0.6)


def test_a_plan_counts_steps_in_place_of_epochs(tmp_path: Path) -> None:
    steps = {
        step["step"]: step for step in json.loads(plan(tmp_path, "--set", "train.num_steps=50", "--json"))["steps"]
    }
    epochs = {step["step"]: step for step in json.loads(plan(tmp_path, "--json"))["steps"]}
    assert steps["sft/train"]["tokens"] / 50 == pytest.approx(epochs["sft/train"]["tokens"] / (24 * 300 / 16), rel=0.01)
    assert steps["rft/train"]["tokens"] == pytest.approx(steps["sft/train"]["tokens"], rel=0.2)


def test_a_plan_counts_what_training_would_count(tmp_path: Path) -> None:
    from qrft.models import prompts

    step = next(s for s in flow.plan(load(TINY), BUILTIN["tiny-base"]) if s.path == "sft/train")
    amounts = Amounts(Store(tmp_path))
    lengths = amounts.lengths(step.inputs["training"], BUILTIN["tiny-base"], PLAIN)  # type: ignore[arg-type]
    rows = amounts.examples(step.inputs["training"]).to_pylist()  # type: ignore[arg-type]
    tokenizer = prompts.load_tokenizer(BUILTIN["tiny-base"])
    tokens = [len(prompts.example(tokenizer, r["question"], r["completion"], PLAIN).token_ids) for r in rows]
    assert lengths.count * lengths.mean_total == pytest.approx(sum(tokens)) and len(rows) == 300


def test_a_plan_counts_a_merged_file_where_a_gpu_makes_one(tmp_path: Path) -> None:
    def found(*options: str) -> tuple[int, int]:
        steps = {step["step"]: step for step in json.loads(plan(tmp_path, "--json", *options))["steps"]}
        return steps["sft/gguf"]["disk_bytes"], steps["sft/test-samples"]["memory_by_part"]["adapter"]

    base, adapter = 3_867_136, 4 * 327_680  # the tiny base in f16, and its adapter's numbers in float32
    there = "--gpu", "RTX 3090"
    assert found() == found(*there, "--set", "gguf.merge=false") == (adapter, adapter)
    assert found(*there) == found("--set", "gguf.merge=true") == (base, 0)


def test_what_is_there_is_not_to_do(tmp_path: Path) -> None:
    recipe, store = load(TINY), Store(tmp_path / "runs" / "store")
    steps = flow.plan(recipe, BUILTIN["tiny-base"])
    done: dict[str, Path] = {}
    for step in steps[:2]:
        run_step(step, step.path, store, done, recipe.num_threads, Terminal(Console(quiet=True)))
    found = json.loads(plan(tmp_path, "--json"))
    assert [step["is_there"] for step in found["steps"]] == [True, True] + [False] * (len(steps) - 2)


def test_a_plan_says_what_does_not_fit(tmp_path: Path) -> None:
    shown = plan(tmp_path, "--gpu", "0.4GiB")
    assert re.search(
        r"sft/train, rft/train: .* needed, give or take .* GiB, 0\.40 GiB available\. Use a smaller train",
        " ".join(shown.split()),
    )
    assert "Time: unknown, because no speed of this GPU is known." in " ".join(shown.split())
    fitted = " ".join(plan(tmp_path, "--gpu", "0.4GiB", "--set", "train.vram=8").split())
    assert "paged_adamw_8bit, activations computed again" in fitted
    alone = " ".join(plan(tmp_path, "--gpu", "0.4GiB", "--set", "sample.num_sequences=1").split())
    assert "Use gguf.quant q4_k_m, or a smaller base_model." in alone and "smaller sample.num_sequences" not in alone


def config_alone(folder: Path, **sizes: Any) -> Path:
    """A folder of a model without its weights, which a plan does not read."""
    from transformers import LlamaConfig

    heads = dict(num_attention_heads=sizes["hidden_size"] // 128, max_position_embeddings=4096)
    LlamaConfig(**sizes, **heads, architectures=["LlamaForCausalLM"]).save_pretrained(folder)
    make_tokenizer(folder)
    return folder


def test_an_export_that_main_memory_does_not_hold_is_told(tmp_path: Path) -> None:
    """A 7B model is compared with one block of it in float32; on a processor llama.cpp has its whole file there too."""
    model = config_alone(tmp_path / "7B", **LARGE_SIZES)

    def found(*options: str) -> tuple[str, float]:
        sets = ["--set", f"base_model={model}", "--set", "gguf.quant=q8_0"]
        steps = json.loads(plan(tmp_path, "--json", *sets, *options))["steps"]
        export = next(step for step in steps if step["step"] == "base/gguf")
        return " ".join(export["faults"]), export["memory_bytes"] / memory.GIB

    card = "--gpu", "RTX 3090", "--ram"
    fault, needed = found(*card, "1")
    assert 1 < needed < 3 and re.search(r"needed, give or take .*, 1\.00 GiB of main memory available\. Use ", fault)
    assert found(*card, "16")[0] == ""
    shown = " ".join(plan(tmp_path, *card, "1", "--set", f"base_model={model}").split())
    assert "Does not fit: base/gguf, sft/gguf, rft/gguf:" in shown and "1.0 GiB of main memory. Time" in shown
    unchecked = found(*card, "1", "--set", "gguf.parity=off")[1]
    assert unchecked < needed


def test_a_plan_leaves_room_for_its_own_error(tmp_path: Path) -> None:
    """Whatever the size, what is said to fit does with the error; and the sequences grow fewer where room is short."""
    live = set()
    for gib in (0.45, 0.5, 0.6, 0.8, 1.6):
        options = ["--gpu", f"{gib}GiB", "--set", "train.vram=8", "--json"]
        for step in json.loads(plan(tmp_path, *options))["steps"]:
            if step["stage"] in ("train", "sample"):
                fits = step["memory_bytes"] + step["memory_error_bytes"] <= gib * memory.GIB
                assert fits == (not step["faults"]), step
                live |= {note for note in step["notes"] if "sequences" in note}
    assert len(live) > 1


def test_a_plan_counts_the_examples_of_a_prompt(tmp_path: Path) -> None:
    """Of 8 examples some 90 tokens each; more than the base reads at once are told."""
    found = json.loads(plan(tmp_path, "--gpu", "24GiB", "--set", "evaluate.few_shot=[0, 1, 8, 60]", "--json"))
    steps = {step["step"]: step for step in found["steps"]}
    caches = [steps[f"base/test{shots}-samples"]["memory_by_part"]["cache"] for shots in ("", "-1-shot", "-8-shot")]
    assert caches[0] < caches[1] and caches[2] - caches[0] > 5 * (caches[1] - caches[0])
    limit = json.loads((BUILTIN["tiny-base"] / "config.json").read_text())["max_position_embeddings"]
    assert not steps["base/test-samples"]["faults"]
    assert re.match(
        rf"needs up to [\d,]+ tokens, but the model's context is {limit:,}\.",
        steps["base/test-60-shot-samples"]["faults"][0],
    )


def test_a_processor_with_amx_is_faster_with_wide_models_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "pays", lambda width: width > 500)
    speeds = {}
    for width, has_amx in itertools.product((128, 576), (False, True)):
        shape = Shape(width, 3 * width, 8, 8, 8, width // 8, 32000, False)
        device = devices.Device("a processor", 2**35, 1e12, 1e11, is_gpu=False, has_bfloat16=has_amx)
        start = Basis(Amounts(Store(tmp_path)), device)
        speeds[width, has_amx] = training.seconds(start, shape, settings(), Lengths((1,), (200,), 1000), 10**7)
        note = training.in_words(settings(), shape, start)
        assert ("bfloat16" in note) == (has_amx and width == 576) and ("float32" in note) != ("bfloat16" in note)
    assert speeds[128, True] == speeds[128, False]
    assert speeds[576, False] > 1.3 * speeds[576, True]


def test_every_stage_has_an_estimate() -> None:
    assert ESTIMATES.keys() == STAGES.keys()


def test_a_stage_without_an_estimate_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STAGES, "invented", STAGES["curate"])
    step = Step("invented", curate.Settings(), {}, kind="inventions", phase="sft")
    with pytest.raises(LookupError) as error:
        forecast([step], Store(tmp_path), devices.find("24GiB"))
    assert str(error.value).startswith(
        "sft/inventions: the stage 'invented' has no estimate in qrft.planning.forecast.ESTIMATES. Add one; there are "
    )


def test_a_small_cost_is_not_shown_as_none(tmp_path: Path) -> None:
    assert re.search(r"Cost: 0\.00\d, 0\.000?\d to 0\.\d+", plan(tmp_path, "--gpu", "RTX 3090", "--price", "0.30"))


def test_a_gpu_is_found_by_name_or_refused_with_the_names() -> None:
    assert devices.find("rtx 3090").name == devices.find("3090").name == "RTX 3090"
    assert devices.find("24GiB").memory == devices.find("24").memory == 24 * memory.GIB
    assert devices.find("4060 ti").name == "RTX 4060 Ti"
    with pytest.raises(UsageError, match="Expected one of A100 40GB, A100 80GB"):
        devices.find("A100")
    with pytest.raises(UsageError, match=r"Expected RTX 3060, .* or memory such as 24GiB"):
        devices.find("RTX 1080")


def test_a_driver_name_finds_its_speed() -> None:
    found = devices._described("NVIDIA GeForce RTX 4060 Ti", " 15900")
    assert found.bandwidth == 288e9 and found.memory == 15900 * 2**20
    assert devices._described("NVIDIA A100-SXM4-80GB", "81000").bandwidth == 2039e9
    assert devices._described("NVIDIA Something", "1000").flops is None


def decode_seconds(tmp_path: Path, *sets: str) -> float:
    """The plan's seconds for one token of each live sequence, of a sampling by SFT's model on an RTX 4090."""
    model = config_alone(tmp_path / "1.5B", **QWEN_SIZES)
    steps = flow.plan(load(TINY, [f"base_model={model}", *sets]), model)
    step = next(step for step in steps if step.path == "sft/test-samples")
    start = Basis(Amounts(Store(tmp_path)), devices.find("RTX 4090"))
    live = sampling.live_sequences(step, start)
    return sampling.step_seconds(step, start, live * 300, live)


def test_picking_copying_and_an_adapter_cost_time_on_a_gpu(tmp_path: Path) -> None:
    """64 sequences of 152,000 tokens. A 4090 should take 5.5 ms to decode, 3 to 4 for the adapter, 1.6 to copy."""
    merged, applied = (decode_seconds(tmp_path, f"gguf.merge={merge}") for merge in ("true", "false"))
    assert 0.002 < applied - merged < 0.005
    assert 0.008 < merged < 0.020
    one = decode_seconds(tmp_path, "sample.num_sequences=1")
    assert merged - one > 0.003  # the logits of 63 more, and little else


def test_picking_beside_decoding_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In two contexts, which begin at 128 sequences."""
    seconds = {}
    for live, cost in itertools.product((100, 128), (0.0, 1e-10)):
        monkeypatch.setattr(sampling, "PICK_SECONDS", cost)
        seconds[live, cost] = decode_seconds(tmp_path, f"sample.num_sequences={live}")
    assert seconds[128, 0.0] == seconds[128, 1e-10] and seconds[100, 0.0] < seconds[100, 1e-10]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--gpu", "0"], "found '0'"),
        (["--gpu", "zx81"], "zx81"),
        (["--price", "dear"], "1.10/h"),
        (["--gpu", "24", "--calibrate"], "one of the two"),
    ],
)
def test_a_wrong_question_is_refused(option: list[str], message: str) -> None:
    assert message in fails(2, "plan", TINY, *option)


LLAMA_3_8B = Shape(4096, 14336, 32, 32, 8, 128, 128256, False)


@pytest.mark.parametrize(
    ("gpu", "shape", "tokens_per_second"),
    # torchtune's README; LLaMA-Factory's wiki, with and without Unsloth
    [("RTX 4090", LLAMA_3_8B, 2413), ("A100 40GB", LARGE["7B"], 2415), ("A100 40GB", LARGE["7B"], 3726)],
)
def test_published_speeds_of_qlora_lie_within_the_band(
    gpu: str, shape: Shape, tokens_per_second: float, tmp_path: Path
) -> None:
    lengths = Lengths((1,), (512,), 1000)
    config = settings(micro_batch_size=8, lora_r=16)
    seconds = training.seconds(Basis(Amounts(Store(tmp_path)), devices.find(gpu)), shape, config, lengths, 512_000)
    assert seconds is not None
    assert 1 / basis.BAND < seconds / (512_000 / tokens_per_second) < basis.BAND


@pytest.fixture(scope="module")
def calibrated() -> Iterator[tuple[Basis, list[Step], Speed]]:
    recipe = load(TINY, ["train.micro_batch_size=4", "sample.num_sequences=4"])
    steps = flow.plan(recipe, BUILTIN["tiny-base"])
    start = Basis(Amounts(Store(Path("/nonexistent"))), devices.here())
    yield start, steps, calibrate(steps, start, 1, lambda done, total, note: None)


def test_calibration_corrects_time_and_memory(
    calibrated: tuple[Basis, list[Step], Speed],
) -> None:
    start, steps, speed = calibrated
    device = start.device
    before, after = (forecast(steps, Store(Path("/nonexistent")), device, s) for s in (None, speed))
    rows = {row.name: (row, other) for row, other in zip(before.rows, after.rows, strict=True)}
    old, new = rows["sft/train"]
    assert new.seconds == pytest.approx(old.seconds * speed.train)  # type: ignore[operator]
    assert new.memory == max(old.memory + speed.train_bytes, old.memory - old.parts["overhead"])
    old, new = rows["round-1/samples"]
    assert new.seconds == pytest.approx(old.seconds * speed.decode)  # type: ignore[operator]
    assert speed.is_measured and after.speed.band < before.speed.band
    assert 0.001 < speed.train < 100 and 0.001 < speed.decode < 100  # a machine that does other work too is slow
