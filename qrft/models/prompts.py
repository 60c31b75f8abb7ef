"""Turn a question into a prompt and its token ids. Only this file does, for training, sampling and evaluation alike."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import Field

from qrft.errors import DataError, ModelError, UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Prompt = Literal["plain", "alpaca", "chat"]
PROMPT: Any = Field(
    default="plain",
    description="The wording of the prompt: the question and a line break (plain), the Alpaca template (alpaca), "
    "or the tokenizer's own chat template (chat).",
)

# "alpaca" is the paper's prompt (the Alpaca template without input); the answer follows it directly.
TEMPLATES = {
    "plain": "{question}\n",
    "alpaca": (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request."
        "\n\n### Instruction:\n{question}\n\n### Response:"
    ),
}
CHAT = "chat"  # the tokenizer's own template: the question is the user's turn, the completion the assistant's


# Stands between a solved example and what follows it, in a prompt with examples.
BETWEEN_EXAMPLES = "\n\n"

Solved = tuple[str, str]  # a question and its worked solution


class Example(NamedTuple):
    token_ids: list[int]
    prompt_length: int  # the loss is on the tokens after it


def load_tokenizer(model_dir: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model's folder.

    Raises ModelError when there is none that can be read, or one without an end-of-text token.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(model_dir)
    except Exception as error:  # the library raises many kinds for an unreadable folder
        raise ModelError(
            f"{model_dir}: its tokenizer can't be read ({str(error).splitlines()[0]}). "
            "Expected tokenizer.json and tokenizer_config.json; download the model again or name another folder."
        ) from error
    if tokenizer.eos_token_id is None:
        raise ModelError(
            f"{model_dir}: its tokenizer has no eos_token, so no sample could end. Set one in tokenizer_config.json."
        )
    return tokenizer


# ----------------------------------------------------------------------------------------------------------- texts ----


def prompt_text(
    question: str, template: str, examples: Sequence[Solved] = (), tokenizer: PreTrainedTokenizerBase | None = None
) -> str:
    """Write the examples, each as the template and its solution, then the template with the question.

    With "chat" the examples are earlier turns. Raises ModelError for a tokenizer without a chat template, UsageError
    for "chat" without a tokenizer.
    """
    if template == CHAT:
        turns = [turn for q, solution in examples for turn in (_turn("user", q), _turn("assistant", solution))]
        return _chat(tokenizer, [*turns, _turn("user", question)], is_open=True)
    solved = [TEMPLATES[template].format(question=q) + solution + BETWEEN_EXAMPLES for q, solution in examples]
    return "".join(solved) + TEMPLATES[template].format(question=question)


def text_for_server(text: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a prompt's text without the beginning-of-text token, which a server adds as the tokenizer does.

    Only a chat template spells it.
    """
    return text.removeprefix(str(tokenizer.bos_token)) if tokenizer.bos_token and _puts_bos(tokenizer) else text


def next_example(template: str) -> str | None:
    """Return how the next example begins: a model that was shown examples continues with its own.

    Returns None for "chat", where the answer's turn ends by itself.
    """
    return None if template == CHAT else BETWEEN_EXAMPLES + TEMPLATES[template].partition("{question}")[0]


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _chat(tokenizer: PreTrainedTokenizerBase | None, turns: list[dict[str, str]], *, is_open: bool) -> str:
    """Write the turns with the tokenizer's own template. is_open: end with the beginning of an assistant's turn."""
    if tokenizer is None:
        raise UsageError("prompt chat: a server has its own chat template. Give --chat instead of --prompt chat.")
    place = f"{tokenizer.name_or_path}: prompt chat"
    if not tokenizer.chat_template:
        raise ModelError(
            f"{place}: its tokenizer has no chat template. Choose prompt plain or alpaca, or a model that was tuned "
            "for chat, or put the template into the folder as chat_template.jinja."
        )
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=is_open)
    except Exception as error:  # a template is a program, which can raise anything
        raise ModelError(f"{place}: its chat template fails ({error}). Repair it, or choose prompt plain.") from error
    return str(text)


# ------------------------------------------------------------------------------------------------------- token ids ----


def prompt_ids(
    tokenizer: PreTrainedTokenizerBase, question: str, template: str, examples: Sequence[Solved] = ()
) -> list[int]:
    """Return the prompt's token ids, with exactly one beginning-of-text token if the tokenizer itself puts one.

    Raises DataError for a question that spells another one, and ModelError for a chat template that doubles it.
    """
    text = prompt_text(question, template, examples, tokenizer)
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    bos = tokenizer.bos_token_id
    if bos is None:
        return ids
    puts_bos = _puts_bos(tokenizer)
    if puts_bos and (template != CHAT or ids[:1] != [bos]):  # a chat template may add it too
        ids = [bos, *ids]
    _check_bos(tokenizer, ids, template, int(puts_bos))
    return ids


@lru_cache(maxsize=8)  # needed for every prompt
def _puts_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    return bool(tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id)


def _check_bos(tokenizer: PreTrainedTokenizerBase, ids: list[int], template: str, expected: int) -> None:
    """Count the beginnings. In a chat each turn may begin with one, so there only a doubled one is a fault."""
    bos, name = tokenizer.bos_token_id, tokenizer.bos_token
    if template == CHAT and ids[:2] == [bos, bos]:
        raise ModelError(f"{tokenizer.name_or_path}: its chat template begins with two {name}. Remove one of them.")
    if template != CHAT and ids.count(bos) != expected:
        raise DataError(
            f"a question spells the token that begins a text, {name}: {tokenizer.decode(ids)[:200]!r}. "
            "Remove it from the question."
        )


@lru_cache(maxsize=8)  # needed for every example
def end_id(tokenizer: PreTrainedTokenizerBase, template: str) -> int:
    """Return the token after a completion: end-of-text; in a chat, what ends the assistant's turn."""
    if template != CHAT:
        return int(tokenizer.eos_token_id)
    answer = "42"
    text = _chat(tokenizer, [_turn("user", "6 times 7?"), _turn("assistant", answer)], is_open=False)
    after: list[int] = tokenizer(text.rpartition(answer)[2], add_special_tokens=False)["input_ids"]
    ends = (token for token in after if token in tokenizer.all_special_ids or token in tokenizer.added_tokens_decoder)
    return next(ends, int(tokenizer.eos_token_id))


def end_ids(tokenizer: PreTrainedTokenizerBase, template: str) -> list[int]:
    """Return the tokens at which a sample is complete: a model may end a chat by end-of-text too."""
    return list(dict.fromkeys([end_id(tokenizer, template), int(tokenizer.eos_token_id)]))


def example(tokenizer: PreTrainedTokenizerBase, question: str, completion: str, template: str) -> Example:
    """Return prompt, completion and end, each tokenized apart so that the prompt's ids are those of sampling."""
    prompt = prompt_ids(tokenizer, question, template)
    answer: list[int] = tokenizer(completion, add_special_tokens=False)["input_ids"]
    return Example([*prompt, *answer, end_id(tokenizer, template)], len(prompt))
