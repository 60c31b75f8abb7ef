"""Chat models of six shapes: one text is trained, sampled, evaluated and compared, and the turn's own end ends it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.commands import fails, run_qrft
from helpers.models import make_model, make_tokenizer
from helpers.paths import RECIPES

from qrft.config.training import Training
from qrft.data.schema import PROBLEMS
from qrft.data.training_rows import Row
from qrft.errors import ModelError
from qrft.grading.pairs import pair, pairs_schema
from qrft.models import loading, prompts
from qrft.models.find import BUILTIN
from qrft.models.gguf.base import export_base
from qrft.models.gguf.modelfile import joints, modelfile
from qrft.models.gguf.own_prompts import own_prompts
from qrft.models.gguf.vocabulary import Asked
from qrft.models.light_tokenizer import LightTokenizer
from qrft.models.trained_template import render, trained_template
from qrft.models.wording import Wording
from qrft.pipeline.stages import export
from qrft.sampling.requests import make_requests
from qrft.training.finetune import make_examples

QUESTION, ANSWER = "Tom has 12 apples. How many?", "He has 12.\n#### 12"
TOLD = "Give the number only."


class Shape(NamedTuple):
    """A template in its documented form, its tokens, and the prompts of QUESTION that it must give."""

    template: str
    special: tuple[str, ...]
    bos: str | None
    eos: str
    end: str
    prompt: str
    with_system: str | None  # None where the template refuses it
    puts_bos: bool = True
    args: Mapping[str, Any] = {}


CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
OWN_SYSTEM = "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are kind.<|im_end|>\n{% endif %}"
ASKED = f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
KIND, STRICT = "<|im_start|>system\nYou are kind.<|im_end|>\n", f"<|im_start|>system\n{TOLD}<|im_end|>\n"
QWEN3 = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m.content.split('</think>')[-1].lstrip('\n') if m.role == 'assistant' else m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
LLAMA = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}"
    "<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate: user, assistant, user') }}{% endif %}"
    "{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} {{ m.content }}{{ eos_token }}{% endif %}"
    "{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('no system role here') }}{% endif %}"
    "{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}"
    "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
HEADED = f"<|start_header_id|>user<|end_header_id|>\n\n{QUESTION}<|eot_id|>"
ASSISTANT = "<|start_header_id|>assistant<|end_header_id|>\n\n"
SYSTEM_HEAD = f"<|start_header_id|>system<|end_header_id|>\n\n{TOLD}<|eot_id|>"
IM = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
BEGIN = "<|begin_of_text|>"
SHAPES = {
    "llama-3": Shape(
        LLAMA,
        (BEGIN, "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        BEGIN,
        "<|end_of_text|>",
        "<|eot_id|>",
        f"{BEGIN}{HEADED}{ASSISTANT}",
        f"{BEGIN}{SYSTEM_HEAD}{HEADED}{ASSISTANT}",
    ),
    "qwen2.5": Shape(
        OWN_SYSTEM + CHATML, IM, None, "<|im_end|>", "<|im_end|>", KIND + ASKED, STRICT + ASKED, puts_bos=False
    ),
    "qwen3": Shape(QWEN3, IM, None, "<|im_end|>", "<|im_end|>", ASKED, STRICT + ASKED, puts_bos=False),
    "qwen3-not-thinking": Shape(
        QWEN3,
        IM,
        None,
        "<|im_end|>",
        "<|im_end|>",
        f"{ASKED}<think>\n\n</think>\n\n",
        f"{STRICT}{ASKED}<think>\n\n</think>\n\n",
        puts_bos=False,
        args={"enable_thinking": False},
    ),
    "mistral": Shape(MISTRAL, (), "<s>", "</s>", "</s>", f"<s>[INST] {QUESTION} [/INST]", None),
    "gemma": Shape(
        GEMMA,
        ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
        "<bos>",
        "<eos>",
        "<end_of_turn>",
        f"<bos><start_of_turn>user\n{QUESTION}<end_of_turn>\n<start_of_turn>model\n",
        None,
    ),
    "smollm2": Shape(
        OWN_SYSTEM + CHATML,
        IM,
        "<|im_start|>",
        "<|im_end|>",
        "<|im_end|>",
        KIND + ASKED,
        STRICT + ASKED,
        puts_bos=False,
    ),
}


@pytest.fixture(scope="module", params=SHAPES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Shape, Path]:
    """A folder with the tokenizer of a shape, as a published model has it."""
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer

    shape, folder = SHAPES[request.param], tmp_path_factory.mktemp(request.param)
    make_tokenizer(folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": list(shape.special)})
    tokenizer.bos_token, tokenizer.eos_token = shape.bos, shape.eos
    tokenizer.chat_template = shape.template
    if shape.puts_bos:
        begin = (shape.bos, tokenizer.convert_tokens_to_ids(shape.bos))
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single=f"{shape.bos} $A", special_tokens=[begin]
        )
    tokenizer.save_pretrained(folder)
    return shape, folder


def worded(shape: Shape, system: str | None = None) -> Wording:
    return Wording(prompt="chat", system=system, chat_template_args=dict(shape.args) or None)


def test_the_prompt_is_the_templates_own_text(model: tuple[Shape, Path]) -> None:
    shape, folder = model
    tokenizer = prompts.load_tokenizer(folder)
    wording, solved = worded(shape), [("1 and 1?", "2")]
    assert prompts.prompt_text(QUESTION, wording, (), tokenizer) == shape.prompt
    ids = prompts.prompt_ids(tokenizer, QUESTION, wording)
    assert tokenizer.decode(ids) == shape.prompt, "and no second beginning of the text"
    assert prompts.prompt_ids(LightTokenizer(folder), QUESTION, wording) == ids
    turns = [*prompts.dialogue(solved), prompts.turn("user", QUESTION)]
    theirs = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, **shape.args)
    assert prompts.prompt_text(QUESTION, wording, solved, tokenizer) == theirs


def test_one_and_the_same_prompt_is_trained_sampled_and_compared(model: tuple[Shape, Path], tmp_path: Path) -> None:
    shape, folder = model
    tokenizer, wording = prompts.load_tokenizer(folder), worded(shape)
    row = {"problem_id": "p", "question": QUESTION, "solution": ANSWER, "answer": "12"}
    problems = pa.Table.from_pylist([row], schema=PROBLEMS)
    pq.write_table(problems, tmp_path / "problems.parquet")
    (request,) = make_requests(problems, tokenizer, wording)  # of a sampling and of an evaluation
    settings = Training(**dict(wording), sequence_len=512)
    (trained,) = make_examples([Row("p", QUESTION, ANSWER)], tokenizer, settings).kept
    (compared,) = export._texts(folder, tmp_path, wording)
    length = len(request.prompt_ids)
    assert request.prompt_ids == trained.token_ids[: trained.prompt_length] == compared[:length]
    assert request.prompt == (shape.prompt.removeprefix(str(shape.bos)) if shape.puts_bos else shape.prompt)
    end = tokenizer.convert_tokens_to_ids(shape.end)
    assert tokenizer.decode(trained.token_ids[length:]) == ANSWER + shape.end
    assert trained.token_ids[length:].count(end) == 1 and trained.token_ids == compared
    assert prompts.end_ids(tokenizer, wording)[0] == end and tokenizer.eos_token_id in prompts.end_ids(
        tokenizer, wording
    )


@pytest.mark.parametrize("system", [None, TOLD])
def test_the_prompt_of_an_exported_pair_is_the_one_that_is_trained(
    model: tuple[Shape, Path], tmp_path: Path, system: str | None
) -> None:
    """TRL applies the template to a pair's turns, with the arguments that stand in its row."""
    shape, folder = model
    tokenizer, wording = prompts.load_tokenizer(folder), worded(shape, system)
    if system and shape.with_system is None:
        return
    rows = pa.Table.from_pylist([pair(QUESTION, ANSWER, "#### 1", wording)], schema=pairs_schema(wording))
    pq.write_table(rows, tmp_path / "pairs.parquet")
    (row,) = pq.read_table(tmp_path / "pairs.parquet").to_pylist()
    args = row.get("chat_template_kwargs", {})
    applied = tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True, **args)
    assert applied == (shape.with_system if system else shape.prompt)
    assert applied == prompts.prompt_text(QUESTION, wording, (), tokenizer)
    assert ("chat_template_kwargs" in row) == bool(shape.args)


