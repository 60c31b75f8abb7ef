"""The parity check judges the files in exact arithmetic, and then the arithmetic of sampling, each by its own bound."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.gpus import LentGpu, lent_gpu
from helpers.models import make_adapter, make_model, whole_model_logits

from qrft.errors import ModelError
from qrft.models.gguf import base, bfloat16
from qrft.models.gguf.adapter import export_adapter
from qrft.models.gguf.base import export_base
from qrft.models.gguf.header import read_header
from qrft.models.gguf.parity import SAMPLING_BOUND, check_parity
from qrft.models.gguf.quant import Quant
from qrft.sampling.backends.llama_cpp.process import LlamaProcess

PROMPTS = [[0, *range(5, 60)], [0, 7, 250, 289, 3]]
QUANTS = ["f32", *(pytest.param(quant, marks=pytest.mark.slow) for quant in ("f16", "bf16")), "q8_0"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("quant", QUANTS)
def test_sound_files_pass_and_wrong_ones_are_refused(
    quant: Quant, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = make_adapter(tmp_path / "adapter", model)
    sound, lora = tmp_path / "sound.gguf", tmp_path / "lora.gguf"
    export_base(model, sound, quant, n_threads=1)
    export_adapter(adapter, model, lora)
    parity = check_parity(model, sound, adapter, lora, PROMPTS, n_threads=1)
    assert 0 < parity["sampling_kl"] < SAMPLING_BOUND / 10

    turned, swapped = tmp_path / "turned.gguf", tmp_path / "swapped.gguf"
    copy = shutil.copytree(model, tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    config["rope_parameters"]["rope_theta"] *= 3
    (copy / "config.json").write_text(json.dumps(config))
    export_base(copy, turned, quant, n_threads=1)
    monkeypatch.setattr(base, "to_ggml_layout", lambda model, name, rows: rows)
    export_base(model, swapped, quant, n_threads=1)
    for wrong in ((turned, adapter, lora), (swapped, adapter, lora), (sound, adapter, None), (sound, None, lora)):
        with pytest.raises(ModelError, match=r"llama.cpp and transformers disagree"):
            check_parity(model, *wrong, PROMPTS, n_threads=1)


def test_bf16_holds_a_bf16_base_exactly_and_weights_too_large_for_f16(model: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    whole = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16)
    with torch.no_grad():
        whole.model.layers[0].mlp.up_proj.weight[3, 5] = 1e6
        whole.model.layers[0].mlp.down_proj.weight[:, 3] /= 1e6
    whole.save_pretrained(tmp_path / "bf16")
    with pytest.raises(ModelError, match=r"up_proj.weight holds values too large for f16. Set gguf.quant bf16 or f32"):
        export_base(tmp_path / "bf16", tmp_path / "base.gguf", "f16")
    export_base(tmp_path / "bf16", tmp_path / "base.gguf", "bf16")
    check_parity(tmp_path / "bf16", tmp_path / "base.gguf", None, None, PROMPTS, n_threads=1)
    header, data = read_header(tmp_path / "base.gguf"), (tmp_path / "base.gguf").read_bytes()
    assert header.precision == "bf16"
    weights = load_file(tmp_path / "bf16" / "model.safetensors")
    for name in (
        "model.embed_tokens.weight",
        "model.layers.0.mlp.up_proj.weight",
        "model.layers.1.mlp.down_proj.weight",
    ):
        assert weights[name].dtype == torch.bfloat16
        assert weights[name].view(torch.int16).numpy().tobytes() in data


def test_float32_weights_are_rounded_to_bf16_as_torch_does() -> None:
    import torch

    bits = np.random.default_rng(0).integers(0, 2**32, 100_000, np.uint32)
    bits = np.concatenate([bits, bits & np.uint32(0xFFFF0000) | np.uint32(0x8000)])  # and exactly between two
    numbers = bits.view(np.float32)
    numbers = numbers[np.isfinite(numbers)]
    expected = torch.from_numpy(numbers).to(torch.bfloat16).view(torch.int16).numpy()
    np.testing.assert_array_equal(bfloat16.to_bfloat16(numbers).view(np.int16), expected)


def test_arithmetic_that_fails_only_as_it_samples_is_named(model: Path, tmp_path: Path) -> None:
    """Values too large for a cache in f16, which the next matrix makes small again."""
    import torch
    from transformers import AutoModelForCausalLM

    whole = AutoModelForCausalLM.from_pretrained(model)
    with torch.no_grad():
        attention = whole.model.layers[0].self_attn
        attention.v_proj.weight *= 2e5
        attention.o_proj.weight /= 2e5
    whole.save_pretrained(tmp_path / "large")
    export_base(tmp_path / "large", tmp_path / "base.gguf")
    with pytest.raises(
        ModelError, match=r"base.gguf: in exact arithmetic .* agrees.*not in .* sampling.*is nan nats, expected 0.05 at"
    ):
        check_parity(tmp_path / "large", tmp_path / "base.gguf", None, None, PROMPTS, n_threads=1)


def test_exact_arithmetic_whatever_the_environment_says(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """cuBLAS reads the one, llama.cpp's CUDA backend the other; both only as variables of the process."""
    export_base(model, tmp_path / "base.gguf")
    monkeypatch.setenv("GGML_CUDA_CUBLAS_COMPUTE_TYPE", "f16")
    for is_exact, tf32, products in ((True, {"NVIDIA_TF32_OVERRIDE=0"}, "f32"), (False, set(), "f16")):
        with LlamaProcess(tmp_path / "base.gguf", n_threads=1, is_exact=is_exact) as process:
            variables = Path(f"/proc/{process._process.pid}/environ").read_text().split("\0")
        assert {line for line in variables if line.startswith("NVIDIA_TF32")} == tf32
        assert f"GGML_CUDA_CUBLAS_COMPUTE_TYPE={products}" in variables


