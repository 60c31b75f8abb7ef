"""GGUF export: llama.cpp computes what transformers computes, and what it can't is refused by name."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import KINDS, VOCAB, make_adapter, make_model

from qrft.errors import ModelError
from qrft.gguf.adapter import check_exportable, export_adapter
from qrft.gguf.base import export_base
from qrft.gguf.parity import check_parity
from qrft.sampling.messages import Request, SamplingParams
from qrft.sampling.process import LlamaProcess

PROMPTS = [[0, *range(5, 60)], [0, 7, 250, 289, 3]]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


# ---------------------------------------------------------------------------------------------------- parity


@pytest.mark.parametrize("kind", KINDS)
def test_every_architecture_gives_the_same_logits(kind: str, tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", kind)
    adapter = make_adapter(tmp_path / "adapter", model, use_rslora=kind == "mistral")
    base, lora, merged = tmp_path / "base.gguf", tmp_path / "lora.gguf", tmp_path / "merged.gguf"
    export_base(model, base)
    export_adapter(adapter, model, lora)
    export_base(model, merged, adapter_dir=adapter)

    plain = check_parity(model, base, None, None, PROMPTS, tolerance=1e-3, n_threads=1)
    assert plain["num_prompts"] == 2 and plain["num_positions"] == 61 and plain["top1_agreement"] > 0.98
    check_parity(model, base, adapter, lora, PROMPTS, tolerance=1e-3, n_threads=1)
    check_parity(model, merged, adapter, None, PROMPTS, tolerance=1e-3, n_threads=1)
    # Control: the adapter matters, so the comparisons above could have failed.
    with pytest.raises(ModelError, match=r"prompt 0, position \d+.*Export the base"):
        check_parity(model, base, adapter, None, PROMPTS, n_threads=1)


def test_rank_pattern_and_lm_head(tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", "llama-untied-biases")
    adapter = make_adapter(
        tmp_path / "adapter", model, rank_pattern={"q_proj": 2}, target_modules=["q_proj", "v_proj", "lm_head"]
    )
    export_base(model, tmp_path / "base.gguf")
    export_adapter(adapter, model, tmp_path / "lora.gguf")
    check_parity(model, tmp_path / "base.gguf", adapter, tmp_path / "lora.gguf", PROMPTS, tolerance=1e-3, n_threads=1)


def test_half_precision_is_half_the_size_and_close(model_dir: Path, tmp_path: Path) -> None:
    export_base(model_dir, tmp_path / "f32.gguf")
    export_base(model_dir, tmp_path / "f16.gguf", "f16")
    report = check_parity(model_dir, tmp_path / "f16.gguf", None, None, PROMPTS, tolerance=0.2, n_threads=1)
    assert report["max_logit_difference"] > 1e-4
    assert (tmp_path / "f16.gguf").stat().st_size < 0.65 * (tmp_path / "f32.gguf").stat().st_size


def test_bfloat16_weights_are_read(model_dir: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.bfloat16).save_pretrained(tmp_path / "bf16")
    export_base(tmp_path / "bf16", tmp_path / "base.gguf")
    check_parity(tmp_path / "bf16", tmp_path / "base.gguf", None, None, PROMPTS, tolerance=1e-3, n_threads=1)


@pytest.mark.parametrize("kind", ["llama-tied", "qwen3"])
def test_greedy_text_equals_transformers(kind: str, tmp_path: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model_dir = make_model(tmp_path / "model", kind)
    adapter = make_adapter(tmp_path / "adapter", model_dir)
    export_base(model_dir, tmp_path / "base.gguf")
    export_adapter(adapter, model_dir, tmp_path / "lora.gguf")
    rng = np.random.default_rng(0)
    prompts = [[0, *rng.integers(2, VOCAB, size).tolist()] for size in range(3, 15)]
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model_dir), str(adapter)).eval()
    settings = dict(do_sample=False, max_new_tokens=24, eos_token_id=1, pad_token_id=1)
    expected = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        expected.append(model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **settings)[0].tolist())

    requests = [Request(str(i), prompt) for i, prompt in enumerate(prompts)]
    params = SamplingParams(temperature=0, max_new_tokens=24)
    with LlamaProcess(tmp_path / "base.gguf", tmp_path / "lora.gguf", n_threads=1, cache_type="f32") as process:
        samples = {sample.problem_id: sample.token_ids for sample in process.generate(requests, params, [1])}
    assert [prompt + samples[str(i)] for i, prompt in enumerate(prompts)] == expected


# ------------------------------------------------------------------------------------------------ vocabulary


def tokenize(path: Path, text: str) -> list[int]:
    """By llama.cpp, in a process of its own: importing it leaves files open, and warnings are errors here."""
    code = (
        "import sys, json, llama_cpp;"
        "model = llama_cpp.Llama(sys.argv[1], vocab_only=True, verbose=False);"
        "print(json.dumps(model.tokenize(sys.argv[2].encode(), add_bos=False)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path), text], capture_output=True, text=True, check=True)
    return list(json.loads(done.stdout))


TEXT = "Tom has 3 apples: <<3+4=7>>7, said Jörg.\n#### 7"


def test_the_vocabulary_of_byte_level_bpe_tokenizes_alike(model_dir: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    export_base(model_dir, tmp_path / "base.gguf")
    assert tokenize(tmp_path / "base.gguf", TEXT) == AutoTokenizer.from_pretrained(model_dir)(TEXT).input_ids


def test_the_vocabulary_of_sentencepiece_bpe_tokenizes_alike(model_dir: Path, tmp_path: Path) -> None:
    """Llama 2's and Mistral's kind: a space is U+2581, unknown bytes are tokens of their own."""
    from tokenizers import Tokenizer, decoders, models, normalizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.ByteFallback()
    special = ["<s>", "</s>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=VOCAB, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(["Tom has 3 apples and has 4 apples."] * 9, trainer)
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = content["added_tokens"][:3]  # the trainer makes bytes special, the real ones are not
    folder = tmp_path / "model"
    shutil.copytree(model_dir, folder)
    (folder / "tokenizer.json").write_text(json.dumps(content))

    export_base(folder, tmp_path / "base.gguf")
    assert (
        tokenize(tmp_path / "base.gguf", TEXT) == Tokenizer.from_file(str(folder / "tokenizer.json")).encode(TEXT).ids
    )


def test_a_folder_without_tokenizer_samples_too(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model")
    (folder / "tokenizer.json").unlink()
    export_base(folder, tmp_path / "base.gguf")
    check_parity(folder, tmp_path / "base.gguf", None, None, PROMPTS, n_threads=1)


# -------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "all"}, "bias"),
        ({"peft_type": "IA3"}, "peft_type"),
        ({"alpha_pattern": {"q_proj": 3}}, "alpha_pattern"),
        ({"use_rslora": True, "rank_pattern": {"q_proj": 3}}, "rank_pattern"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"target_modules": ["q_proj", "embed_tokens"]}, "target_modules"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights"),
        ({"lora_alpha": 0}, "lora_alpha"),
    ],
)
def test_adapters_that_a_gguf_cannot_hold_are_refused(config: dict[str, Any], key: str) -> None:
    with pytest.raises(ModelError, match=f"{key} = .*Train the adapter without it"):
        check_exportable({"peft_type": "LORA", "lora_alpha": 8, **config})


def test_ordinary_adapters_are_exportable() -> None:
    check_exportable({"r": 8, "lora_alpha": 8, "use_rslora": True, "target_modules": "all-linear"})
    check_exportable({"r": 8, "rank_pattern": {"q_proj": 4}, "init_lora_weights": "gaussian", "bias": "none"})


def test_an_adapter_is_checked_against_its_base(model_dir: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", model_dir)
    other = make_model(tmp_path / "other", "llama-head-dim")
    with pytest.raises(
        ModelError, match=r"o_proj.*for \(64, 64\), .* has \(64, 128\).*base model that the adapter was trained on"
    ):
        export_adapter(adapter, other, tmp_path / "lora.gguf")
    edit_json(adapter / "adapter_config.json", use_dora=True)
    with pytest.raises(ModelError, match=r"adapter_config.json: use_dora"):
        export_adapter(adapter, model_dir, tmp_path / "lora.gguf")
    assert not list(tmp_path.glob("*.gguf*"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "GPT2LMHeadModel is not supported, only LlamaForCausalLM, Mistral"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}, "rope_type = 'dynamic'"),
        ({"hidden_act": "gelu"}, "hidden_act = 'gelu'"),
        ({"vocab_size": 999}, r"embed_tokens.weight is \(300, 64\), config.json asks for \(999, 64\)"),
        ({"num_hidden_layers": 1}, "unknown in llama models of 1 layers"),
    ],
)
def test_models_that_llama_cpp_would_compute_differently(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model")
    edit_json(folder / "config.json", **changes)
    with pytest.raises(ModelError, match=message):
        export_base(folder, tmp_path / "base.gguf")
    assert not list(tmp_path.glob("*.gguf*"))


def test_broken_folders(model_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "base.gguf"
    with pytest.raises(ModelError, match=r"config.json: not found.*check the path"):
        export_base(tmp_path / "nothing", out)
    folder = make_model(tmp_path / "model")
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    for broken, message in [
        (whole[:-1000], "cut short"),
        (whole[:5], "too short for its header"),
        (b"\x08" + bytes(7) + b"no json!", "not a safetensors file"),
    ]:
        weights.write_bytes(broken)
        with pytest.raises(ModelError, match=message):
            export_base(folder, out)
    weights.unlink()
    with pytest.raises(ModelError, match=r"model.safetensors: not found.*save_pretrained"):
        export_base(folder, out)
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config.json: not JSON"):
        export_base(folder, out)
    assert not list(tmp_path.glob("*.gguf*"))


def test_a_sliding_window_limits_the_context(tmp_path: Path) -> None:
    export_base(make_model(tmp_path / "model", "mistral"), tmp_path / "base.gguf")
    with LlamaProcess(tmp_path / "base.gguf", n_threads=1) as process:
        assert process.n_ctx_train == 100  # config.json says 256 positions and a window of 100