def test_a_system_turn_comes_first_or_is_refused_with_the_way_out(model: tuple[Shape, Path]) -> None:
    shape, folder = model
    tokenizer, wording = prompts.load_tokenizer(folder), worded(shape, TOLD)
    if shape.with_system is not None:
        assert prompts.prompt_text(QUESTION, wording, (), tokenizer) == shape.with_system
        return
    with pytest.raises(
        ModelError, match=r"takes no system turn \(.*\)\. Leave system out, or put its text before each"
    ):
        prompts.prompt_ids(tokenizer, QUESTION, wording)


def test_a_person_is_told_how_prompts_and_answers_end(model: tuple[Shape, Path]) -> None:
    shape, folder = model
    tokenizer = prompts.load_tokenizer(folder)
    told = prompts.told_ends(tokenizer, worded(shape))
    opening = shape.prompt.rpartition(QUESTION)[2].replace("\n", r"\n")
    assert prompts.told_ends(LightTokenizer(folder), worded(shape)) == told, "without transformers too"
    assert told == f'Prompts end with "{opening}", answers end with {shape.end}.'


@pytest.mark.parametrize("system", [None, TOLD])
def test_the_template_that_is_exported_writes_what_was_trained(
    system: str | None, model: tuple[Shape, Path], tmp_path: Path
) -> None:
    """For a program that gives it nothing but the turns, in transformers and in a GGUF file."""
    shape, folder = model
    if system and shape.with_system is None:
        return
    tokenizer, wording = prompts.load_tokenizer(folder), worded(shape, system)
    template = trained_template(tokenizer, wording)
    asked, solved = prompts.turn("user", QUESTION), [("1 and 1?", "2")]
    several = [*prompts.dialogue(solved), asked]
    expected = prompts.prompt_text(QUESTION, wording, solved, tokenizer)
    assert render(template, tokenizer, several, is_open=True) == expected
    base = make_model(tmp_path / "model")
    shutil.copytree(folder, base, dirs_exist_ok=True)
    (base / "chat_template.jinja").write_text(template)
    theirs: Any = prompts.load_tokenizer(base)
    ids = prompts.prompt_ids(tokenizer, QUESTION, wording)
    assert list(theirs.apply_chat_template([asked], add_generation_prompt=True, return_dict=False)) == ids
    end = prompts.end_id(tokenizer, wording)
    eos, bos = int(str(tokenizer.eos_token_id)), tokenizer.bos_token_id
    export_base(base, tmp_path / "m.gguf", "f16", asked=Asked(template, shape.puts_bos, bos, eos, end))
    own = own_prompts(tmp_path / "m.gguf", [QUESTION], [])
    assert own.prompts == own.served == [ids] and {end, eos} <= set(own.ends)


