"""Turn a question into a prompt and its token ids. Only this file does, for training, sampling and evaluation alike."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from qrft.config.messages import did_you_mean
from qrft.data.file_hashes import states
from qrft.errors import DataError, ModelError, UsageError
from qrft.grading.traces import TRACES, Traces
from qrft.models import loading, templates
from qrft.models.json_file import read_json
from qrft.models.wording import CHAT, Wording

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# "alpaca" is the paper's prompt (the Alpaca template without input); the answer follows it directly.
TEMPLATES = {
    "plain": "{question}\n",
    "alpaca": (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request."
        "\n\n### Instruction:\n{question}\n\n### Response:"
    ),
}

ASKED = "6 times 7?"  # a question by which it is seen what a template writes
_NO_SYSTEM = "Leave system out, or put its text before each question in the data."

# Stands between a solved example and what follows it, in a prompt with examples.
BETWEEN_EXAMPLES = "\n\n"

Solved = tuple[str, str]  # a question and its worked solution


class Example(NamedTuple):
    token_ids: list[int]
    prompt_length: int  # the loss is on the tokens after it


def load_tokenizer(model_dir: Path) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a model's folder, which nobody may change: all who ask share it, while its files stay.

    The words that a tokenizer has split are kept for good by the library that does it, apart for each tokenizer, so a
    process that trains again and again would grow. Raises ModelError when there is none that can be read, or one
    without an end-of-text token.
    """
    return _load_tokenizer(model_dir, states(model_dir))


@lru_cache(maxsize=8)
def _load_tokenizer(model_dir: Path, files: object) -> PreTrainedTokenizerBase:
    tokenizer = loading.load_tokenizer(model_dir)
    if tokenizer.eos_token_id is None:
        raise ModelError(
            f"{model_dir}: its tokenizer has no eos_token, so no sample could end. Set one in tokenizer_config.json."
        )
    return tokenizer


# ----------------------------------------------------------------------------------------------------------- texts ----


def prompt_text(
    question: str, wording: Wording, examples: Sequence[Solved] = (), tokenizer: PreTrainedTokenizerBase | None = None
) -> str:
    """Write the examples, each as the template and its solution, then the template with the question.

    With "chat" the examples are earlier turns, and a system turn comes first if there is one. Raises ModelError for a
    tokenizer without a chat template or with one that fails or refuses the system turn, DataError for a turn that
    spells a control token, UsageError for "chat" without a tokenizer.
    """
    if wording.prompt == CHAT:
        return _chat(tokenizer, [*dialogue(examples), turn("user", question)], wording, is_open=True)
    template = TEMPLATES[wording.prompt]
    solved = [template.format(question=q) + solution + BETWEEN_EXAMPLES for q, solution in examples]
    return "".join(solved) + template.format(question=question)


