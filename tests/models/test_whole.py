"""A base model's folder is checked once, before any work, for whatever reads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.commands import fails
from helpers.models import KINDS, make_model
from safetensors.numpy import load_file, save_file

from qrft.errors import ModelError
from qrft.models.any_shape import read_shape
from qrft.models.find import find_model
from qrft.models.weights import open_weights

DOWN = "model.layers.1.mlp.down_proj.weight"
HEAD, EMBEDDINGS = "lm_head.weight", "model.embed_tokens.weight"


def change_weights(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("kind", KINDS)
def test_the_expected_tensors_are_those_that_transformers_saves(kind: str, tmp_path: Path) -> None:
    folder = find_model(str(make_model(tmp_path, kind)))
    shapes = {name: ref.shape for name, ref in open_weights(folder).items() if name != HEAD}
    assert shapes == read_shape(folder).tensors


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a weight is missing": (
        lambda folder: change_weights(folder, lambda tensors: tensors.pop(DOWN)),
        rf"its files lack {DOWN}\. Expected every weight",
    ),
    "a weight is empty, as ZeRO-3 saves it": (
        lambda folder: change_weights(folder, lambda tensors: tensors.update({DOWN: np.zeros(0, np.float32)})),
        rf"{DOWN} is \(0,\), but config.json asks for \(64, 96\)",
    ),
    "another head under tied embeddings": (
        lambda folder: change_weights(folder, lambda tensors: tensors.update({HEAD: tensors[EMBEDDINGS] + 1})),
        rf"{HEAD} differs from {EMBEDDINGS}, .* set tie_word_embeddings to false in config.json",
    ),
    "no head": (lambda folder: change_config(folder, tie_word_embeddings=False), rf"its files lack {HEAD}\."),
    "an adapter in the folder": (
        lambda folder: (folder / "adapter_config.json").write_text("{}"),
        r"holds an adapter .*Name the base",
    ),
    "weights under another name": (
        lambda folder: change_config(folder, transformers_weights="other.safetensors"),
        r"transformers_weights names weights .*Remove the key",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_folder_that_is_not_whole_is_refused_by_name(fault: str, tmp_path: Path) -> None:
    folder = make_model(tmp_path, "llama-tied")
    make, message = FAULTS[fault]
    make(folder)
    with pytest.raises(ModelError, match=message):
        find_model(str(folder))


def test_a_copy_of_the_tied_embeddings_is_no_head_of_its_own(tmp_path: Path) -> None:
    folder = make_model(tmp_path, "llama-tied")
    change_weights(folder, lambda tensors: tensors.update({HEAD: tensors[EMBEDDINGS].copy()}))
    assert find_model(str(folder)) == folder


def test_two_sets_of_weights_are_refused_with_what_to_remove(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model", "qwen3")  # in shards
    older = make_model(tmp_path / "older", "llama-tied")
    (older / "model.safetensors").rename(folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"model.safetensors: a second set of weights beside model.safetensors.index"):
        find_model(str(folder))


def test_a_weight_in_two_shards_is_refused_with_both(tmp_path: Path) -> None:
    folder = make_model(tmp_path, "qwen3")
    shards = sorted(folder.glob("*.safetensors"))
    save_file({**load_file(shards[1]), **load_file(shards[0])}, shards[1])
    with pytest.raises(ModelError, match=rf"{shards[1].name}: holds .*, which {shards[0].name} holds too"):
        find_model(str(folder))


def test_every_command_refuses_a_folder_that_lacks_a_weight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    change_weights(make_model(Path("model")), lambda tensors: tensors.pop(DOWN))
    Path("rows.jsonl").write_text('{"question": "3 and 4?", "completion": "#### 7"}\n')
    Path("problems.jsonl").write_text('{"problem_id": "a", "question": "3 and 4?", "answer": "7"}\n')
    Path("text.txt").write_text("Tom has 12 apples.\n")
    recipe = "{name: run, base_model: model, problems: {train: problems.jsonl, test: problems.jsonl}}"
    Path("recipe.yaml").write_text(recipe)
    for words in (
        ["train", "model", "--data", "rows.jsonl", "-o", "adapter"],
        ["sample", "model", "--problems", "problems.jsonl", "-k", "1", "-o", "samples"],
        ["sample", "model", "--sampler", "transformers", "--problems", "problems.jsonl", "-k", "1", "-o", "samples"],
        ["loss", "model", "--text", "text.txt", "--context", "64"],
        ["run", "recipe.yaml"],
        ["plan", "recipe.yaml"],
    ):
        assert f"its files lack {DOWN}." in fails(1, *words), words


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": 10**7}, r"num_hidden_layers: found 10000000\. Expected a whole number from 1 to 10,000"),
        ({"num_key_value_heads": 3}, r"num_key_value_heads: found 3, which does not divide the 4 heads"),
        ({"hidden_size": "64"}, r"hidden_size: found 64\. Expected a whole number"),
        ({"vocab_size": -1}, r"vocab_size: found -1\."),
        ({"num_attention_heads": True}, r"num_attention_heads: found True\."),
        ({"intermediate_size": 96.5}, r"intermediate_size: found 96\.5\."),
        ({"head_dim": 15}, r"head_dim.*found 15\. Expected an even number"),
        ({"max_position_embeddings": "long"}, r"max_position_embeddings: found long\."),
        ({"num_labels": 10**9}, r"num_labels: found 1000000000\."),
        ({"model_type": ["llama"]}, r"found the model_type \"\['llama'\]\""),
        ({"architectures": {"a": 1}}, r"the architecture is none"),
        ({"hidden_size": None}, r"hidden_size: found None\."),
        ({"attention_dropout": None}, r"attention_dropout: found None\. Expected a number from 0"),
        ({"rms_norm_eps": float("inf")}, r"rms_norm_eps: found inf\."),
    ],
)
def test_sizes_that_can_not_be_are_refused_by_name(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = make_model(tmp_path)
    change_config(folder, **changes)
    with pytest.raises(ModelError, match=message):
        find_model(str(folder))


def write_header(folder: Path, header: Any, data: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = folder / "model.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def tensor(first: Any, last: Any, shape: Any = (2,), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [first, last]}


@pytest.mark.parametrize(
    "header",
    [
        {"a": tensor(8, 0)},
        {"a": tensor(-8, 0)},
        {"a": tensor(0, 8), "b": tensor(4, 12)},
        {"a": tensor(0, 8), "b": tensor(0, 8)},
        {"a": tensor(4, 12)},
        {"a": tensor(0, 8, [2, 2])},
        {"a": tensor(0, 8, ["2"])},
        {"a": tensor(0.0, 8.0)},
        {"a": tensor(0, 8, [-1, -2])},
        {"a": tensor(0, 8, [2**62, 2**62])},
        {"a": tensor(True, 8)},
        {"a": tensor(0, 8, {"x": 1})},
        {"a": [0, 8]},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": 8}},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4, 8]}},
        ["a"],
        b"{" * 4,
        b"[" * 100_000,
        b'{"a": ' * 100_000,
        b"\xff\xfe",
    ],
    ids=lambda header: str(header)[:40],
)
def test_a_header_that_is_not_sound_is_one_message(header: Any, tmp_path: Path) -> None:
    write_header(tmp_path, header, bytes(8))
    with pytest.raises(ModelError, match=r"model\.safetensors: .*(Copy or download)"):
        open_weights(tmp_path)


def test_a_huge_header_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.write((2**33).to_bytes(8, "little"))
        file.truncate(2**34)  # sparse
    with pytest.raises(ModelError, match=r"found a header of 8,589,934,592 bytes, expected 33,554,432 at most"):
        open_weights(tmp_path)


@pytest.mark.parametrize(
    "name", [3, None, ["a"], "../outside.safetensors", "/etc/passwd", "sub/a.safetensors", "a.bin"]
)
def test_an_index_that_names_no_file_of_its_folder_is_refused(name: Any, tmp_path: Path) -> None:
    (tmp_path / "outside.safetensors").write_bytes(b"")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(ModelError, match=r"weight_map: found .*Expected the name of a \*\.safetensors file in this"):
        open_weights(folder)
