"""Write the Modelfile by which Ollama asks a GGUF file: the chat template once more, in the language of Go's templates.

Ollama does not read Jinja. The texts between the turns are found by writing a conversation with the trained template.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qrft.models import prompts, templates
from qrft.models.trained_template import render

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# What no template spells, and none would change.
_SYSTEM, _FIRST, _ANSWER, _SECOND = "qrftsystem", "qrftfirst", "qrftanswer", "qrftsecond"

Turns = list[dict[str, str]]


@dataclass(frozen=True)
class Joints:
    """The texts around the turns of a conversation.

    `first`: before the first question. `opening`: after the last one. `to_answer`: between a question and an earlier
    answer to it; `to_next`: between that and the next question; None where a template does not write earlier turns in
    one and the same way. `system`: before a system turn, and between it and the first question; None where there may be
    none.
    """

    first: str
    opening: str
    to_answer: str | None
    to_next: str | None
    system: tuple[str, str] | None


def joints(tokenizer: PreTrainedTokenizerBase, template: str) -> Joints:
    """Find the texts. The beginning-of-text token is left out where Ollama puts it, as the file says."""

    def written(turns: Turns) -> str:
        return prompts.text_for_server(render(template, tokenizer, turns, is_open=True), tokenizer)

    ask, answer, again = (prompts.turn(*turn) for turn in (("user", _FIRST), ("assistant", _ANSWER), ("user", _SECOND)))
    first, opening = written([ask]).split(_FIRST)
    to_answer = to_next = None
    if several := _parts(written, [ask, answer, again], (_FIRST, _ANSWER, _SECOND)):
        before, between, after, end = several
        if (before, end) == (first, opening):
            to_answer, to_next = between, after
    told = _parts(written, [prompts.turn("system", _SYSTEM), ask], (_SYSTEM, _FIRST))
    system = (told[0], told[1]) if told and told[2] == opening else None
    return Joints(first, opening, to_answer, to_next, system)


def _parts(written: Callable[[Turns], str], turns: Turns, marks: tuple[str, ...]) -> list[str] | None:
    """Return the texts around the marks, or None where the template fails or leaves one out."""
    try:
        rest, parts = written(turns), []
    except templates.TemplateError:
        return None
    for mark in marks:
        before, found, rest = rest.partition(mark)
        if not found:
            return None
        parts.append(before)
    return [*parts, rest]


def modelfile(file: str, tokenizer: PreTrainedTokenizerBase, template: str, ends: list[int]) -> str:
    """Return the text of the Modelfile beside the GGUF file of this name. `ends`: the tokens that end an answer."""
    stops = "".join(f"PARAMETER stop {json.dumps(tokenizer.decode([end]), ensure_ascii=False)}\n" for end in ends)
    return f'FROM ./{file}\nTEMPLATE """{go_template(joints(tokenizer, template))}"""\n{stops}'


def go_template(texts: Joints) -> str:
    """Return Go's template of a conversation; only of its last question where earlier turns can't be told."""
    if texts.to_answer is None or texts.to_next is None:
        return f"{_text(texts.first)}{{{{ .Prompt }}}}{_text(texts.opening)}"
    later, system = _text(texts.to_next), ""
    if texts.system is not None:
        before, after = map(_text, texts.system)
        system = f'{{{{ if eq $turn.Role "system" }}}}{before}{{{{ $turn.Content }}}}{after}'
        later = f"{{{{ if or (gt $at 1) (not $.System) }}}}{later}{{{{ end }}}}"
    question = f"{{{{ if eq $at 0 }}}}{_text(texts.first)}{{{{ else }}}}{later}{{{{ end }}}}{{{{ $turn.Content }}}}"
    answer = f"{_text(texts.to_answer)}{{{{ $turn.Content }}}}"
    if system:
        turns = f'{system}{{{{ else if eq $turn.Role "user" }}}}{question}'
    else:
        turns = f'{{{{ if eq $turn.Role "user" }}}}{question}'
    turns += f'{{{{ else if eq $turn.Role "assistant" }}}}{answer}{{{{ end }}}}'
    return f"{{{{ range $at, $turn := .Messages }}}}{turns}{{{{ end }}}}{_text(texts.opening)}"


def _text(text: str) -> str:
    """Return a text as Go's templates write it whatever it holds; Go reads what JSON escapes."""
    return f"{{{{ {json.dumps(text, ensure_ascii=False)} }}}}" if text else ""