def text_for_server(text: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a prompt's text without the beginning-of-text token, which a server adds as the tokenizer does.

    Only a chat template spells it.
    """
    return text.removeprefix(str(tokenizer.bos_token)) if tokenizer.bos_token and puts_bos(tokenizer) else text


@lru_cache(maxsize=8)  # needed for every example
def opens_trace(tokenizer: PreTrainedTokenizerBase, wording: Wording, traces: Traces = TRACES) -> bool:
    """Return whether a prompt ends with the tag that opens a reasoning trace, as some chat templates end it."""
    return wording.prompt == CHAT and _after_question(tokenizer, wording).rstrip().endswith(traces.opening)


def told_ends(tokenizer: PreTrainedTokenizerBase, wording: Wording) -> str:
    """Say how the prompts of a chat end and what ends an answer, for people."""
    opening, end = _after_question(tokenizer, wording), tokenizer.decode([end_id(tokenizer, wording)])
    return f"Prompts end with {json.dumps(opening, ensure_ascii=False)}, answers end with {end}."


def _after_question(tokenizer: PreTrainedTokenizerBase, wording: Wording) -> str:
    return prompt_text(ASKED, wording, (), tokenizer).rpartition(ASKED)[2]


def next_example(wording: Wording) -> str | None:
    """Return how the next example begins: a model that was shown examples continues with its own.

    Returns None for "chat", where the answer's turn ends by itself.
    """
    return None if wording.prompt == CHAT else BETWEEN_EXAMPLES + TEMPLATES[wording.prompt].partition("{question}")[0]


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def dialogue(examples: Iterable[Solved]) -> list[dict[str, str]]:
    return [one for question, solution in examples for one in (turn("user", question), turn("assistant", solution))]


def system_turns(wording: Wording) -> list[dict[str, str]]:
    """Return the turn that a conversation begins with, or none."""
    return [] if wording.system is None else [turn("system", wording.system)]


def _chat(
    tokenizer: PreTrainedTokenizerBase | None, turns: list[dict[str, str]], wording: Wording, *, is_open: bool
) -> str:
    """Write the turns, behind the system turn, with the tokenizer's own template. is_open: end with the beginning of
    an assistant's turn."""
    if tokenizer is None:
        raise UsageError("prompt chat: a server has its own chat template. Give --chat instead of --prompt chat.")
    place, template = f"{tokenizer.name_or_path}: prompt chat", own_template(tokenizer)
    whole = [*system_turns(wording), *turns]
    _refuse_control_tokens(tokenizer, whole)
    apply = partial(templates.apply, template, is_open=is_open, tokens=dict(tokenizer.special_tokens_map))
    args = wording.chat_template_args or {}
    try:
        _refuse_unread(place, template, args)
        text = apply(whole, args=args)
    except templates.TemplateError as error:
        if wording.system is not None and _is_written(apply, turns, args):
            raise ModelError(f"{place}: its chat template takes no system turn ({error}). {_NO_SYSTEM}") from error
        raise ModelError(f"{place}: its chat template fails ({error}). Repair it, or choose prompt plain.") from error
    if wording.system is not None and wording.system.strip() not in text:
        raise ModelError(f"{place}: its chat template leaves the system turn out. {_NO_SYSTEM}")
    return text


def own_template(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the chat template of a tokenizer. Raises ModelError where there is none."""
    place, own = f"{tokenizer.name_or_path}: prompt chat", tokenizer.chat_template
    if not own:
        raise ModelError(
            f"{place}: its tokenizer has no chat template. Choose prompt plain or alpaca, or a model that was tuned "
            "for chat, or put the template into the folder as chat_template.jinja."
        )
    try:
        return str(own if isinstance(own, str) else tokenizer.get_chat_template())  # there may be several by name
    except ValueError as error:
        raise ModelError(f"{place}: its chat template fails ({error}). Repair it, or choose prompt plain.") from error


def _is_written(apply: Callable[..., str], turns: list[dict[str, str]], args: Mapping[str, Any]) -> bool:
    try:
        apply(turns, args=args)
    except templates.TemplateError:
        return False
    return True


def _refuse_unread(place: str, template: str, args: Mapping[str, Any]) -> None:
    """Raise ModelError for an argument that the template does not read: it would change nothing."""
    known = templates.arguments(template) if args else frozenset()
    for name in args.keys() - known:
        others = f"It reads {', '.join(sorted(known))}." if known else "It reads none. Leave it out."
        raise ModelError(
            f"{place}: its chat template does not read chat_template_args.{name}. {did_you_mean(name, known)}{others}"
        )


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
    tokenizer: PreTrainedTokenizerBase, question: str, wording: Wording, examples: Sequence[Solved] = ()
) -> list[int]:
    """Return the prompt's token ids, with exactly one beginning-of-text token if the tokenizer itself puts one.

    A control token that a question spells is only text, or DataError says so in a chat. Raises ModelError for a chat
    template that doubles the beginning.
    """
    text = prompt_text(question, wording, examples, tokenizer)
    ids = text_ids(tokenizer, text, has_control=wording.prompt == CHAT)
    bos = tokenizer.bos_token_id
    if bos is None:
        return ids
    if puts_bos(tokenizer) and (wording.prompt != CHAT or ids[:1] != [bos]):  # a chat template may add it too
        ids = [bos, *ids]
    if ids[:2] == [bos, bos]:
        name = tokenizer.bos_token
        raise ModelError(f"{tokenizer.name_or_path}: its chat template begins with two {name}. Remove one of them.")
    return ids


def text_ids(tokenizer: PreTrainedTokenizerBase, text: str, *, has_control: bool = False) -> list[int]:
    """Return the token ids of a text; a control token that it spells is one only where `has_control`."""
    with loading.one_message(tokenizer.name_or_path, "its tokenizer fails on a text"):
        ids = tokenizer(text, add_special_tokens=False, split_special_tokens=not has_control)["input_ids"]
    return cast(list[int], ids)


@lru_cache(maxsize=8)  # needed for every prompt
def puts_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return whether the tokenizer itself begins a text with the beginning-of-text token."""
    return bool(tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id)


@lru_cache(maxsize=8)  # needed for every example
def end_id(tokenizer: PreTrainedTokenizerBase, wording: Wording) -> int:
    """Return the token after a completion: end-of-text; in a chat, what ends the assistant's turn."""
    if wording.prompt != CHAT:
        return int(tokenizer.eos_token_id)
    answer = "42"
    text = _chat(tokenizer, [turn("user", ASKED), turn("assistant", answer)], wording, is_open=False)
    after = text_ids(tokenizer, text.rpartition(answer)[2], has_control=True)
    ends = (token for token in after if token in tokenizer.all_special_ids or token in tokenizer.added_tokens_decoder)
    return next(ends, int(tokenizer.eos_token_id))


def end_ids(tokenizer: PreTrainedTokenizerBase, wording: Wording) -> list[int]:
    """Return the tokens at which a sample is complete: the template's end of a turn, the tokenizer's end of text, and
    those of generation_config.json, which instruct models list there."""
    return list(_ends(tokenizer, wording))


@lru_cache(maxsize=8)  # needed for every example
def _ends(tokenizer: PreTrainedTokenizerBase, wording: Wording) -> dict[int, str]:
    """Return the ends with the texts that spell them."""
    listed = _generation_ends(Path(tokenizer.name_or_path))
    ends = dict.fromkeys([end_id(tokenizer, wording), int(tokenizer.eos_token_id), *listed])
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


def example(tokenizer: PreTrainedTokenizerBase, question: str, completion: str, wording: Wording) -> Example:
    """Return prompt, completion and end, each tokenized apart so that the prompt's ids are those of sampling."""
    prompt = prompt_ids(tokenizer, question, wording)
    answer = text_ids(tokenizer, _without_end(tokenizer, completion, wording))
    return Example([*prompt, *answer, end_id(tokenizer, wording)], len(prompt))


def _without_end(tokenizer: PreTrainedTokenizerBase, completion: str, wording: Wording) -> str:
    """Leave out an end that the data spells at the end of a completion: one is put there anyway."""
    kept = completion.rstrip()
    spelled = next((name for name in _ends(tokenizer, wording).values() if name and kept.endswith(name)), None)
    return kept.removesuffix(spelled) if spelled else completion
