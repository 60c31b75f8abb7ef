"""Write the vocabulary inside a GGUF, and how it is asked. The sampler reads neither: they are for people who chat with
the export."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from qrft.errors import ModelError
from qrft.models.json_file import read_json
from qrft.models.loading import one_message

if TYPE_CHECKING:
    import gguf

_BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")


class Asked(NamedTuple):
    """How a model is asked: its chat template, whether the tokenizer begins a text with `bos`, its end-of-text token,
    and the token that ends an answer."""

    template: str
    puts_bos: bool
    bos: int | None
    eos: int
    end: int


def add_vocabulary(writer: gguf.GGUFWriter, folder: Path, vocab_size: int, asked: Asked | None = None) -> None:
    """Write tokens, merges and special tokens from tokenizer.json, padded or cut to `vocab_size`.

    A folder without tokenizer.json, or with one that llama.cpp can't read, which is neither byte-level BPE with merges
    nor SentencePiece-style BPE, gets a GGUF without a vocabulary: it can be sampled from all the same, but not chatted
    with. `asked`: None for what the folder itself says.
    Raises ModelError for a broken file, and with `asked` for a vocabulary that can't be written.
    """
    path = folder / "tokenizer.json"
    tokenizer = read_json(path) if path.is_file() else {}
    with one_message(path, "its vocabulary can't be read"):
        _add(writer, folder, tokenizer, vocab_size, asked)


def _add(
    writer: gguf.GGUFWriter, folder: Path, tokenizer: dict[str, Any], vocab_size: int, asked: Asked | None
) -> None:
    kind = _kind(tokenizer)
    writer.add_tokenizer_model(kind)
    if kind == "no_vocab":
        if asked:
            raise ModelError(
                f"{folder}: its tokenizer is neither byte-level BPE with merges nor SentencePiece's BPE, so llama.cpp "
                "could not read a text with it. Export the model with --to merged."
            )
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
    if asked:
        _set_asked(special, asked)
    special.add_to_gguf(writer, quiet=True)


def _set_asked(special: gguf.SpecialVocab, asked: Asked) -> None:
    """Set what ends an answer as the end of a turn: a template may spell the end of a text elsewhere."""
    special.chat_template = asked.template
    special.special_token_ids |= {"eos": asked.eos, "eot": asked.end}
    if asked.bos is not None:
        special.special_token_ids["bos"] = asked.bos
    special.add_special_token = {"bos": asked.puts_bos, "eos": False}


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
