"""`qrft loss`: the pre-training loss on a text."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import commands, rounding
from helpers.commands import facts_of, run_qrft
from helpers.jsonl import write_jsonl
from helpers.models import VOCAB, make_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from qrft.training import text_loss

TEXTS = ["Tom has 12 apples.", "Ann gives 5 of the apples to Tom — no, 7 <s> </s>.", "", "é" * 40, "A"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"), "mistral")  # its window is shorter than some texts


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder)


def as_jsonl(path: Path, texts: list[str]) -> Path:
    return write_jsonl(path, ({"text": text} for text in texts))


def plainly(model: Any, tokenizer: Any, text: str, context: int, stride: int) -> list[float]:
    """The nats of each token of a text, one forward pass a token: the definition."""
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    nats = []
    for position, token in enumerate(ids):
        # The first window that predicts the position.
        start = next(s for s in range(0, len(ids), stride) if position < s + context)
        with torch.no_grad():
            logits = model(torch.tensor([[tokenizer.bos_token_id, *ids[start:position]]])).logits[0, -1].double()
        nats.append(float(torch.logsumexp(logits, 0) - logits[token]))
    return nats


def invoke(*words: object) -> Any:
    return facts_of("loss", *words)


def fails(code: int, *words: object) -> str:
    return commands.fails(code, "loss", *words)


@pytest.mark.parametrize(("context", "stride"), [(64, None), (16, 5), (16, 16), (7, 1)])
def test_it_is_what_a_plain_computation_gives(
    folder: Path, model: Any, tokenizer: Any, tmp_path: Path, context: int, stride: int | None
) -> None:
    path = as_jsonl(tmp_path / "texts.jsonl", TEXTS)
    facts = invoke(folder, "--text", path, "--context", context, *(["--stride", stride] if stride else []))
    nats = [plainly(model, tokenizer, text, context, stride or context // 2) for text in TEXTS]
    num_tokens, num_bytes = sum(map(len, nats)), sum(len(text.encode()) for text in TEXTS)
    total = sum(map(sum, nats))
    assert (facts["num_texts"], facts["num_tokens"], facts["num_bytes"]) == (len(TEXTS), num_tokens, num_bytes)
    assert facts["nats_per_token"] == pytest.approx(total / num_tokens, rel=1e-5)
    assert facts["bits_per_byte"] == pytest.approx(total / math.log(2) / num_bytes, rel=1e-5)


def test_every_token_counts_once() -> None:
    for length in range(1, 40):
        ids = list(range(length))
        for context in range(1, 12):
            for stride in range(1, context + 1):
                found = list(text_loss.windows(0, ids, context, stride))
                assert [i for w in found for i in w.token_ids[-w.num_counted :]] == ids
                assert all(len(w.token_ids) <= context for w in found)
                # But for the first window each counted token sees at least context - stride before it.
                assert all(len(w.token_ids) - w.num_counted >= context - stride for w in found[1:])


def test_a_uniform_model_in_closed_form(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model", "llama-untied-biases")
    model = AutoModelForCausalLM.from_pretrained(folder)
    torch.nn.init.zeros_(model.get_output_embeddings().weight)
    model.save_pretrained(folder)
    facts = invoke(folder, "--text", as_jsonl(tmp_path / "t.jsonl", TEXTS), "--context", 32)
    vocab_size = model.config.vocab_size
    assert facts["nats_per_token"] == pytest.approx(math.log(vocab_size), rel=1e-6)
    assert facts["nats_per_token_error"] == pytest.approx(0, abs=1e-6)
    assert facts["bits_per_byte"] == pytest.approx(
        facts["num_tokens"] * math.log2(vocab_size) / facts["num_bytes"], rel=1e-6
    )


@pytest.fixture(scope="module")
def exact_model(folder: Path) -> Any:
    """Its logits differ by far less than float32 can hold, however a batch is cut."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()


# With the logits rounded to float32 and alike, a token's nats are good to the roundings of its cross-entropy: a sum of
# VOCAB exponentials, each good to 4 units in the last place, the logarithm of it, and a difference.
NATS_OFF = (VOCAB + 8) * rounding.EPSILON


