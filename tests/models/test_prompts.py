"""Control tokens that data spells, the ends of a sample, and chat templates, which are untrusted programs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.models import make_tokenizer

from qrft.errors import DataError, ModelError
from qrft.models import prompts, templates
from qrft.models.find import BUILTIN
from qrft.models.light_tokenizer import LightTokenizer
from qrft.models.wording import PLAIN, Wording

IN_CHAT = Wording(prompt="chat")
TINY = BUILTIN["tiny-base"]
CHAT = "{% for turn in messages %}<s>{{ turn.role }}\n{{ turn.content }}</s>\n{% endfor %}"
OPEN = "{% if add_generation_prompt %}<s>assistant\n{% endif %}"


def chat_tokenizer(folder: Path, template: str) -> Any:
    shutil.copytree(TINY, folder)
    (folder / "chat_template.jinja").write_text(template)
    return prompts.load_tokenizer(folder)


# --------------------------------------------------------------------------------------------------- control tokens


@pytest.mark.parametrize("light", [False, True])
def test_a_control_token_that_data_spells_is_only_text(light: bool, tmp_path: Path) -> None:
    make_tokenizer(tmp_path)
    tokenizer: Any = LightTokenizer(tmp_path) if light else prompts.load_tokenizer(tmp_path)
    ids, length = prompts.example(tokenizer, "<s>9</s> 7?", "Not 9</s> but <s>7</s>.\n#### 7", PLAIN)
    assert ids.count(1) == 1 and ids[-1] == 1 and 0 not in ids
    assert tokenizer.decode(ids[:length]) == "<s>9</s> 7?\n"
    assert tokenizer.decode(ids[length:]) == "Not 9</s> but <s>7</s>.\n#### 7</s>"


@pytest.mark.parametrize("ending", ["</s>", " </s>\n", "</s> "])
def test_an_end_that_the_data_spells_is_the_one_end(ending: str, tmp_path: Path) -> None:
    make_tokenizer(tmp_path)
    tokenizer = prompts.load_tokenizer(tmp_path)
    ids, length = prompts.example(tokenizer, "3 and 4?", f"3+4=7\n#### 7{ending}", PLAIN)
    assert tokenizer.decode(ids[length:]).replace(" ", "") == "3+4=7\n####7</s>" and ids.count(1) == 1


def test_a_chat_refuses_a_turn_that_spells_a_control_token(tmp_path: Path) -> None:
    tokenizer = chat_tokenizer(tmp_path / "chat", CHAT + OPEN)
    with pytest.raises(DataError, match=r"a text spells </s>, .*'The price is 9</s> 7\?'\. Remove it .*prompt plain"):
        prompts.prompt_ids(tokenizer, "The price is 9</s> 7?", IN_CHAT)
    ids, length = prompts.example(tokenizer, "3 and 4?", "7</s>", IN_CHAT)
    assert tokenizer.decode(ids[length:]) == "7</s>" and ids[length:].count(tokenizer.eos_token_id) == 1


# ------------------------------------------------------------------------------------------------------------- ends


@pytest.mark.parametrize(
    ("generation", "config", "expected"),
    [
        ([1, 2], 1, [1, 2]),
        (2, 1, [1, 2]),
        (None, [1, 3], [1, 3]),
        (None, None, [1]),
    ],
)
def test_a_sample_ends_at_all_ends_that_the_folder_lists(
    generation: Any, config: Any, expected: list[int], tmp_path: Path
) -> None:
    make_tokenizer(tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": generation}))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "eos_token_id": config}))
    assert prompts.end_ids(prompts.load_tokenizer(tmp_path), PLAIN) == expected


@pytest.mark.parametrize("end", ["</s>", -1, [1, "2"], 1.5, {"a": 1}, True])
def test_an_end_that_is_no_token_id_is_refused(end: Any, tmp_path: Path) -> None:
    make_tokenizer(tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": end}))
    with pytest.raises(ModelError, match=r"generation_config\.json: eos_token_id: found .*Expected a token id"):
        prompts.end_ids(prompts.load_tokenizer(tmp_path), PLAIN)


# -------------------------------------------------------------------------------------------------------- templates

# What real templates do, each in a few words.
TEMPLATES = {
    "turns": CHAT + OPEN,
    "begin": "{{ bos_token }}"
    "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] | trim }}{% endfor %}{{ eos_token }}",
    "namespace": "{% set ns = namespace(n=0) %}"
    "{% for m in messages %}{% set ns.n = ns.n + 1 %}{{ ns.n }}{{ m.content }}"
    "{% endfor %}{{ ns.n }}",
    "loops": "{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}{{ m.content }}{% endfor %}",
    "json": "{{ messages | tojson }}{{ messages[0] | tojson(indent=2) }}",
    "generation": "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
    "tools": "{% if tools is not none %}tools{% endif %}"
    "{% if documents %}documents{% endif %}{{ messages[-1].content }}",
    "dict": "{{ dict(a=1) }}{{ messages | selectattr('role', 'equalto', 'user') | list | length }}",
    "blocks": "{% for m in messages %}\n  {% if m.role == 'user' %}\n{{ m.content }}\n    {% endif %}\n{% endfor %}\n",
    "undefined": "{{ nothing }}{% if nothing is defined %}x{% endif %}{{ messages[0].nothing }}",
    "slices": "{{ messages[0]['content'].split('a')[0] }}{{ messages[1:] | length }}{{ 'x' * 3 }}{{ '%05d' % 3 }}",
}  # fmt: skip


@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_writes_what_transformers_writes(name: str, is_open: bool, tmp_path: Path) -> None:
    tokenizer = chat_tokenizer(tmp_path / "chat", TEMPLATES[name])
    turns = [{"role": "user", "content": " Tom's 3 <b>apples</b> é\ud83d\n"}, {"role": "assistant", "content": "4"}]
    expected = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=is_open)
    tokens = dict(tokenizer.special_tokens_map)
    assert templates.apply(tokenizer.chat_template, turns, is_open=is_open, tokens=tokens) == expected


def test_the_date_of_a_template_is_the_same_on_every_day(tmp_path: Path) -> None:
    tokenizer = chat_tokenizer(tmp_path / "chat", "{{ strftime_now('%d %b %Y') }} " + CHAT)
    assert prompts.prompt_text("3 and 4?", IN_CHAT, (), tokenizer).startswith("26 Jul 2024 <s>user")


TWICE = "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}"
NESTED = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
HOSTILE = {
    "endless": (NESTED, r"it takes more than 1 seconds"),
    "grows": (TWICE, r"it takes more than 1,024 MiB of memory"),
    "writes": ("{% for a in range(99999) %}{{ 'abcdefghijklmnopqrst' }}{% endfor %}", r"more than [\d,]+ characters"),
    "one large text": ("{{ 'x' * 10 ** 7 }}", r"more than [\d,]+ characters"),
    "power": ("{{ 9 ** (9 ** 9) }}", r"it takes more than 1 seconds|MiB of memory"),
    "classes": ("{{ ''.__class__.__mro__[1].__subclasses__() }}", r"it reaches out of its sandbox"),
    "globals": ("{{ raise_exception.__globals__ }}", r"it reaches out of its sandbox"),
    "namespace": ("{% set ns = namespace() %}{% set ns.__class__ = 1 %}", r"it reaches out of its sandbox"),
    "formats": ("{{ '{0.__class__.__init__}'.format(messages) }}", r"it reaches out of its sandbox"),
    "changes": ("{{ messages.append(1) }}", r"it reaches out of its sandbox"),
    "calls itself": ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", r"RecursionError"),
    "no template": ("{% for %}", r"Expected an expression"),
    "includes": ("{% include '/etc/passwd' %}", r"no loader"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_is_one_message_within_its_bounds(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(templates, "MAX_SECONDS", 1.0 if "1 seconds" in HOSTILE[name][1] else 60.0)
    template, message = HOSTILE[name]
    tokenizer = chat_tokenizer(tmp_path / "chat", template)
    with pytest.raises(ModelError, match=rf"chat: prompt chat: its chat template fails .*({message})"):
        prompts.prompt_ids(tokenizer, "How many?", IN_CHAT)
    good = chat_tokenizer(tmp_path / "good", CHAT)
    assert "How many?" in prompts.prompt_text("How many?", IN_CHAT, (), good), "the next one has its own time"


def test_a_tokenizer_that_panics_is_one_message(tmp_path: Path) -> None:
    """A pattern that backtracks without end is given up by the library in Rust, whose panic is no Exception."""
    make_tokenizer(tmp_path)
    path = tmp_path / "tokenizer.json"
    pattern = {"type": "Split", "pattern": {"Regex": "(a|aa)+$"}, "behavior": "Isolated", "invert": False}
    path.write_text(json.dumps({**json.loads(path.read_text()), "pre_tokenizer": pattern}))
    tokenizer = prompts.load_tokenizer(tmp_path)
    with pytest.raises(ModelError, match=r"its tokenizer fails on a text \(PanicException: .*\)\. Download the folder"):
        prompts.prompt_ids(tokenizer, "a" * 60 + "!", PLAIN)
