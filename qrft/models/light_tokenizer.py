"""A tokenizer without transformers, whose import takes seconds: enough to count tokens for a plan."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from qrft.data.file_hashes import states
from qrft.errors import ModelError
from qrft.models.json_file import read_json
from qrft.models.loading import one_message
from qrft.models.prompts import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# The special tokens that have a name, which chat templates read.
NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class LightTokenizer:
    """tokenizer.json as the `tokenizers` package reads it, with what qrft.models.prompts asks of a tokenizer.

    Raises ModelError or OSError for files that can't be read, and ValueError for a folder without an end-of-text token,
    or with several chat templates.
    """

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        self.name_or_path = str(folder)
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        config = read_json(folder / "tokenizer_config.json")
        named = {name: _text(config.get(name)) for name in NAMED}
        self.special_tokens_map = {name: token for name, token in named.items() if token is not None}
        self.all_special_tokens = list(dict.fromkeys(self.special_tokens_map.values()))
        self.all_special_ids = [self._tokenizer.token_to_id(token) for token in self.all_special_tokens]
        self.added_tokens_decoder = self._tokenizer.get_added_tokens_decoder()
        self.bos_token = named["bos_token"]
        self.bos_token_id, self.eos_token_id = self._id(self.bos_token), self._id(named["eos_token"])
        if self.eos_token_id is None:
            raise ValueError(f"{folder}: has no end-of-text token")
        self.chat_template = _chat_template(folder, config)

    def _id(self, token: str | None) -> int | None:
        return None if token is None else self._tokenizer.token_to_id(token)

    def __call__(
        self, text: str, add_special_tokens: bool = True, split_special_tokens: bool = False
    ) -> dict[str, list[int]]:
        self._tokenizer.encode_special_tokens = split_special_tokens
        return {"input_ids": self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids}

    def decode(self, token_ids: list[int]) -> str:
        return str(self._tokenizer.decode(token_ids, skip_special_tokens=False))


def load_light_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Return a tokenizer for counting: a light one, or transformers' own where only that can read the folder. Raises
    ModelError as `load_tokenizer` does."""
    return _load(folder, states(folder))


@lru_cache(maxsize=8)  # a plan asks for each of its trainings
def _load(folder: Path, files: object) -> PreTrainedTokenizerBase:
    try:
        with one_message(folder, "its tokenizer can't be read"):
            return cast("PreTrainedTokenizerBase", LightTokenizer(folder))
    except ModelError:  # transformers reads more forms, and says what is wrong
        return load_tokenizer(folder)


def _text(token: Any) -> str | None:
    """Return the text of a special token, which tokenizer_config.json holds as a text or as an object with it."""
    text = token.get("content") if isinstance(token, dict) else token
    return None if text is None else str(text)


def _chat_template(folder: Path, config: dict[str, Any]) -> str | None:
    """Return the template of a file of its own, which comes before that of tokenizer_config.json."""
    file = folder / "chat_template.jinja"
    template = file.read_text(encoding="utf-8") if file.is_file() else config.get("chat_template")
    if not isinstance(template, str | None) or (folder / "additional_chat_templates").exists():
        raise ValueError(f"{folder}: has several chat templates")
    return template