def test_how_texts_are_cut_into_batches_changes_nothing_but_rounding(
    exact_model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a token stands in a batch may decide the order of the additions."""
    alone = []
    for at_once, texts_at_once in ((1, 2), (20_000, 3), (1 << 26, 512)):
        monkeypatch.setattr(text_loss, "LOGITS_AT_ONCE", at_once)
        monkeypatch.setattr(text_loss, "TEXTS_AT_ONCE", texts_at_once)
        alone.append(text_loss.measure(exact_model, tokenizer, TEXTS * 3, 16))
    for facts in alone[1:]:
        assert facts["nats_per_token"] == pytest.approx(alone[0]["nats_per_token"], abs=NATS_OFF)
        tokens_per_byte = facts["num_tokens"] / facts["num_bytes"]
        assert facts["bits_per_byte"] == pytest.approx(
            alone[0]["bits_per_byte"], abs=NATS_OFF / math.log(2) * tokens_per_byte
        )
        # Twice: a text's nats are off, and the mean that they are compared with.
        assert facts["nats_per_token_error"] == pytest.approx(alone[0]["nats_per_token_error"], abs=2 * NATS_OFF)


def test_special_tokens_in_the_text_are_text(model: Any, tokenizer: Any) -> None:
    facts = text_loss.measure(model, tokenizer, ["a<s>b"], 16)
    assert facts["num_tokens"] == 5


def test_texts_that_are_equal_have_no_spread_but_that_of_rounding(exact_model: Any, tokenizer: Any) -> None:
    facts = text_loss.measure(exact_model, tokenizer, ["Tom has"] * 3, 16)
    assert 0 <= facts["nats_per_token_error"] <= NATS_OFF


def test_the_standard_error_is_that_of_repeated_draws() -> None:
    """Ratios of many random sets of texts scatter as one set's error says."""
    r = np.random.default_rng(0)
    tokens = r.integers(5, 80, (2000, 200)).astype(float)
    nats = tokens * r.normal(2.0, 0.4, tokens.shape)
    found = [text_loss.ratio(n, t) for n, t in zip(nats, tokens, strict=True)]
    ratios, errors = (np.array([f[i] for f in found], float) for i in (0, 1))
    assert errors.mean() == pytest.approx(ratios.std(), rel=0.05)


def test_a_text_file_is_one_text(folder: Path, tmp_path: Path) -> None:
    text = "Tom has 12 apples and gives 5 of the apples to Ann.\n" * 20
    (tmp_path / "t.txt").write_text(text)
    whole = invoke(folder, "--text", tmp_path / "t.txt", "--context", 32)
    listed = invoke(folder, "--text", as_jsonl(tmp_path / "t.jsonl", [text]), "--context", 32)
    assert (whole["num_texts"], whole["num_bytes"]) == (1, len(text))
    assert whole["bits_per_byte"] == listed["bits_per_byte"]
    assert whole["nats_per_token_error"] > 0  # over the windows
    assert whole["bits_per_byte_error"] / whole["bits_per_byte"] == pytest.approx(
        whole["nats_per_token_error"] / whole["nats_per_token"]
    )
    shown = run_qrft("loss", folder, "--text", tmp_path / "t.txt", "--context", 32).output
    assert "bits per byte, standard error" in shown and "windows of 32 tokens, 16 apart" in shown


def test_what_can_not_be(folder: Path, tmp_path: Path) -> None:
    path = as_jsonl(tmp_path / "t.jsonl", TEXTS)
    assert "the model has 256 positions. Allowed: up to 256." in fails(2, folder, "--text", path)
    assert "--stride: found 9 with a context of 8. Allowed: 1 to 8." in fails(
        2, folder, "--text", path, "--context", 8, "--stride", 9
    )
    assert "can't be read (No such file or directory)" in fails(1, folder, "--text", tmp_path / "none.txt")
    (tmp_path / "e.txt").write_text("")
    assert "no text in it" in fails(1, folder, "--text", tmp_path / "e.txt")
    (tmp_path / "b.txt").write_bytes(b"ab\xff")
    assert "byte 0xff at 2 is not UTF-8" in fails(1, folder, "--text", tmp_path / "b.txt", "--context", 8)
    for line, words in (('{"txt": "a"}', "found the keys txt, expected a text"), ("[1]", "a list"), ("{", "not JSON")):
        (tmp_path / "w.jsonl").write_text(f'{{"text": "fine"}}\n\n{line}\n')
        message = fails(1, folder, "--text", tmp_path / "w.jsonl", "--context", 8)
        assert message.startswith(f"{tmp_path / 'w.jsonl'}:3: ") and words in message
    (tmp_path / "empty").mkdir()
    assert "config.json: not found" in fails(1, tmp_path / "empty", "--text", path)
    assert "no token" in fails(1, folder, "--text", as_jsonl(tmp_path / "n.jsonl", [""]), "--context", 8)