def test_a_few_tokens_alone_or_left_over_are_computed_like_many(tmp_path: Path) -> None:
    """They are filled up to more than CUDA's kernels for few take; what comes after a token must not change it."""
    model = make_model(tmp_path / "model", max_position_embeddings=600)
    prompts = [[0], [0, 5, 9], [0, *(2 + i % 290 for i in range(515))]]
    export_base(model, tmp_path / "base.gguf")
    with LlamaProcess(tmp_path / "base.gguf", n_threads=1, is_exact=True) as process:
        found = process.logits(prompts)
    for left, right in zip(found, whole_model_logits(model, None, prompts), strict=True):
        np.testing.assert_allclose(left, right, atol=1e-3)


@pytest.fixture(scope="module")
def gpu() -> Iterator[LentGpu]:
    with lent_gpu(256 * 2**20) as gpu:
        yield gpu


@pytest.mark.lent_gpu
@pytest.mark.parametrize("quant", QUANTS)
def test_sound_files_pass_on_a_gpu(quant: Quant, gpu: LentGpu, model: Path, tmp_path: Path) -> None:
    """Where llama.cpp chooses flash attention, which rounds to f16: that counts as sampling, not against the file."""
    adapter = make_adapter(tmp_path / "adapter", model)
    files = tmp_path / "base.gguf", tmp_path / "lora.gguf"
    export_base(model, files[0], quant, n_threads=1)
    export_adapter(adapter, model, files[1])
    there = check_parity(model, files[0], adapter, files[1], PROMPTS, n_threads=1)
    with gpu.used():
        parity = check_parity(model, files[0], adapter, files[1], PROMPTS, n_threads=1)
        with pytest.raises(ModelError, match=r"llama.cpp and transformers disagree"):
            check_parity(model, files[0], adapter, None, PROMPTS, n_threads=1)
    assert parity["max_logit_difference"] < 2 * there["max_logit_difference"] + 1e-4
    assert 0 < parity["sampling_kl"] < SAMPLING_BOUND / 10