def test_ollama_is_told_the_texts_around_the_turns(model: tuple[Shape, Path]) -> None:
    shape, folder = model
    tokenizer, wording = prompts.load_tokenizer(folder), worded(shape)
    found = joints(tokenizer, trained_template(tokenizer, wording))
    opening, earlier = prompts.prompt_text(QUESTION, wording, [("1?", "2")], tokenizer), ("1?", "2")
    bos = str(shape.bos) if shape.puts_bos else ""
    assert bos + found.first + QUESTION + found.opening == shape.prompt
    assert found.to_answer is not None and found.to_next is not None
    parts = (found.first, earlier[0], found.to_answer, earlier[1], found.to_next, QUESTION, found.opening)
    assert bos + "".join(parts) == opening
    assert (found.system is not None) == (shape.with_system is not None)
    text = modelfile("m.gguf", tokenizer, trained_template(tokenizer, wording), [prompts.end_id(tokenizer, wording)])
    assert text.startswith('FROM ./m.gguf\nTEMPLATE """{{ range ') and f'PARAMETER stop "{shape.end}"' in text


GO = """package main
import ("encoding/json"; "os"; "text/template")
type Turn struct { Role, Content string }
func main() {
    var in struct { Template, System, Prompt string; Messages []Turn }
    if err := json.NewDecoder(os.Stdin).Decode(&in); err != nil { panic(err) }
    data := map[string]any{"System": in.System, "Prompt": in.Prompt, "Messages": in.Messages}
    if err := template.Must(template.New("").Parse(in.Template)).Execute(os.Stdout, data); err != nil { panic(err) }
}
"""


