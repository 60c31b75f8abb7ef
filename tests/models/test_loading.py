"""No code that a model's folder brings or names is run, nothing is asked, and whatever fails is one message."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.commands import command_line, environment
from helpers.models import make_adapter, make_model

from qrft.errors import ModelError
from qrft.models import loading

CODE = """
from pathlib import Path
Path(__file__).with_name("ran").touch()
Path({marker!r}).touch()
class Evil: pass
EvilConfig = EvilModel = EvilTokenizer = Evil
"""
AUTO_MAP = {
    "AutoConfig": "evil.EvilConfig",
    "AutoModelForCausalLM": "evil.EvilModel",
    "AutoTokenizer": ["evil.EvilTokenizer", "evil.EvilTokenizer"],
}


def change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def make_evil(folder: Path, marker: Path, **changes: Any) -> Path:
    """Make a model whose folder names code for all that transformers loads."""
    make_model(folder)
    (folder / "evil.py").write_text(CODE.format(marker=str(marker)))
    change_json(folder / "config.json", auto_map=AUTO_MAP, **changes)
    change_json(folder / "tokenizer_config.json", auto_map=AUTO_MAP, tokenizer_class="EvilTokenizer")
    return folder


@pytest.mark.parametrize("model_type", ["llama", "evil"])
def test_code_that_a_folder_names_is_not_run_and_not_asked_about(
    model_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: Any) -> str:
        raise AssertionError("something was asked")

    monkeypatch.setattr("builtins.input", asked)
    marker = tmp_path / "ran"
    folder = make_evil(tmp_path / "model", marker, model_type=model_type)
    for load in (loading.load_config, loading.load_tokenizer, loading.load_model):
        try:
            load(folder)
        except ModelError as error:
            assert "something was asked" not in str(error)
    assert not marker.exists()


@pytest.mark.slow
@pytest.mark.parametrize("model_type", ["llama", "evil"])
def test_no_command_runs_code_of_a_folder_though_standard_input_says_yes(model_type: str, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    make_evil(tmp_path / "model", marker, model_type=model_type)
    (tmp_path / "rows.jsonl").write_text('{"question": "3 and 4?", "completion": "#### 7"}\n')
    (tmp_path / "p.jsonl").write_text('{"problem_id": "a", "question": "3 and 4?", "answer": "7"}\n')
    (tmp_path / "text.txt").write_text("Tom has 12 apples.\n")
    home = str(tmp_path / "home")
    for words in (
        ["train", "model", "--data", "rows.jsonl", "-o", "adapter", "--set", "num_epochs=1"],
        ["sample", "model", "--sampler", "transformers", "--problems", "p.jsonl", "-k", "1", "-o", "out"],
        ["sample", "model", "--problems", "p.jsonl", "-k", "1", "-o", "out2"],
        ["loss", "model", "--text", "text.txt", "--context", "64"],
    ):
        done = subprocess.run(
            command_line(*words),
            input="y\n" * 9, capture_output=True, text=True, cwd=tmp_path, env=environment(HF_HOME=home, HOME=home),
        )  # fmt: skip
        assert "[y/N]" not in done.stdout + done.stderr and "Traceback" not in done.stderr, done.stderr
    assert not marker.exists()


def test_a_package_of_the_hub_that_computes_attention_is_refused(tmp_path: Path) -> None:
    folder = make_model(tmp_path)
    change_json(folder / "config.json", attn_implementation="someone/kernel")
    with pytest.raises(ModelError, match=r"attn_implementation = 'someone/kernel' names code of the hub.*Remove the"):
        loading.load_model(folder)


def test_a_pickle_is_not_read(tmp_path: Path) -> None:
    folder = make_model(tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="transformers can't load it"):
        loading.load_model(folder)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("models")
    model = make_model(root / "model")
    return model, make_adapter(root / "adapter", model)


def test_an_adapter_is_not_read_from_a_pickle_and_names_no_code(adapter: tuple[Path, Path]) -> None:
    base, folder = adapter
    model = loading.load_model(base)
    assert loading.load_adapter(model, folder).peft_config["default"].inference_mode
    change_json(folder / "adapter_config.json", megatron_config={"a": 1}, megatron_core="antigravity")
    with pytest.raises(ModelError, match=r"megatron_config names code.*Remove it"):
        loading.load_adapter(model, folder)
    change_json(folder / "adapter_config.json", megatron_config=None)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"adapter_model.safetensors: not found\..*save it again as safetensors"):
        loading.load_adapter(model, folder)


def test_a_weight_that_is_missing_in_a_model_of_any_architecture_is_named(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=32, n_head=2, vocab_size=50, n_positions=32)).save_pretrained(tmp_path)
    assert loading.load_model(tmp_path).config.n_layer == 2
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["transformer.h.1.mlp.c_fc.weight"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"its files lack transformer\.h\.1\.mlp\.c_fc\.weight\. Expected every"):
        loading.load_model(tmp_path)


class Panic(BaseException):
    """What a library in Rust raises."""


def test_a_panic_is_one_message_and_ctrl_c_is_passed_on() -> None:
    def fail(error: BaseException) -> Callable[[], None]:
        def raises() -> None:
            with loading.one_message("folder", "can't be read"):
                raise error

        return raises

    with pytest.raises(ModelError, match=r"folder: can't be read \(Panic: first\)\. Download the folder again"):
        fail(Panic("\n first\nsecond"))()
    with pytest.raises(KeyboardInterrupt):
        fail(KeyboardInterrupt())()
