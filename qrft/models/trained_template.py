"""The chat template that writes a question as the model was trained on it, for programs that know nothing of qrft.

A prompt of qrft's own becomes a template: the user's turn is the question, and earlier turns stand before it as worked
examples do. A chat keeps the model's own template, which is told what the training told it.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from qrft.errors import ModelError
from qrft.models import prompts, templates
from qrft.models.template_child import TODAY
from qrft.models.wording import CHAT, Wording

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BOS = "{{ bos_token }}"
_DATE = re.compile(r"""strftime_now\(\s*(?P<quote>['"])(?P<form>.*?)(?P=quote)\s*\)""")


def trained_template(tokenizer: PreTrainedTokenizerBase, wording: Wording) -> str:
    """Return the template in Jinja's language. It begins with the beginning-of-text token where the training did.

    Raises ModelError where it would not write a prompt as the training did.
    """
    written = _of_chat(tokenizer, wording) if wording.prompt == CHAT else _of_text(wording.prompt)
    expected = prompts.prompt_ids(tokenizer, prompts.ASKED, wording)
    for template in (written, BOS + written):
        text = render(template, tokenizer, [prompts.turn("user", prompts.ASKED)], is_open=True)
        if prompts.text_ids(tokenizer, text, has_control=True) == expected:
            return template
    raise ModelError(
        f"{tokenizer.name_or_path}: no chat template could be made that writes prompts of the form {wording.prompt} as "
        "they were trained. Choose another prompt and train again, or report the model."
    )


def render(template: str, tokenizer: PreTrainedTokenizerBase, turns: list[dict[str, str]], *, is_open: bool) -> str:
    """Return the turns as the template writes them. Raises templates.TemplateError."""
    return templates.apply(template, turns, is_open=is_open, tokens=dict(tokenizer.special_tokens_map))


def _of_text(prompt: str) -> str:
    before, after = prompts.TEMPLATES[prompt].split("{question}")
    user = " + ".join(
        [*([literal(before)] if before else []), "message['content']", *([literal(after)] if after else [])]
    )
    return (
        "{% for message in messages %}"
        f"{{% if message['role'] == 'user' %}}{{{{ {user} }}}}"
        "{% elif message['role'] == 'assistant' and loop.last %}{{ message['content'] + eos_token }}"
        f"{{% else %}}{{{{ message['content'] + {literal(prompts.BETWEEN_EXAMPLES)} }}}}{{% endif %}}"
        "{% endfor %}"
    )


def _of_chat(tokenizer: PreTrainedTokenizerBase, wording: Wording) -> str:
    """Set what the training set, whatever the program that applies it has for its default, and stop its clock."""
    own = prompts.own_template(tokenizer)
    dated = _DATE.sub(lambda found: literal(TODAY.strftime(found["form"])), own)
    told = [f"{{% set {name} = {literal(value)} %}}" for name, value in (wording.chat_template_args or {}).items()]
    if wording.system is not None:
        turn = f"[{{'role': 'system', 'content': {literal(wording.system)}}}]"
        told.append(f"{{% if messages[0]['role'] != 'system' %}}{{% set messages = {turn} + messages %}}{{% endif %}}")
    return "".join(told) + dated


def literal(value: Any) -> str:
    """Return a value of JSON's kinds as Jinja writes it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{literal(key)}: {literal(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(literal, value)) + "]"
    return "none" if value is None else json.dumps(value, ensure_ascii=False)