@pytest.fixture(scope="session")
def go(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that writes a conversation as Ollama does, with Go's own templates."""
    if shutil.which("go") is None:
        pytest.skip("go is not installed")
    folder = tmp_path_factory.mktemp("go")
    (folder / "main.go").write_text(GO)
    subprocess.run(["go", "build", "-o", folder / "ask", folder / "main.go"], check=True)
    return folder / "ask"


@pytest.mark.slow
def test_a_modelfile_writes_conversations_as_the_template_does(model: tuple[Shape, Path], go: Path) -> None:
    shape, folder = model
    tokenizer, (user, assistant, system) = prompts.load_tokenizer(folder), ("user", "assistant", "system")
    earlier = [prompts.turn(user, 'A "q" {{x}}?'), prompts.turn(assistant, "B"), prompts.turn(user, "C")]
    told = [prompts.turn(system, "S\nT"), *earlier, prompts.turn(assistant, "D"), prompts.turn(user, "E")]
    for wording in (worded(shape), Wording(), Wording(prompt="alpaca")):
        template = trained_template(tokenizer, wording)
        text = modelfile("m.gguf", tokenizer, template, [1]).split('TEMPLATE """')[1].rsplit('"""')[0]
        takes_system = wording.prompt != "chat" or shape.with_system is not None
        for turns in (earlier[:1], earlier, *([told[:2], told] if takes_system else [])):
            first = turns[0]["content"] if turns[0]["role"] == system else ""
            messages = [{"Role": turn["role"], "Content": turn["content"]} for turn in turns]
            request = {"Template": text, "System": first, "Messages": messages}
            done = subprocess.run([go], input=json.dumps(request).encode(), capture_output=True, check=True)
            expected = prompts.text_for_server(render(template, tokenizer, turns, is_open=True), tokenizer)
            assert done.stdout.decode() == expected


def test_the_date_of_an_exported_template_is_that_of_the_training(model: tuple[Shape, Path]) -> None:
    shape, folder = model
    tokenizer: Any = loading.load_tokenizer(folder)  # of its own: it is changed
    tokenizer.chat_template = "{{ strftime_now('%d %b %Y') }}" + shape.template
    wording = worded(shape)
    assert trained_template(tokenizer, wording).count('{{ "26 Jul 2024" }}') == 1


def test_an_argument_that_a_template_does_not_read_is_refused(model: tuple[Shape, Path]) -> None:
    shape, folder = model
    wording = Wording(prompt="chat", chat_template_args={"enable_thinkin": False})
    known = r"Did you mean enable_thinking\? It reads enable_thinking\." if shape.template is QWEN3 else "It reads"
    with pytest.raises(ModelError, match=rf"does not read chat_template_args\.enable_thinkin\. {known}"):
        prompts.prompt_ids(prompts.load_tokenizer(folder), QUESTION, wording)


def test_the_file_for_llama_cpp_holds_the_template(tmp_path: Path) -> None:
    from gguf import GGUFReader

    model = shutil.copytree(BUILTIN["tiny-base"], tmp_path / "model")
    (model / "chat_template.jinja").write_text(GEMMA)
    export_base(model, tmp_path / "base.gguf", "f16")
    assert GGUFReader(tmp_path / "base.gguf").fields["tokenizer.chat_template"].contents() == GEMMA


def test_settings_without_a_system_turn_decide_what_they_did() -> None:
    """So trainings, files and samples of before are found."""
    assert Training(prompt="chat").identity().keys() & {"system", "chat_template_args"} == set()
    told = Training(prompt="chat", system="Be kind.", chat_template_args={"a": 1}).identity()
    assert (told["system"], told["chat_template_args"]) == ("Be kind.", {"a": 1})


def test_a_plan_tells_how_answers_end_and_that_a_template_refuses_a_system_turn(tmp_path: Path) -> None:
    model = shutil.copytree(BUILTIN["tiny-base"], tmp_path / "model")
    (model / "chat_template.jinja").write_text(MISTRAL)
    words = ("plan", RECIPES / "tiny.yaml", "--set", f"base_model={model}", "--set", "prompt=chat", "-o", tmp_path)
    words = (*words, "--set", "problems.num_train=4", "--set", "problems.num_test=4")
    assert 'Prompts end with " [/INST]", answers end with </s>.' in run_qrft(*words).output
    assert "takes no system turn (roles must alternate" in fails(1, *words, "--set", f"system={TOLD}", has_begun=True)


def test_a_template_that_drops_the_system_turn_is_refused(tmp_path: Path) -> None:
    make_tokenizer(tmp_path)
    (tmp_path / "chat_template.jinja").write_text("{{ messages[-1].content }}")
    with pytest.raises(ModelError, match=r"leaves the system turn out\. Leave system out, or put its text before each"):
        prompts.prompt_ids(prompts.load_tokenizer(tmp_path), QUESTION, Wording(prompt="chat", system=TOLD))
