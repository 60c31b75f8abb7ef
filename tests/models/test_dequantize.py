"""A model at hand only as a GGUF file becomes a Hugging Face folder with its tokens, template and logits, or none."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from helpers.models import make_model

from qrft.errors import ModelError
from qrft.models import names
from qrft.models.find import find_model
from qrft.models.gguf import dequantize
from qrft.models.gguf.base import export_base
from qrft.models.gguf.dequantize import TEXTS, dequantized
from qrft.models.gguf.header import read_header
from qrft.models.loading import load_gguf, load_tokenizer
from qrft.models.whole import check_weights
from qrft.sampling.backends.llama_cpp.process import LlamaProcess

TEMPLATE = "{% for m in messages %}<s>{{ m.role }}: {{ m.content }}</s>{% endfor %}"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GGUF file in Q8_0 whose tokenizer takes digits one by one."""
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("whole")
    model = make_model(folder / "model", "llama-head-dim", max_position_embeddings=512)
    tokenizer = AutoTokenizer.from_pretrained(model)
    rules = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(rules)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(model)
    export_base(model, folder / "small.gguf", "q8_0", n_threads=1)
    return folder / "small.gguf"


def test_a_file_is_made_a_folder_once(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = dequantized(file, tmp_path)
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    check_weights(folder)
    tokenizer = load_tokenizer(folder)
    assert tokenizer.chat_template == TEMPLATE
    with LlamaProcess(file, n_threads=1) as process:
        assert [tokenizer(text)["input_ids"] for text in TEXTS] == process.tokens(TEXTS)
    monkeypatch.setattr(dequantize, "load_gguf", lambda *_: pytest.fail("made twice"))
    assert dequantized(file, tmp_path) == folder
    assert sorted(path.name for path in tmp_path.iterdir()) == [folder.name, f"{folder.name}.json"]
    monkeypatch.undo()
    (folder / "config.json").write_text("{}")
    assert json.loads((dequantized(file, tmp_path) / "config.json").read_text())["hidden_size"] == 64


def test_a_base_model_may_be_a_file_or_in_a_package(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = find_model(str(file))
    assert folder.parent == tmp_path / "cache" / "qrft" / "models"
    with pytest.raises(
        ModelError, match=r"smollm2-135m.*llm_none, which is not installed. .*pip install 'qrft\[smollm2\]'"
    ):
        monkeypatch.setitem(names.PACKAGED, "smollm2-135m", names.Packaged("llm_none", "x.gguf", "smollm2"))
        find_model("smollm2-135m")
    package = tmp_path / "site" / "llm_none"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('the code of a package is not run')")
    monkeypatch.syspath_prepend(str(package.parent))
    with pytest.raises(ModelError, match=r"llm_none, which has no x.gguf. Install"):
        find_model("smollm2-135m")
    (package / "x.gguf").symlink_to(file)
    assert "llm_none" not in sys.modules
    assert find_model("smollm2-135m").name.startswith("x-")


def test_tokens_that_transformers_gets_wrong_are_refused(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dequantize, "_DIGITS_APART", frozenset())
    with pytest.raises(
        ModelError, match=r"small.gguf: transformers splits texts into other tokens .*'smollm' is not kno"
    ):
        dequantized(file, tmp_path)
    assert not list(tmp_path.iterdir()), "nothing is left"


def test_weights_that_transformers_gets_wrong_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of llama3's scaling, which llama.cpp reads from a tensor, transformers' GGUF reader knows nothing."""
    model = make_model(tmp_path / "model", "llama3-rope", max_position_embeddings=512)
    export_base(model, tmp_path / "scaled.gguf", "f16", n_threads=1)
    with pytest.raises(ModelError, match=r"scaled.gguf.*disagree"):
        dequantized(tmp_path / "scaled.gguf", tmp_path / "cache")


def test_an_architecture_that_transformers_does_not_know(file: Path, tmp_path: Path) -> None:
    data = file.read_bytes()
    assert data.count(b"llama.") > 5
    other = tmp_path / "other.gguf"
    other.write_bytes(data.replace(b"llama", b"plamo"))
    assert read_header(other).arch == "plamo"
    with pytest.raises(ModelError, match=r"other.gguf: transformers can't dequantise it \(ValueError: .*plamo"):
        load_gguf(other, "float32")
