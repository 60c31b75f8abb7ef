"""How a question is worded as a prompt: the settings alone, which `qrft.models.prompts` follows."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo

from qrft.config.section import Section, broken_rule

Prompt = Literal["plain", "alpaca", "chat"]
CHAT: Prompt = "chat"  # the tokenizer's own template: the question is the user's turn, the completion the assistant's
OF_THE_PROMPT = ("messages", "add_generation_prompt")  # what a prompt is made of is no argument of one's own


def _only_in_a_chat(value: Any, info: ValidationInfo) -> Any:
    prompt = info.data.get("prompt", CHAT)  # lacks when it is wrong itself
    if value and prompt != CHAT:
        found = "a section" if isinstance(value, dict) else "a text"
        raise broken_rule(
            f"found {found} with prompt {prompt}, which has neither turns nor a template. Allowed: leave it out, or "
            "choose prompt chat"
        )
    return value


def _goes_to_a_template(value: dict[str, Any] | None) -> dict[str, Any] | None:
    for name in OF_THE_PROMPT:
        if name in (value or {}):
            raise broken_rule("found a key that qrft itself gives the template. Leave it out", name)
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise broken_rule(
            f"found what is not JSON ({error}). Allowed: texts, numbers, true, false, null, and lists and "
            "sections of them"
        ) from None
    return value


System = Annotated[Annotated[str, Field(min_length=1)] | None, AfterValidator(_only_in_a_chat)]
TemplateArgs = Annotated[dict[str, Any] | None, AfterValidator(_goes_to_a_template), AfterValidator(_only_in_a_chat)]

PROMPT: Any = Field(
    default="plain",
    description="The wording of the prompt: the question and a line break (plain), the Alpaca template (alpaca), "
    "or the tokenizer's own chat template (chat).",
)
SYSTEM: Any = Field(
    default=None,
    description="The text of the system turn at the beginning of every prompt. If not set, there is no such turn but "
    "the one that the chat template itself may write. Only with prompt chat.",
)
TEMPLATE_ARGS: Any = Field(
    default=None,
    description='Arguments of the chat template beside the turns, such as {"enable_thinking": false}. Only with prompt '
    "chat.",
)


class Wording(Section):
    """What makes a prompt of a question. Settings that hold it are this section with keys of their own."""

    prompt: Prompt = PROMPT
    system: System = SYSTEM
    chat_template_args: TemplateArgs = TEMPLATE_ARGS

    @property
    def wording(self) -> Wording:
        return wording_of(self)

    def identity(self) -> dict[str, Any]:
        """Return the settings as ever, the newer keys only where they are set: without them, prompts are as before."""
        own = super().identity()
        return {name: value for name, value in own.items() if value or name not in ("system", "chat_template_args")}

    def __hash__(self) -> int:
        return hash((self.prompt, self.system, json.dumps(self.chat_template_args)))


def wording_of(settings: Any) -> Wording:
    """Return the wording alone of settings that have its keys."""
    return Wording(**{name: getattr(settings, name) for name in Wording.model_fields})


PLAIN = Wording()
