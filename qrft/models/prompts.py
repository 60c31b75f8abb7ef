"""Turn a question into a prompt and its token ids. Only this file does, for training, sampling and evaluation alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from pydantic import Field

from qrft.errors import DataError, ModelError, UsageError
from qrft.grading.traces import TRACES, Traces
from qrft.models import loading, templates
from qrft.models.json_file import read_json

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
    tokenizer = loading.load_tokenizer(model_dir)
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

    With "chat" the examples are earlier turns. Raises ModelError for a tokenizer without a chat template or with one
    that fails, DataError for a turn that spells a control token, UsageError for "chat" without a tokenizer.
    """
    if template == CHAT:
        turns = [turn for q, solution in examples for turn in (_turn("user", q), _turn("assistant", solution))]
        turns.append(_turn("user", question))
        if tokenizer is not None:
            _refuse_control_tokens(tokenizer, turns)
        return _chat(tokenizer, turns, is_open=True)
    solved = [TEMPLATES[template].format(question=q) + solution + BETWEEN_EXAMPLES for q, solution in examples]
    return "".join(solved) + TEMPLATES[template].format(question=question)


def text_for_server(text: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a prompt's text without the beginning-of-text token, which a server adds as the tokenizer does.

    Only a chat template spells it.
    """
    return text.removeprefix(str(tokenizer.bos_token)) if tokenizer.bos_token and _puts_bos(tokenizer) else text


@lru_cache(maxsize=8)  # needed for every example
def opens_trace(tokenizer: PreTrainedTokenizerBase, template: str, traces: Traces = TRACES) -> bool:
    """Return whether a prompt ends with the tag that opens a reasoning trace, as some chat templates end it."""
    return template == CHAT and prompt_text("6 times 7?", CHAT, (), tokenizer).rstrip().endswith(traces.opening)


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
    place, own = f"{tokenizer.name_or_path}: prompt chat", tokenizer.chat_template
    if not own:
        raise ModelError(
            f"{place}: its tokenizer has no chat template. Choose prompt plain or alpaca, or a model that was tuned "
            "for chat, or put the template into the folder as chat_template.jinja."
        )
    try:
        chosen = str(own if isinstance(own, str) else tokenizer.get_chat_template())  # there may be several by name
        return templates.apply(chosen, turns, is_open=is_open, tokens=dict(tokenizer.special_tokens_map))
    except (templates.TemplateError, ValueError) as error:
        raise ModelError(f"{place}: its chat template fails ({error}). Repair it, or choose prompt plain.") from error


def _refuse_control_tokens(tokenizer: PreTrainedTokenizerBase, turns: Iterable[dict[str, str]]) -> None:
    """Raise DataError for a turn that spells a control token: a template's text can't say which are its own."""
    control = _control_tokens(tokenizer)
    for turn in turns:
        if spelled := next((token for token in control if token in turn["content"]), None):
            where = max(0, turn["content"].find(spelled) - 50)
            raise DataError(
                f"a text spells {spelled}, which means something to the model: {turn['content'][where:][:150]!r}. "
                "Remove it from the text, or choose prompt plain, which takes it as text."
            )


@lru_cache(maxsize=8)  # needed for every prompt
def _control_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    added = (token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
    return tuple(dict.fromkeys([*tokenizer.all_special_tokens, *added]))


# ------------------------------------------------------------------------------------------------------- token ids ----


def prompt_ids(
    tokenizer: PreTrainedTokenizerBase, question: str, template: str, examples: Sequence[Solved] = ()
) -> list[int]:
    """Return the prompt's token ids, with exactly one beginning-of-text token if the tokenizer itself puts one.

    A control token that a question spells is only text, or DataError says so in a chat. Raises ModelError for a chat
    template that doubles the beginning.
    """
    text = prompt_text(question, template, examples, tokenizer)
    ids = _ids(tokenizer, text, has_control=template == CHAT)
    bos = tokenizer.bos_token_id
    if bos is None:
        return ids
    if _puts_bos(tokenizer) and (template != CHAT or ids[:1] != [bos]):  # a chat template may add it too
        ids = [bos, *ids]
    if ids[:2] == [bos, bos]:
        name = tokenizer.bos_token
        raise ModelError(f"{tokenizer.name_or_path}: its chat template begins with two {name}. Remove one of them.")
    return ids


def _ids(tokenizer: PreTrainedTokenizerBase, text: str, *, has_control: bool = False) -> list[int]:
    """Return the token ids of a text; a control token that it spells is one only where `has_control`."""
    with loading.one_message(tokenizer.name_or_path, "its tokenizer fails on a text"):
        ids = tokenizer(text, add_special_tokens=False, split_special_tokens=not has_control)["input_ids"]
    return cast(list[int], ids)


@lru_cache(maxsize=8)  # needed for every prompt
def _puts_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    return bool(tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id)


@lru_cache(maxsize=8)  # needed for every example
def end_id(tokenizer: PreTrainedTokenizerBase, template: str) -> int:
    """Return the token after a completion: end-of-text; in a chat, what ends the assistant's turn."""
    if template != CHAT:
        return int(tokenizer.eos_token_id)
    answer = "42"
    text = _chat(tokenizer, [_turn("user", "6 times 7?"), _turn("assistant", answer)], is_open=False)
    after = _ids(tokenizer, text.rpartition(answer)[2], has_control=True)
    ends = (token for token in after if token in tokenizer.all_special_ids or token in tokenizer.added_tokens_decoder)
    return next(ends, int(tokenizer.eos_token_id))


def end_ids(tokenizer: PreTrainedTokenizerBase, template: str) -> list[int]:
    """Return the tokens at which a sample is complete: the template's end of a turn, the tokenizer's end of text, and
    those of generation_config.json, which instruct models list there."""
    return list(_ends(tokenizer, template))


@lru_cache(maxsize=8)  # needed for every example
def _ends(tokenizer: PreTrainedTokenizerBase, template: str) -> dict[int, str]:
    """Return the ends with the texts that spell them."""
    listed = _generation_ends(Path(tokenizer.name_or_path))
    ends = dict.fromkeys([end_id(tokenizer, template), int(tokenizer.eos_token_id), *listed])
    with loading.one_message(tokenizer.name_or_path, "its tokenizer can't spell the ends of a text"):
        return {end: str(tokenizer.decode([end])) for end in ends}


def _generation_ends(folder: Path) -> list[int]:
    """Return the ends that a model's folder lists for generating: transformers looks into config.json last."""
    for path in (folder / "generation_config.json", folder / "config.json"):
        ends = read_json(path).get("eos_token_id") if path.is_file() else None
        if ends is not None:
            ends = ends if isinstance(ends, list) else [ends]
            if not all(type(end) is int and 0 <= end < 2**31 for end in ends):
                raise ModelError(
                    f"{path}: eos_token_id: found {str(ends)[:80]}. Expected a token id, or a list of them; download "
                    "the model again."
                )
            return ends
    return []


def example(tokenizer: PreTrainedTokenizerBase, question: str, completion: str, template: str) -> Example:
    """Return prompt, completion and end, each tokenized apart so that the prompt's ids are those of sampling."""
    prompt = prompt_ids(tokenizer, question, template)
    answer = _ids(tokenizer, _without_end(tokenizer, completion, template))
    return Example([*prompt, *answer, end_id(tokenizer, template)], len(prompt))


def _without_end(tokenizer: PreTrainedTokenizerBase, completion: str, template: str) -> str:
    """Leave out an end that the data spells at the end of a completion: one is put there anyway."""
    kept = completion.rstrip()
    spelled = next((name for name in _ends(tokenizer, template).values() if name and kept.endswith(name)), None)
    return kept.removesuffix(spelled) if spelled else completion
