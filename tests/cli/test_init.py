"""`qrft init`: a recipe that fits by the plan, with comments; it asks in a terminal, and overwrites nothing."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from helpers.commands import command_line, facts_of, fails_at_once, run_process, run_qrft, start_process
from helpers.models import make_model

from qrft.config.load import load

PROBLEM = {
    "question": "Tom has 2 apples and buys 3. How many has he?",
    "answer": "He has 2+3=<<2+3=5>>5 apples.\n#### 5",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = [{**PROBLEM, "question": f"{n}: {PROBLEM['question']}"} for n in range(800)]
    Path("p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def init(*words: object) -> list[object]:
    return ["init", "--model", "tiny-base", "--train", "p.jsonl", "--test", "p.jsonl", "--gpu", "RTX 3090", *words]


def test_the_recipe_loads_and_says_why() -> None:
    shown = run_qrft(*init("mine.yaml")).output
    assert "mine.yaml: 100 samples for all problems" in shown and "Next: qrft plan mine.yaml" in shown
    recipe = load("mine.yaml")
    assert (recipe.name, recipe.base_model, recipe.prompt) == ("tiny-base", "tiny-base", "plain")
    assert (recipe.sample.num_samples, recipe.train.vram, recipe.train.quantization) == (100, 24, "none")
    assert recipe.sample.max_new_tokens % 64 == 0 and recipe.train.sequence_len > recipe.sample.max_new_tokens
    text = Path("mine.yaml").read_text()
    assert text.startswith("# Made by `qrft init` for RTX 3090. The plan estimates ") and text.count("# ") > 6


def test_fewer_hours_are_fewer_samples_then_fewer_problems() -> None:
    seconds = facts_of(*init("all.yaml"))["seconds"]
    found = [facts_of(*init(f"{part}.yaml", "--hours", seconds / 3600 * part)) for part in (0.7, 0.25)]
    numbers = [(f["values"]["sample"]["num_samples"], f["values"]["problems"].get("num_train", 800)) for f in found]
    assert numbers[0][0] < 100 and numbers[1] < numbers[0]
    for part, facts in zip((0.7, 0.25), found, strict=True):
        assert facts["seconds"] <= seconds * part
    message = fails_at_once(2, *init("none.yaml", "--hours", 1e-6))
    assert message.startswith("--hours: found 1e-06, but 4 samples of each of ") and "Allow more" in message


def test_a_model_that_is_too_large_for_a_card() -> None:
    message = fails_at_once(2, *init("small.yaml", "--gpu", "0.3GiB"))
    assert message.startswith("tiny-base does not fit a GPU of 0.3 GiB: ") and "Name a smaller model" in message


def test_an_instruct_model_is_asked_by_its_template(folder: Path) -> None:
    model = make_model(folder / "some-Instruct")
    config = json.loads((model / "tokenizer_config.json").read_text())
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if enable_thinking %}{% endif %}"
    config["chat_template"] = template
    (model / "tokenizer_config.json").write_text(json.dumps(config))
    run_qrft("init", "--model", model, "--train", "p.jsonl", "--test", "p.jsonl", "--gpu", "RTX 3060", "chat.yaml")
    recipe = load("chat.yaml")
    assert (recipe.prompt, recipe.start, recipe.grade.answer_format) == ("chat", "base", "auto")
    assert recipe.chat_template_args == {"enable_thinking": False} and "\\boxed" in str(recipe.system)
    assert recipe.name == "some-instruct"


def test_nothing_is_overwritten(folder: Path) -> None:
    Path("mine.yaml").write_text("mine")
    assert fails_at_once(2, *init("mine.yaml")) == "mine.yaml: already exists. Name another file: qrft init FILE ..."
    Path("link.yaml").symlink_to(folder / "nowhere")
    assert fails_at_once(2, *init("link.yaml")).startswith("link.yaml: already exists.")
    assert fails_at_once(2, *init("no/mine.yaml")).startswith("no/mine.yaml: there is no folder no.")
    assert Path("mine.yaml").read_text() == "mine"


def test_what_is_missing_or_wrong() -> None:
    assert "Missing option '--model'" in run_process(command_line("init"), 2).stderr
    assert fails_at_once(2, *init("--train", "q.jsonl")).startswith(
        "problems.train: found the text 'q.jsonl': no such file"
    )
    assert fails_at_once(2, *init("--gpu", "RTX 1")).startswith("--gpu: found 'RTX 1'.")


def test_a_terminal_is_asked() -> None:
    parent, child = os.openpty()
    with os.fdopen(child) as terminal:
        command = command_line("init", "--train", "p.jsonl", "--test", "p.jsonl")
        process = start_process(command, stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        os.write(parent, b"tiny-base\nRTX 3090\n2\n")
        shown, asked = process.communicate(timeout=120)
    os.close(parent)
    assert "Which model?" in asked and "For which card" in asked and "For how many hours [8]: " in asked
    assert "tiny-base.yaml: " in shown and load("tiny-base.yaml").train.vram == 24
