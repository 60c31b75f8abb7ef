"""A Hugging Face folder made of a GGUF file by transformers, so that a model at hand only as GGUF can be trained.

transformers ignores what it does not know of a file: a rule that splits words, a scaling of rotary frequencies. So the
folder is kept only if llama.cpp, which reads the file itself, has the same tokens and the same logits.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qrft.data.disk import cache_folder, whole_folder
from qrft.data.file_hashes import file_hash
from qrft.data.made_once import made_once
from qrft.errors import ModelError
from qrft.models.architectures import ARCHITECTURES, architecture_name
from qrft.models.gguf.header import Header, Precision, read_header
from qrft.models.json_file import read_json
from qrft.models.loading import load_gguf, load_tokenizer

log = logging.getLogger(__name__)
VERSION = 1  # of the folders: raise it when the same file would give another one
# What a folder holds its numbers in. The scales of quantised weights are numbers of 16 bits, which float16 keeps best.
_DTYPES: dict[Precision, str] = {"f32": "float32", "bf16": "bfloat16"}
_DIGITS_APART = frozenset({"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone"})  # then GPT-2's rule
_MAX_KL = 0.05  # nats a position; llama.cpp rounds what it multiplies with quantised weights to 8 bits
_WAY_OUT = "Name the model's Hugging Face folder instead."
TEXTS = (
    "Tom has 1234 apples and 3.5 pears; he pays $12.50 + 7% = 13.375. How many are left after 10 days?",
    "  Two  spaces,\tone tab\n\n\n  x=12+7\r\nIt's naïve: 日本語, Ωmega, 😀 1,000,000 a1b22",
)


def dequantized(file: Path, cache_dir: Path | None = None) -> Path:
    """Return the Hugging Face folder of a GGUF file, made once and kept in a cache by the file's hash.

    cache_dir: None for the user's own. Memory: the whole model in 16 bits, or in 32 where the file has that.
    Raises ModelError for a file that is not a whole GGUF model, an architecture that transformers can't dequantise, and
    a folder that would not be the file's model; StoreError for a full or read-only disk.
    """
    header = read_header(file)
    if header.metadata.get("general.type", "model") != "model":
        raise ModelError(f"{file}: holds {header.metadata['general.type']!r}, expected a model. Name a base model.")
    digest = hashlib.blake2b(f"{VERSION} {file_hash(file)}".encode(), digest_size=10).hexdigest()
    out = (cache_dir or cache_folder() / "models") / f"{file.stem}-{digest}"
    return made_once(out, lambda: _make(header, out))


def _make(header: Header, out: Path) -> None:
    log.warning("%s: is made a Hugging Face folder once: %s", header.path, out)
    with whole_folder(out) as folder:
        model, tokenizer = load_gguf(header.path, _DTYPES.get(header.precision, "float16"))
        _set_splits(tokenizer, str(header.metadata.get("tokenizer.ggml.pre")))
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        del model
        _check(header, folder)


def _set_splits(tokenizer: Any, rule: str) -> None:
    """Split digits apart where the file's rule does, of which transformers knows nothing."""
    from tokenizers import pre_tokenizers

    if rule in _DIGITS_APART:
        parts = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(parts)


def _check(header: Header, folder: Path) -> None:
    """Raise ModelError unless llama.cpp finds the folder's tokens and logits in the file."""
    from qrft.sampling.backends.llama_cpp.process import LlamaProcess

    tokenizer = load_tokenizer(folder)
    with LlamaProcess(header.path) as process:
        expected = process.tokens(TEXTS)
    prompts = [tokenizer(text, split_special_tokens=True)["input_ids"] for text in TEXTS]
    if prompts != expected:
        raise ModelError(
            f"{header.path}: transformers splits texts into other tokens than llama.cpp: its rule "
            f"{header.metadata.get('tokenizer.ggml.pre', 'none')!r} is not known. {_WAY_OUT}"
        )
    if tokenizer.chat_template != header.metadata.get("tokenizer.chat_template"):
        raise ModelError(f"{header.path}: transformers has another chat template than the file. {_WAY_OUT}")
    if architecture_name(read_json(folder / "config.json")) in ARCHITECTURES:
        _check_logits(header.path, folder, prompts)


def _check_logits(file: Path, folder: Path, prompts: Sequence[list[int]]) -> None:
    from qrft.models.gguf.parity import check_parity

    agreement = check_parity(folder, file, None, None, list(prompts))
    if not agreement["mean_kl"] <= _MAX_KL:
        raise ModelError(
            f"{file}: transformers' model of it and llama.cpp's disagree: the mean KL divergence over "
            f"{agreement['num_positions']} positions is {agreement['mean_kl']:.3g} nats, expected {_MAX_KL:g} at most. "
            f"{_WAY_OUT}"
        )
