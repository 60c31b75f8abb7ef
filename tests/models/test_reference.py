"""transformers' logits by one block at a time are those of the whole model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.commands import python, run_process
from helpers.models import KINDS, VOCAB, make_adapter, make_model, whole_model_logits

from qrft.errors import ModelError
from qrft.models.find import BUILTIN
from qrft.models.gguf import reference
from qrft.models.gguf.reference import Reference

_NUMBERS = np.random.default_rng(0)
PROMPTS = [_NUMBERS.integers(2, VOCAB, size).tolist() for size in (160, 1, 33, 97)]  # the window of mistral is 100


def check_equal(model: Path, adapter: Path | None) -> None:
    """Rounding alone may differ: 1e-6 of the largest logit."""
    expected, found = whole_model_logits(model, adapter, PROMPTS), list(Reference(model, adapter, PROMPTS).logits())
    assert len(found) == len(expected)
    for left, right in zip(found, expected, strict=True):
        assert left.shape == right.shape and left.dtype == np.float32
        assert np.abs(left - right).max() <= 1e-6 * np.abs(right).max()


@pytest.mark.parametrize("kind", KINDS)
def test_every_architecture_with_an_adapter_and_without(kind: str, tmp_path: Path) -> None:
    """Sharded folders (qwen3), tied heads, biases and a sliding window are among them."""
    model = make_model(tmp_path / "model", kind)
    check_equal(model, None)
    check_equal(model, make_adapter(tmp_path / "adapter", model, use_rslora=kind == "mistral"))


def test_the_tiny_base(tmp_path: Path) -> None:
    check_equal(BUILTIN["tiny-base"], make_adapter(tmp_path / "adapter", BUILTIN["tiny-base"]))


def test_adapters_of_some_layers_ranks_and_the_head(tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", "llama-untied-biases")
    some = {"target_modules": ["q_proj", "v_proj"], "layers_to_transform": [1], "rank_pattern": {"q_proj": 2}}
    check_equal(model, make_adapter(tmp_path / "some", model, **some))
    check_equal(model, make_adapter(tmp_path / "head", model, target_modules=["lm_head", "down_proj"]))


@pytest.mark.parametrize("kind", ["llama-tied", "llama-untied-biases"])
def test_the_head_is_read_in_pieces(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(tmp_path / "model", kind)
    monkeypatch.setattr(reference, "_HEAD_ELEMENTS", 64 * 70)  # 70 of 300 rows: the last piece is shorter
    targets = ["q_proj"] if kind == "llama-tied" else ["q_proj", "lm_head"]
    check_equal(model, make_adapter(tmp_path / "adapter", model, target_modules=targets))


def test_weights_in_bfloat16(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    whole = AutoModelForCausalLM.from_pretrained(make_model(tmp_path / "model"), dtype=torch.bfloat16)
    whole.save_pretrained(tmp_path / "bf16")
    check_equal(tmp_path / "bf16", None)


def test_one_block_is_in_memory_at_a_time(tmp_path: Path) -> None:
    """24 blocks of 16 MB each: the whole model in float32 would be 390 MB."""
    sizes = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 24}
    model = make_model(tmp_path / "model", "qwen2-tied", **sizes)
    code = """if True:
        import resource, sys
        from pathlib import Path
        import accelerate, torch, transformers
        from transformers import Qwen2ForCausalLM
        from qrft.models.gguf.reference import Reference
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        before = peak()
        for logits in Reference(Path(sys.argv[1]), None, [[5, 6, 7]] * 3).logits():
            pass
        print(peak() - before)
    """
    assert int(run_process(python(code, model)).stdout) < 100


def test_a_folder_of_another_model_is_named(tmp_path: Path) -> None:
    model = make_model(tmp_path / "model")
    adapter = make_adapter(tmp_path / "adapter", make_model(tmp_path / "other", "llama-head-dim"))
    with pytest.raises(ModelError, match=r"adapter: .*q_proj.lora_B.weight is \(128, 4\), .* model has \(64, 4\)"):
        Reference(model, adapter, PROMPTS)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(ModelError, match=r"model: model.layers.2.* is no such tensor.*save_pretrained"):
        Reference(model, None, PROMPTS)
    (model / "config.json").write_text(json.dumps({**config, "architectures": ["GPT2LMHeadModel"]}))
    with pytest.raises(ModelError, match=r"GPT2LMHeadModel, only for LlamaForCausalLM.*without the comparison"):
        Reference(model, None, PROMPTS)
