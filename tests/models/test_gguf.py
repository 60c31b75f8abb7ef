"""GGUF export: llama.cpp computes what transformers computes, and what it can't is refused by name."""

from __future__ import annotations

import json
import os
import random
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import damage
from helpers.commands import python, run_process
from helpers.models import KINDS, LLAMA3, VOCAB, make_adapter, make_model

from qrft.data.disk import lock_file
from qrft.data.problems import tiny_math
from qrft.errors import ModelError, StoreError
from qrft.models import prompts
from qrft.models.find import BUILTIN
from qrft.models.gguf.adapter import export_adapter
from qrft.models.gguf.adapter_config import AdapterConfig, check_exportable
from qrft.models.gguf.base import export_base
from qrft.models.gguf.header import check_base, read_header
from qrft.models.gguf.parity import check_parity
from qrft.models.gguf.prepare import check_once, prepare_adapter, prepare_base
from qrft.models.gguf.quantize import quantize
from qrft.models.wording import PLAIN
from qrft.sampling.api import Request, SamplingParams
from qrft.sampling.backends.llama_cpp.process import LlamaProcess

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

    tolerance = 1e-2 if kind.startswith("gemma") else 1e-3  # llama.cpp looks Gemma's GELU up in a table of 16 bits
    plain = check_parity(model, base, None, None, PROMPTS, tolerance=tolerance, n_threads=1)
    assert plain["num_prompts"] == 2 and plain["num_positions"] == 61 and plain["top1_agreement"] > 0.98
    check_parity(model, base, adapter, lora, PROMPTS, tolerance=tolerance, n_threads=1)
    check_parity(model, merged, adapter, None, PROMPTS, tolerance=tolerance, n_threads=1)
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


@pytest.mark.parametrize("kind", ["llama-tied", "qwen3", "gemma2", "gemma3", "phi3"])
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


# ----------------------------------------------------------------------------------------------- quantisation


@pytest.fixture(scope="module")
def tiny_texts() -> list[list[int]]:
    """Problems with their solutions, as the tiny base reads them."""
    tokenizer = prompts.load_tokenizer(BUILTIN["tiny-base"])
    rows = tiny_math.problems("test", 0, 40)
    return [prompts.example(tokenizer, row["question"], row["solution"], PLAIN).token_ids for row in rows]


def test_quantised_bases_are_small_and_agree(tiny_texts: list[list[int]], tmp_path: Path) -> None:
    """Top-1 is judged where the solution stands: in the questions several tokens are often about as likely."""
    model, sizes = BUILTIN["tiny-base"], {}
    for quant, least, most in (("q8_0", 0.97, 0.001), ("q4_k_m", 0.96, 0.01)):
        base = tmp_path / f"{quant}.gguf"
        export_base(model, base, quant, n_threads=1)  # type: ignore[arg-type]
        report = check_parity(model, base, None, None, tiny_texts, n_threads=1)
        assert least < report["top1_agreement"] < 1 and 0 < report["mean_kl"] < most
        assert report["num_positions"] > 2000
        sizes[quant] = base.stat().st_size
    assert sizes["q4_k_m"] < sizes["q8_0"] < 8.8 / 8 * 1_000_000  # parameters
    assert sorted(path.name for path in tmp_path.iterdir()) == ["q4_k_m.gguf", "q8_0.gguf"]


def test_an_adapter_on_a_quantised_base_and_merged_into_it(tiny_texts: list[list[int]], tmp_path: Path) -> None:
    model = BUILTIN["tiny-base"]
    adapter = make_adapter(tmp_path / "adapter", model)
    base, merged, lora = tmp_path / "base.gguf", tmp_path / "merged.gguf", tmp_path / "lora.gguf"
    export_base(model, base, "q8_0", n_threads=1)
    export_base(model, merged, "q8_0", adapter, n_threads=1)
    export_adapter(adapter, model, lora)
    assert check_parity(model, base, adapter, lora, tiny_texts[:8], n_threads=1)["mean_kl"] < 0.01
    assert check_parity(model, merged, adapter, None, tiny_texts[:8], n_threads=1)["mean_kl"] < 0.01
    with pytest.raises(ModelError, match=r"mean KL divergence over .* 0.05 at most.*Choose more bits"):
        check_parity(model, base, adapter, None, tiny_texts[:8], n_threads=1)


