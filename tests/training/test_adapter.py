"""The base in NF4 with its adapter: what is held, what is computed, and what the saved adapter is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.models import make_model
from helpers.trainings import SETTINGS, changed, tensors

from qrft.models import prompts
from qrft.models.find import BUILTIN
from qrft.models.wording import Wording
from qrft.training import lora, model

TINY = BUILTIN["tiny-base"]


def test_a_prompt_has_one_bos_and_is_the_same_in_training_and_sampling() -> None:
    tokenizer = prompts.load_tokenizer(TINY)
    ids, length = prompts.example(tokenizer, "How many?", "#### 3", Wording(prompt="alpaca"))
    assert ids[:length] == prompts.prompt_ids(tokenizer, "How many?", Wording(prompt="alpaca"))
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
