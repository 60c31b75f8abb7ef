"""A tokenizer without transformers, whose import takes seconds: enough to count tokens for a plan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from qrft.errors import ModelError
from qrft.models.json_file import read_json
from qrft.models.loading import one_message
from qrft.models.prompts import load_tokenizer
from qrft.models.wording import CHAT, Wording

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class LightTokenizer:
    """tokenizer.json as the `tokenizers` package reads it, with what qrft.models.prompts asks of a tokenizer.

    It has no chat template. Raises ModelError or OSError for files that can't be read, and ValueError for a folder
    without an end-of-text token.
    """

    chat_template = None

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        self.name_or_path = str(folder)
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        config = read_json(folder / "tokenizer_config.json")
        self.bos_token, eos_token = _text(config.get("bos_token")), _text(config.get("eos_token"))
        self.bos_token_id = self._tokenizer.token_to_id(self.bos_token) if self.bos_token else None
        self.eos_token_id = self._tokenizer.token_to_id(eos_token) if eos_token else None
        if self.eos_token_id is None:
            raise ValueError(f"{folder}: has no end-of-text token")

    def __call__(
        self, text: str, add_special_tokens: bool = True, split_special_tokens: bool = False
    ) -> dict[str, list[int]]:
        self._tokenizer.encode_special_tokens = split_special_tokens
        return {"input_ids": self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids}

    def decode(self, token_ids: list[int]) -> str:
        return str(self._tokenizer.decode(token_ids, skip_special_tokens=False))


def load_light_tokenizer(folder: Path, wording: Wording) -> PreTrainedTokenizerBase:
    """Return a tokenizer for counting: a light one, or transformers' own where only that can read the folder, or apply
    the chat template. Raises ModelError as `load_tokenizer` does."""
    if wording.prompt != CHAT:
        try:
            with one_message(folder, "its tokenizer can't be read"):
                return cast("PreTrainedTokenizerBase", LightTokenizer(folder))
        except ModelError:  # transformers reads more forms, and says what is wrong
            pass
    return load_tokenizer(folder)


def _text(token: Any) -> str | None:
    """Return the text of a special token, which tokenizer_config.json holds as a text or as an object with it."""
    text = token.get("content") if isinstance(token, dict) else token
    return None if text is None else str(text)