@pytest.mark.parametrize("quant", ["q8_0", "q4_k_m"])
def test_rows_that_fit_no_block_keep_more_bits(quant: str, tmp_path: Path) -> None:
    """Rows of 48 and 72 values: no multiple of 32."""
    sizes = {"hidden_size": 48, "intermediate_size": 72, "initializer_range": 0.02}
    model = make_model(tmp_path / "model", "llama-untied-biases", **sizes)
    export_base(model, tmp_path / "base.gguf", quant, n_threads=1)  # type: ignore[arg-type]
    types = {kind for _, kind in read_header(tmp_path / "base.gguf").tensors.values()}
    assert types <= {"F16", "F32", "Q8_0", "Q5_0"}
    check_parity(model, tmp_path / "base.gguf", None, None, PROMPTS, n_threads=1)


def test_a_failing_quantiser_leaves_nothing_and_tells_why(model_dir: Path, tmp_path: Path) -> None:
    export_base(model_dir, tmp_path / "whole.gguf", "f16")
    (tmp_path / "cut.gguf").write_bytes((tmp_path / "whole.gguf").read_bytes()[:20_000])
    with pytest.raises(ModelError, match=r"(?s)cut.gguf: llama.cpp's quantiser to q8_0 failed.*last log lines:\n.*\w"):
        quantize(tmp_path / "cut.gguf", tmp_path / "out.gguf", "q8_0", 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.gguf", "whole.gguf"]


def test_rank_stabilised_scale(model_dir: Path, tmp_path: Path) -> None:
    """alpha / sqrt(r) is four times alpha / r here: an adapter exported with the latter would not pass."""
    adapter = make_adapter(tmp_path / "adapter", model_dir, r=16, lora_alpha=2, use_rslora=True)
    export_base(model_dir, tmp_path / "base.gguf")
    export_adapter(adapter, model_dir, tmp_path / "lora.gguf")
    files = tmp_path / "base.gguf", adapter, tmp_path / "lora.gguf"
    check_parity(model_dir, *files, PROMPTS, tolerance=1e-3, n_threads=1)
    edit_json(adapter / "adapter_config.json", use_rslora=False)
    with pytest.raises(ModelError, match="disagree"):
        check_parity(model_dir, *files, PROMPTS, n_threads=1)


# ------------------------------------------------------------------------------------------------ ready files


def test_a_ready_file_is_held_against_the_folder(tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", "qwen2-tied")
    ready = tmp_path / "ready.gguf"
    export_base(model, ready)
    assert check_base(ready, model).precision == "f32"
    others = {
        "found architecture qwen2, .*config.json says llama": make_model(tmp_path / "llama"),
        "found number of layers 2, but .* says 3": make_model(tmp_path / "deep", "qwen2-tied", num_hidden_layers=3),
        "found width 64, but .* says 32": make_model(tmp_path / "narrow", "qwen2-tied", hidden_size=32),
        "found vocabulary 300, but .* says 310": make_model(tmp_path / "words", "qwen2-tied", vocab_size=310),
    }
    for message, other in others.items():
        with pytest.raises(ModelError, match=rf"ready.gguf: {message}.*Name the GGUF file of this very model"):
            check_base(ready, other)
    vocabulary = json.loads((model / "tokenizer.json").read_text())
    words = vocabulary["model"]["vocab"]
    vocabulary["model"]["vocab"] = dict(zip(words, reversed(words.values()), strict=True))
    (model / "tokenizer.json").write_text(json.dumps(vocabulary))
    with pytest.raises(ModelError, match=r"differs from .*tokenizer.json in \d+ of \d+ tokens"):
        check_base(ready, model)


def test_files_that_are_no_ready_model(model_dir: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole.gguf"
    export_base(model_dir, whole)
    data = whole.read_bytes()
    path = tmp_path / "broken.gguf"
    for broken, message in [
        (b"", "not a whole GGUF file"),
        (b"\x00" * 100, r"not a GGUF file: it begins with b'\\x00"),
        (data[:10], "not a whole GGUF file"),
        (data[:3000], "not a whole GGUF file"),
        (data[:-10], rf"cut short: found {len(data) - 10} bytes, expected {len(data)}"),
        (b"GGUF" + b"\xff" * 100, "not a whole GGUF file"),
        (data[:4] + b"\x01" + data[5:], r"not a whole GGUF file \(version 1, expected 2 or 3\)"),
    ]:
        path.write_bytes(broken)
        with pytest.raises(ModelError, match=f"broken.gguf: {message}"):
            check_base(path, model_dir)
    with pytest.raises(ModelError, match=r"nothing.gguf: can't be read"):
        check_base(tmp_path / "nothing.gguf", model_dir)
    export_adapter(make_adapter(tmp_path / "adapter", model_dir), model_dir, tmp_path / "lora.gguf")
    with pytest.raises(ModelError, match=r"lora.gguf: holds 'adapter', not a model"):
        check_base(tmp_path / "lora.gguf", model_dir)


def test_any_bytes_are_read_or_refused(model_dir: Path, tmp_path: Path) -> None:
    """A header with bytes changed at random either still reads or is one ModelError."""
    export_base(model_dir, tmp_path / "whole.gguf")
    data, rng, refused = (tmp_path / "whole.gguf").read_bytes(), np.random.default_rng(0), 0
    for _ in range(300):
        broken = bytearray(data)
        for at in rng.integers(4, 12_000, 8):
            broken[at] = rng.integers(256)
        (tmp_path / "broken.gguf").write_bytes(broken)
        try:
            read_header(tmp_path / "broken.gguf").precision  # noqa: B018
        except ModelError:
            refused += 1
    assert 0 < refused < 300


# ----------------------------------------------------------------------------------------------- made once


def test_a_base_is_converted_once(model_dir: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = prepare_base(str(model_dir), quant="q8_0", cache_dir=cache, n_threads=1)
    stamp = first.stat().st_mtime_ns
    assert read_header(first).precision == "q8_0"
    assert prepare_base(str(model_dir), quant="q8_0", cache_dir=cache) == first and first.stat().st_mtime_ns == stamp
    copy = shutil.copytree(model_dir, tmp_path / model_dir.name)
    assert prepare_base(str(copy), quant="q8_0", cache_dir=cache) == first, "the contents count, not the place"
    adapter = make_adapter(tmp_path / "adapter", model_dir)
    merged = prepare_base(str(model_dir), quant="q8_0", adapter=adapter, cache_dir=cache, n_threads=1)
    lora = prepare_adapter(adapter, str(model_dir), cache_dir=cache)
    assert len({first, merged, lora}) == 3 and sorted(cache.glob("*.gguf")) == sorted([first, merged, lora])
    assert prepare_adapter(adapter, str(model_dir), cache_dir=cache) == lora
    edit_json(adapter / "adapter_config.json", lora_alpha=12)
    assert prepare_adapter(adapter, str(model_dir), cache_dir=cache) != lora


@pytest.mark.parametrize("happens", [*damage.KINDS, "its record is gone"])
def test_a_damaged_file_of_the_cache_is_named_and_made_again(
    model_dir: Path, tmp_path: Path, happens: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A bit in the cached base gave other samples."""
    made = prepare_base(str(model_dir), quant="f16", cache_dir=tmp_path)
    whole = made.read_bytes()
    if callable(happens):
        happens(made, random.Random(3))
    else:
        made.with_name(made.name + ".json").unlink()
    assert prepare_base(str(model_dir), quant="f16", cache_dir=tmp_path) == made
    assert made.read_bytes() == whole
    assert happens is damage.take_away or f"{made}: is not as it was made, so it is made again" in caplog.text


def test_a_kept_comparison_that_is_damaged_is_not_believed(model_dir: Path, tmp_path: Path) -> None:
    base = prepare_base(str(model_dir), quant="f32", cache_dir=tmp_path)
    first = check_once(model_dir, base, None, None, PROMPTS, cache_dir=tmp_path, n_threads=1)
    (kept,) = tmp_path.glob("*parity*.json")
    kept.write_text(kept.read_text().replace(": ", ": 1", 1))
    assert check_once(model_dir, base, None, None, PROMPTS, cache_dir=tmp_path, n_threads=1) == first


def test_what_killed_conversions_left_goes_and_files_of_others_stay(model_dir: Path, tmp_path: Path) -> None:
    made = prepare_base(str(model_dir), quant="f16", cache_dir=tmp_path)
    made.unlink()
    left, others = tmp_path / f".{made.name}.0123abcd.tmp", tmp_path / f"{made.name}.partial"
    left.write_bytes(b"half")
    others.write_text("precious")
    assert prepare_base(str(model_dir), quant="f16", cache_dir=tmp_path) == made
    assert not left.exists() and others.read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == [made.name, f"{made.name}.json", others.name]


def test_a_second_process_waits_for_a_file_of_the_cache_and_says_so(
    model_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = prepare_base(str(model_dir), quant="f16", cache_dir=tmp_path)
    held = lock_file(made.with_name(made.name + ".lock"), "", "")
    threading.Timer(1.0, held.close).start()
    assert prepare_base(str(model_dir), quant="f16", cache_dir=tmp_path) == made
    assert f"{made} is being made by process {os.getpid()} (since " in caplog.text


def test_a_cache_that_cannot_be_written_is_said(model_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file/cache: Not a directory"):
        prepare_base(str(model_dir), cache_dir=tmp_path / "file" / "cache")


def test_the_cache_lies_where_caches_lie(model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert prepare_base(str(model_dir), quant="f32").parent == tmp_path / "qrft" / "gguf"


def test_ready_files_are_used_where_they_lie(model_dir: Path, tmp_path: Path) -> None:
    base, lora = tmp_path / "base.gguf", tmp_path / "lora.gguf"
    export_base(model_dir, base)
    adapter = make_adapter(tmp_path / "adapter", model_dir)
    export_adapter(adapter, model_dir, lora)
    assert prepare_base(str(base), model_dir, cache_dir=tmp_path / "cache") == base
    assert prepare_adapter(lora, str(base), model_dir) == lora
    only_tokenizer = tmp_path / "tokenizer"
    only_tokenizer.mkdir()
    shutil.copy(model_dir / "tokenizer.json", only_tokenizer)
    assert prepare_base(str(base), only_tokenizer) == base
    with pytest.raises(ModelError, match=r"base.gguf: a .gguf needs the Hugging Face tokenizer"):
        prepare_base(str(base))
    with pytest.raises(ModelError, match=r"can't be merged into a .gguf"):
        prepare_base(str(base), model_dir, adapter=adapter)
    with pytest.raises(ModelError, match=r"converting a peft folder needs the base model's config.json"):
        prepare_adapter(adapter, str(base), only_tokenizer)
    with pytest.raises(ModelError, match=r"base.gguf: holds 'model', expected a LoRA adapter"):
        prepare_adapter(base, str(model_dir))
    with pytest.raises(ModelError, match=r"lora.gguf: is an adapter of llama models, but .* is qwen3"):
        prepare_adapter(lora, str(make_model(tmp_path / "qwen3", "qwen3")))
    with pytest.raises(ModelError, match=r"adapter_config.json: not found"):
        prepare_adapter(tmp_path, str(model_dir))


def test_an_adapter_that_no_gguf_can_hold_is_refused_by_name(model_dir: Path, tmp_path: Path) -> None:
    """As peft saves them, not only as its settings say."""
    refused = {
        "use_dora": {"use_dora": True},
        "modules_to_save": {"modules_to_save": ["lm_head"]},
        "bias": {"bias": "lora_only"},
        "target_modules": {"target_modules": ["q_proj", "embed_tokens"]},
        "trainable_token_indices": {"trainable_token_indices": [3]},
    }
    for key, settings in refused.items():
        adapter = make_adapter(tmp_path / key, model_dir, **settings)
        with pytest.raises(ModelError, match=f"adapter_config.json: {key} = .*Train the adapter without it"):
            prepare_adapter(adapter, str(model_dir), cache_dir=tmp_path / "cache")
        with pytest.raises(ModelError, match=f"{key} = "):
            prepare_base(str(model_dir), adapter=adapter, cache_dir=tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_files_are_compared_once(model_dir: Path, tmp_path: Path) -> None:
    base = prepare_base(str(model_dir), quant="f32", cache_dir=tmp_path)
    first = check_once(model_dir, base, None, None, PROMPTS, cache_dir=tmp_path, n_threads=1)
    assert first == check_parity(model_dir, base, None, None, PROMPTS, n_threads=1)
    assert check_once(model_dir, base, None, None, [], cache_dir=tmp_path) == first
    other = make_adapter(tmp_path / "adapter", model_dir)
    with pytest.raises(ModelError, match="disagree"):
        check_once(model_dir, base, other, None, PROMPTS, cache_dir=tmp_path, n_threads=1)


# ------------------------------------------------------------------------------------------------ vocabulary


def tokenize(path: Path, text: str) -> list[int]:
    """By llama.cpp, in a process of its own: importing it leaves files open, and warnings are errors here."""
    code = (
        "import sys, json, llama_cpp;"
        "model = llama_cpp.Llama(sys.argv[1], vocab_only=True, verbose=False);"
        "print(json.dumps(model.tokenize(sys.argv[2].encode(), add_bos=False)))"
    )
    done = run_process(python(code, path, text))
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
        check_exportable(AdapterConfig(**config))


def test_ordinary_adapters_are_exportable() -> None:
    rslora = {"r": 8, "lora_alpha": 8, "use_rslora": True, "target_modules": "all-linear"}
    ranks = {"r": 8, "rank_pattern": {"q_proj": 4}, "init_lora_weights": "gaussian", "bias": "none"}
    for config in (rslora, ranks):
        check_exportable(AdapterConfig.model_validate(config))


def test_a_value_of_the_wrong_type_is_one_clear_error(model_dir: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", model_dir)
    edit_json(adapter / "adapter_config.json", lora_alpha="large")
    with pytest.raises(ModelError) as error:
        export_adapter(adapter, model_dir, tmp_path / "lora.gguf")
    assert str(error.value) == (
        f"{adapter / 'adapter_config.json'}: lora_alpha = 'large' is not a value that peft's LoRA takes (Input should "
        "be a valid number, unable to parse string as a number). Save the adapter again."
    )


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
        ({"vocab_size": 999}, r"embed_tokens.weight is \(300, 64\), but config.json asks for \(999, 64\)"),
        ({"num_hidden_layers": 1}, "unknown in llama models of 1 layers"),
    ],
)
def test_models_that_llama_cpp_would_compute_differently(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model")
    edit_json(folder / "config.json", **changes)
    with pytest.raises(ModelError, match=message):
        export_base(folder, tmp_path / "base.gguf")
    assert not list(tmp_path.glob("*.gguf*"))


@pytest.mark.parametrize(
    ("kind", "changes", "key"),
    [
        ("gemma2", {"final_logit_softcapping": None}, "final_logit_softcapping = None"),
        ("gemma2", {"layer_types": ["full_attention"] * 2}, "layer_types"),
        ("gemma3", {"query_pre_attn_scalar": 100}, "query_pre_attn_scalar = 100"),
        ("gemma3", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping = 50.0"),
        ("smollm3", {"no_rope_layers": [1, 1, 1, 1]}, "no_rope_layers"),
        ("olmo2", {"rope_parameters": LLAMA3}, "rope_type = 'llama3'"),
    ],
)
def test_settings_that_other_graphs_would_compute_differently(
    kind: str, changes: dict[str, Any], key: str, tmp_path: Path
) -> None:
    folder = make_model(tmp_path / "model", kind)
    edit_json(folder / "config.json", **changes)
    with pytest.raises(ModelError, match=f"{key}.* can't be exported for {kind} models"):
        export_base(folder, tmp_path / "base.gguf")


def test_longrope_is_promised_up_to_the_length_before_it_was_stretched(tmp_path: Path) -> None:
    export_base(make_model(tmp_path / "model", "phi3"), tmp_path / "base.gguf")
    assert read_header(tmp_path / "base.gguf").metadata["phi3.context_length"] == 128  # config.json says 256


def test_broken_folders(model_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "base.gguf"
    with pytest.raises(ModelError, match=r"config.json: not found.*check the path"):
        export_base(tmp_path / "nothing", out)
    folder = make_model(tmp_path / "model")
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    for broken, message in [
        (whole[:-1000], "cut short"),
        (whole[:5], "too few for its header"),
        (b"\x08" + bytes(7) + b"no json!", "not a safetensors file"),
    ]:
        weights.write_bytes(broken)
        with pytest.raises(ModelError, match=message):
            export_base(folder, out)
    weights.unlink()
    with pytest.raises(ModelError, match=r"model.safetensors: not found.*save_pretrained"):
        export_base(folder, out)
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config.json: is not JSON"):
        export_base(folder, out)
    assert not list(tmp_path.glob("*.gguf*"))


def test_a_sliding_window_limits_the_context(tmp_path: Path) -> None:
    export_base(make_model(tmp_path / "model", "mistral"), tmp_path / "base.gguf")
    with LlamaProcess(tmp_path / "base.gguf", n_threads=1) as process:
        assert process.n_ctx_train == 100  # config.json says 256 positions and a window of 100


def test_copies_of_the_base_beside_the_factors_are_no_training(tmp_path: Path) -> None:
    """peft saves them when lm_head is adapted; a training in bfloat16 saves them rounded."""
    import torch
    from safetensors.torch import load_file, save_file

    model = make_model(tmp_path / "model", "llama-untied-biases")
    adapter = make_adapter(tmp_path / "adapter", model, target_modules=["q_proj", "lm_head"])
    path, head = adapter / "adapter_model.safetensors", "base_model.model.lm_head.base_layer.weight"
    factors = {name: tensor for name, tensor in load_file(path).items() if ".lora_" in name}
    base = load_file(model / "model.safetensors")["lm_head.weight"]
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        save_file({**factors, head: base.to(dtype)}, path)
        export_adapter(adapter, model, tmp_path / "lora.gguf")
    for tensor, message in (
        (base + 1, r"lm_head\.base_layer\.weight differs from the base's, so it was trained as a whole"),
        (torch.cat([base, base[:2]]), r"is \(302, 64\), but .* has \(300, 64\)\. The vocabulary was enlarged"),
    ):
        save_file({**factors, head: tensor.contiguous()}, path)
        with pytest.raises(ModelError, match=message):
            export_adapter(adapter, model, tmp_path / "lora.gguf")


def test_a_pattern_of_targets_is_judged_by_the_tensors(model_dir: Path, tmp_path: Path) -> None:
    spared = make_adapter(tmp_path / "spared", model_dir, target_modules=r"(?!.*embed_tokens).*(q_proj|v_proj)")
    export_adapter(spared, model_dir, tmp_path / "lora.gguf")
    taken = make_adapter(tmp_path / "taken", model_dir, target_modules=r".*(embed_tokens|v_proj)")
    with pytest.raises(ModelError, match=r"lora_embedding_\w+ is not one of a pair of LoRA factors"):
        export_adapter(taken, model_dir, tmp_path / "lora.gguf")


def test_a_byte_level_tokenizer_without_merges_is_left_out(tmp_path: Path) -> None:
    model = make_model(tmp_path / "model")
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    tokenizer["model"]["merges"] = []
    (model / "tokenizer.json").write_text(json.dumps(tokenizer))
    export_base(model, tmp_path / "base.gguf")
    assert read_header(tmp_path / "base.gguf").metadata["tokenizer.ggml.model"] == "no_vocab"
    with LlamaProcess(tmp_path / "base.gguf", n_threads=1) as process:
        assert len(process.logits(PROMPTS)) == 2
