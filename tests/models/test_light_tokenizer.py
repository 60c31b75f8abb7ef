"""The tokenizer of `qrft plan`: the counts of transformers', without its import."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.models import make_tokenizer

from qrft.data.problems.registry import draw
from qrft.errors import ModelError
from qrft.models import prompts
from qrft.models.find import BUILTIN
from qrft.models.light_tokenizer import LightTokenizer, load_light_tokenizer
from qrft.models.wording import Prompt, Wording

ROOT = Path(__file__).parents[2]
CHATS = Wording(prompt="chat")


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize("template", ["plain", "alpaca"])
@pytest.mark.parametrize("name", ["tiny-base", "made", "bos"])
def test_it_makes_the_tokens_of_transformers(name: str, template: Prompt, tmp_path: Path) -> None:
    folder = BUILTIN["tiny-base"]
    if name != "tiny-base":
        make_tokenizer(folder := tmp_path)
    if name == "bos":  # as Llama's: every text begins with <s>
        template_processing = {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}},
        }
        change(folder / "tokenizer.json", post_processor=template_processing)
    wording = Wording(prompt=template)
    light, whole = load_light_tokenizer(folder), prompts.load_tokenizer(folder)
    assert isinstance(light, LightTokenizer) and (light.bos_token_id, light.eos_token_id) == (0, 1)
    for row in draw("tiny-math/train", 0, 20).to_pylist():
        made = [prompts.example(one, row["question"], row["solution"], wording) for one in (light, whole)]
        assert made[0] == made[1] and (made[0].token_ids[0] == 0) == (name != "made")


def test_a_chat_template_of_its_own_file_comes_first(tmp_path: Path) -> None:
    make_tokenizer(tmp_path)
    change(tmp_path / "tokenizer_config.json", chat_template="{{ messages[0].content }} old")
    (tmp_path / "chat_template.jinja").write_text("{{ messages[0].content }} new")
    light, whole = LightTokenizer(tmp_path), prompts.load_tokenizer(tmp_path)
    assert prompts.prompt_text("1?", CHATS, (), light) == prompts.prompt_text("1?", CHATS, (), whole) == "1? new"


def test_several_chat_templates_take_transformers(tmp_path: Path) -> None:
    make_tokenizer(tmp_path)
    named = [{"name": name, "template": name} for name in ("default", "rag")]
    change(tmp_path / "tokenizer_config.json", chat_template=named)
    (tmp_path / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer = load_light_tokenizer(tmp_path)
    assert not isinstance(tokenizer, LightTokenizer)
    assert prompts.prompt_text("1?", CHATS, (), tokenizer) == "default"


def test_a_folder_without_an_end_of_text_token_is_refused_as_ever(tmp_path: Path) -> None:
    make_tokenizer(tmp_path)
    change(tmp_path / "tokenizer_config.json", eos_token=None)
    (tmp_path / "special_tokens_map.json").unlink(missing_ok=True)
    with pytest.raises(ModelError, match="its tokenizer has no eos_token, so no sample could end"):
        load_light_tokenizer(tmp_path)


def test_a_tokenizer_is_loaded_once_while_its_files_stay_as_they_are(tmp_path: Path) -> None:
    make_tokenizer(tmp_path)
    for load in (prompts.load_tokenizer, load_light_tokenizer):
        first = load(tmp_path)
        assert load(tmp_path) is first
        change(tmp_path / "tokenizer_config.json", eos_token="<s>")
        assert load(tmp_path) is not first and load(tmp_path).eos_token_id == 0
        change(tmp_path / "tokenizer_config.json", eos_token="</s>")


@pytest.mark.parametrize("prompt", ["plain", "chat"])
def test_a_plan_loads_neither_torch_nor_transformers(prompt: Prompt, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(BUILTIN["tiny-base"], base)
    (base / "chat_template.jinja").write_text("{{ messages[-1].content }}{{ eos_token }}")
    words = ["plan", str(ROOT / "recipes" / "tiny.yaml"), "-o", str(tmp_path)]
    words += ["--set", f"prompt={prompt}", "--set", f"base_model={base}"]
    code = (
        f"import sys; from qrft.cli.main import main; main({words!r}, standalone_mode=False); "
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "19 steps, 19 to do." in done.stdout, done.stderr
