"""Write the vocabulary inside a GGUF. The sampler never reads it: it is for people who chat with the export."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qrft.models.json_file import read_json
from qrft.models.loading import one_message

if TYPE_CHECKING:
    import gguf

_BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")


def add_vocabulary(writer: gguf.GGUFWriter, folder: Path, vocab_size: int) -> None:
    """Write tokens, merges and special tokens from tokenizer.json, padded or cut to `vocab_size`.

    A folder without tokenizer.json, or with one that llama.cpp can't read, which is neither byte-level BPE with merges
    nor SentencePiece-style BPE, gets a GGUF without a vocabulary: it can be sampled from all the same, but not chatted
    with.
    Raises ModelError for a broken file.
    """
    path = folder / "tokenizer.json"
    tokenizer = read_json(path) if path.is_file() else {}
    with one_message(path, "its vocabulary can't be read"):
        _add(writer, folder, tokenizer, vocab_size)


def _add(writer: gguf.GGUFWriter, folder: Path, tokenizer: dict[str, Any], vocab_size: int) -> None:
    kind = _kind(tokenizer)
    writer.add_tokenizer_model(kind)
    if kind == "no_vocab":
        return
    import gguf

    tokens, types = _tokens(tokenizer, vocab_size, is_sentencepiece=kind == "llama")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    if kind == "gpt2":
        writer.add_tokenizer_pre(_pre_tokenizer(tokenizer))
    else:
        writer.add_token_scores(_scores(tokenizer, tokens))
        writer.add_add_space_prefix("▁" in json.dumps(tokenizer.get("normalizer"), ensure_ascii=False))
    special = gguf.SpecialVocab(folder, load_merges=kind == "gpt2", n_vocab=vocab_size)
    special.add_to_gguf(writer, quiet=True)


def _kind(tokenizer: dict[str, Any]) -> str:
    model = tokenizer.get("model", {})
    if model.get("type") != "BPE":
        return "no_vocab"
    if model.get("byte_fallback"):
        return "llama"
    is_byte_level = "ByteLevel" in json.dumps(tokenizer.get("decoder"))
    return "gpt2" if is_byte_level and model.get("merges") else "no_vocab"


def _tokens(tokenizer: dict[str, Any], vocab_size: int, is_sentencepiece: bool) -> tuple[list[str], list[int]]:
    from gguf import TokenType

    tokens = [f"[PAD{i}]" for i in range(vocab_size)]
    types = [int(TokenType.UNUSED)] * vocab_size
    for token, index in tokenizer["model"]["vocab"].items():
        if index < vocab_size:
            is_byte = is_sentencepiece and _BYTE_TOKEN.fullmatch(token)
            tokens[index], types[index] = token, int(TokenType.BYTE if is_byte else TokenType.NORMAL)
    for added in tokenizer.get("added_tokens", []):
        if added["id"] < vocab_size:
            tokens[added["id"]] = added["content"]
            types[added["id"]] = int(TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED)
    unknown = tokenizer["model"].get("unk_token")
    if is_sentencepiece and unknown in tokens:
        types[tokens.index(unknown)] = int(TokenType.UNKNOWN)
    return tokens, types


def _scores(tokenizer: dict[str, Any], tokens: list[str]) -> list[float]:
    """Score the tokens: llama.cpp merges the neighbours of the highest score, so the first merge gets the highest."""
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(tokenizer["model"]["merges"]):
        ranks.setdefault(merge.replace(" ", "") if isinstance(merge, str) else "".join(merge), rank)
    return [-float(ranks.get(token, len(ranks))) for token in tokens]


def _pre_tokenizer(tokenizer: dict[str, Any]) -> str:
    """Return llama.cpp's name for the rule that splits a text into words, recognised by where common ones differ."""
    rule = json.dumps(tokenizer.get("pre_tokenizer"))
    if r"\\p{N}{1,3}" in rule:
        return "llama-bpe"
    if r"|\\p{N}|" in rule:
        return "qwen2"
    if '"Digits"' in rule:
        return "smollm"
    return "gpt-2" if '"use_regex": true' in rule else "default"
