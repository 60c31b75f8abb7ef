"""`qrft train` and `qrft.train` on the tiny base: the folder, resuming, anyone's data, long examples, chat prompts."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import commands
from helpers.commands import command_line, run_process, run_qrft, start_process
from helpers.jsonl import write_jsonl
from helpers.models import make_model
from helpers.paths import RECIPES

import qrft
from qrft.config.training import Training
from qrft.data import disk
from qrft.data.problems.registry import draw
from qrft.errors import DataError, ModelError, UsageError
from qrft.models import prompts
from qrft.models.find import BUILTIN
from qrft.models.weights import open_weights, read_tensor
from qrft.models.wording import PLAIN, Wording
from qrft.sampling.requests import choose_examples, make_requests

IN_CHAT = Wording(prompt="chat")
TINY = BUILTIN["tiny-base"]
ROWS = [
    {"question": row["question"], "completion": row["solution"]} for row in draw("tiny-math/train", 0, 12).to_pylist()
]
QUICK = ("num_epochs=1", "micro_batch_size=4", "lora_r=4", "learning_rate=1e-3")
CHATML = (
    "{% for m in messages %}<s>{{ m.role }}\n{{ m.content }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with twelve examples, and nothing else."""
    monkeypatch.chdir(tmp_path)
    write_jsonl("d.jsonl", ROWS)
    return tmp_path


def words(*settings: str, data: str = "d.jsonl", out: str = "ad", base: str = "tiny-base") -> list[str]:
    options = [word for setting in settings for word in ("--set", setting)]
    return ["train", base, "--data", data, "-o", out, "--threads", "1", *options]


def run(*settings: str, **place: str) -> dict[str, Any]:
    done = run_qrft(*words(*settings, **place), "--json")
    return {**json.loads(done.stdout), "said": done.stderr}


def fails(code: int, *settings: str, **place: str) -> str:
    message = commands.fails(code, *words(*settings, **place))
    assert place.get("out") or not Path("ad").exists()
    return message


def weights(out: str = "ad") -> bytes:
    return Path(out, "adapter_model.safetensors").read_bytes()


def factors(out: str) -> list[Any]:
    refs = open_weights(Path(out), "adapter_model")
    return [read_tensor(name, ref) for name, ref in sorted(refs.items())]


def chat_model(path: Path, template: str | None = CHATML) -> Path:
    """The tiny base with a chat template."""
    shutil.copytree(TINY, path)
    if template:
        (path / "chat_template.jinja").write_text(template)
    return path


# ------------------------------------------------------------------------------------------------------- the folder


def test_the_folder_is_the_adapter_and_tells_what_made_it() -> None:
    facts = run(*QUICK)
    names = {path.name for path in Path("ad").iterdir()}
    assert names == {"adapter_config.json", "adapter_model.safetensors", "README.md", "loss.jsonl", "train.json"}
    card = json.loads(Path("ad/train.json").read_text())
    assert card["settings"]["lora_r"] == json.loads(Path("ad/adapter_config.json").read_text())["r"] == 4
    assert card["settings"]["base"]["name"] == "tiny-base" and card["settings"]["prompt"] == "plain"
    assert card["facts"]["num_examples"] == facts["num_examples"] == 12 and facts["is_new"]
    assert not Path("ad.partial").exists()
    assert '| `prompt` | "plain" |' in Path("ad/README.md").read_text()  # else no one knows how to ask it


def test_one_example_is_shown_as_the_model_sees_it() -> None:
    said = run(*QUICK, "prompt=alpaca")["said"]
    question, completion = ROWS[0]["question"], ROWS[0]["completion"]
    text = prompts.prompt_text(question, Wording(prompt="alpaca"))
    ids, length = prompts.example(prompts.load_tokenizer(TINY), question, completion, Wording(prompt="alpaca"))
    assert said.count(f"--- prompt of the first example: {length} tokens\n<s>{text}\n") == 1
    assert said.count(f"--- completion of the first example: {len(ids) - length} tokens\n{completion}</s>\n") == 1
    assert "12 examples, " in said


def test_the_same_command_again_does_nothing() -> None:
    run(*QUICK)
    before = {path: path.stat().st_mtime_ns for path in Path("ad").iterdir()}
    Path("d.jsonl").rename("moved.jsonl")  # the same rows under another name
    again = run(*QUICK, "checkpoint_minutes=1", data="moved.jsonl")
    assert not again["is_new"] and again["num_examples"] == 12
    assert before == {path: path.stat().st_mtime_ns for path in Path("ad").iterdir()}
    done = run_qrft(*words(*QUICK, data="moved.jsonl"))
    assert "It already existed: nothing to do." in done.stdout


def test_a_folder_of_other_settings_is_left_alone() -> None:
    run(*QUICK)
    before = weights()
    message = fails(2, *QUICK, "lora_r=8", "seed=1", out="ad")
    assert message.startswith(
        "ad: was made with other settings: lora_r was 4 and is now 8; seed was 0 and is now 1. Give the former "
    )
    write_jsonl("d.jsonl", ROWS[:5])
    assert "data was d.jsonl (" in fails(2, *QUICK, out="ad")
    Path("mine").mkdir()
    Path("mine/x").touch()
    assert (
        fails(2, out="mine") == "mine: already exists, and was not made by this command. Name another folder with -o."
    )
    assert "d.jsonl: already exists" in fails(2, out="d.jsonl")
    with disk.lock(Path("busy.partial")):
        assert "busy.partial is being written by process" in fails(1, out="busy")
    assert weights() == before


def test_from_python_it_is_the_same_training() -> None:
    run(*QUICK)
    settings = {"num_epochs": 1.0, "micro_batch_size": 4, "lora_r": 4, "learning_rate": 1e-3}
    steps: list[int] = []
    pairs = [(row["question"], row["completion"]) for row in ROWS]
    facts = qrft.train("tiny-base", pairs, "py", progress=lambda done, *_: steps.append(done), threads=1, **settings)
    assert facts["num_examples"] == 12 and steps[-1] == 3
    assert weights("py") == weights()
    with pytest.raises(UsageError, match=r"train: lora_rank: unknown key\. Did you mean lora_r\?"):
        qrft.train("tiny-base", pairs, "py", lora_rank=4)
    with pytest.raises(DataError, match=r"^row 0: its completion is empty"):
        qrft.train("tiny-base", [("How many?", "")], "other")


# ------------------------------------------------------------------------------------------------------------ kills


def kill_after_a_checkpoint(*settings: str) -> None:
    process = start_process(command_line(*words(*settings)), stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(Path("ad.partial/checkpoints").glob("checkpoint-*")):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def test_killed_the_same_command_goes_on_to_the_same_adapter() -> None:
    settings = (*QUICK, "num_epochs=4", "lora_dropout=0.1", "checkpoint_minutes=0.001")
    run(*settings, out="whole")
    kill_after_a_checkpoint(*settings)
    assert not Path("ad").exists()
    message = fails(2, *settings, "lora_r=8")
    assert message.startswith(
        "ad.partial: was begun with other settings: lora_r was 4 and is now 8. Give the former settings, remove ad.p"
    )
    run(*settings)
    assert weights() == weights("whole") and not Path("ad.partial").exists()
    texts = [Path(out, "loss.jsonl").read_text() for out in ("ad", "whole")]
    resumed, whole = ([list(json.loads(line)) for line in text.splitlines()] for text in texts)
    assert resumed == whole and whole[0][:2] == ["step", "loss"]  # the same keys in the same order


@pytest.mark.slow
def test_two_processes_make_one_folder() -> None:
    run(*QUICK, out="one")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "qrft"]
    done = run_process([*launcher, *words(*QUICK)], ACCELERATE_USE_CPU="true")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ad: 12 examples") == 1 and done.stderr.count("--- prompt of the first example") == 1
    assert {path.name for path in Path("ad").iterdir()} == {path.name for path in Path("one").iterdir()}
    pairs = zip(factors("one"), factors("ad"), strict=True)
    assert all(np.allclose(one, two, atol=1e-4) for one, two in pairs)
    again = run_process([*launcher, *words(*QUICK)], ACCELERATE_USE_CPU="true")
    assert again.stdout.count("It already existed: nothing to do.") == 1


# ------------------------------------------------------------------------------------------------------------- data


def test_data_in_any_spelling_is_the_same_training() -> None:
    spelled = {
        "gsm8k.jsonl": ("question", "answer"),
        "chat.jsonl": ("prompt", "response"),
        "math.jsonl": ("problem", "solution"),
        "instructed.jsonl.gz": ("query", "output"),
        "table.parquet": ("question", "solution"),
    }
    run(*QUICK)
    for name, (question, completion) in spelled.items():
        rows = [{question: row["question"], "x": 1, completion: row["completion"]} for row in ROWS]
        if name.endswith(".parquet"):
            pq.write_table(pa.Table.from_pylist([{**row, "answer": "42"} for row in rows]), name)
        else:
            data = ("\ufeff" + "\n\n".join(json.dumps(row) for row in rows)).encode()
            Path(name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        assert not run(*QUICK, data=name)["is_new"], name
    turns = [(("user", row["question"]), ("assistant", row["completion"])) for row in ROWS]
    chats = [{"messages": [{"role": role, "content": text} for role, text in pair]} for pair in turns]
    Path("chat.jsonl").write_text("".join(json.dumps(chat) + "\n" for chat in chats))
    pq.write_table(pa.Table.from_pylist(chats), "chat.parquet")
    assert not run(*QUICK, data="chat.jsonl")["is_new"] and not run(*QUICK, data="chat.parquet")["is_new"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"question": "a", "completion": "b"}\nnot json', "d.jsonl:2: not JSON in UTF-8 ("),
        ("[1]", "d.jsonl:1: found a list, expected an object with question and completion."),
        ('{"text": "a"}', "d.jsonl:1: found the columns text. Expected one of question, problem, prompt, query."),
        ('{"question": "a"}', "d.jsonl:1: found the columns question. Expected one of completion, response, solution"),
        ('{"question": "a", "completion": "b"}\n{"question": "c"}', "d.jsonl:2: found nothing under 'completion'"),
        ('{"question": "a", "completion": 3}', "d.jsonl:1: found 3 under 'completion', expected a text."),
        ('{"question": " ", "completion": "b"}', "d.jsonl:1: question is empty. Correct or remove the row."),
        ('\n{"question": "a", "completion": " "}', "d.jsonl:2: its completion is empty, so there is nothing to learn."),
        ('{"question": "\\ud83d", "completion": "b"}', "d.jsonl:1: question holds half a character"),
        ('{"messages": [{"role": "user", "content": "a"}]}', "d.jsonl:1: found the columns question, messages."),
        ('{"messages": [{"role": "tool", "content": "a"}]}', 'd.jsonl:1: found the roles tool under "messages".'),
        ("", "d.jsonl: found no rows. Expected an example per line: "),
    ],
)
def test_data_that_can_not_be_learnt_from(text: str, expected: str) -> None:
    Path("d.jsonl").write_text(text)
    assert fails(1).startswith(expected)
    assert not Path("ad.partial").exists(), "there is nothing to go on from"


def test_files_that_can_not_be_read() -> None:
    assert fails(1, data="no.jsonl").startswith("no.jsonl: can't be read (No such file or directory)")
    Path("x.parquet").write_bytes(b"PAR1")
    assert fails(1, data="x.parquet").startswith("x.parquet: can't be read (")


# ------------------------------------------------------------------------------------------------------ long examples


def test_longer_examples_are_dropped_or_cut_and_always_counted() -> None:
    tokenizer = prompts.load_tokenizer(TINY)
    rows = [*ROWS, {**ROWS[0], "question": 5 * ROWS[0]["question"]}]
    write_jsonl("d.jsonl", rows)
    made = [prompts.example(tokenizer, row["question"], row["completion"], PLAIN) for row in rows]
    limit = sorted(len(example.token_ids) for example in made)[5]
    long = sum(len(example.token_ids) > limit for example in made)
    whole = sum(example.prompt_length >= limit for example in made)  # of their completion nothing would be left
    assert long > whole > 0
    dropped = run(*QUICK, f"sequence_len={limit}")
    assert (dropped["num_examples"], dropped["num_dropped"], dropped["num_cut"]) == (13 - long, long, 0)
    assert f"{long} longer than train.sequence_len {limit}: left out" in dropped["said"]
    cut = run(*QUICK, f"sequence_len={limit}", "too_long=cut", out="cut")
    assert (cut["num_examples"], cut["num_dropped"], cut["num_cut"]) == (13 - whole, whole, long - whole)
    assert f"{long - whole} longer than train.sequence_len {limit}: cut" in cut["said"]
    message = fails(1, "sequence_len=3", out="none")
    assert message == (
        "There are no examples to train on: all 13 are longer than train.sequence_len 3. Raise it, or give other data."
    )


def test_a_cut_example_has_no_end_of_text() -> None:
    from qrft.data.training_rows import Row
    from qrft.training.finetune import make_examples

    tokenizer = prompts.load_tokenizer(TINY)
    rows = [Row("a", ROWS[0]["question"], ROWS[0]["completion"])]
    whole = prompts.example(tokenizer, ROWS[0]["question"], ROWS[0]["completion"], PLAIN)
    settings = Training(sequence_len=len(whole.token_ids) - 3, too_long="cut")
    assert make_examples(rows, tokenizer, settings).kept == [prompts.Example(whole.token_ids[:-3], whole.prompt_length)]


# ---------------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("lora_rr=4", "--set: lora_rr: unknown key. Did you mean lora_r?"),
        ("lora_r=0", "--set: lora_r: found 0. Allowed: a whole number >= 1"),
        ("vram=9", "--set: vram: found 9. Allowed: auto, 8, 12, 16, 24, or null"),
        ("prompt=chatt", "--set: prompt: found the text 'chatt'. Did you mean chat? Allowed: plain, alpaca, chat"),
        ("adapter=none", "--set: adapter: found none with train.quantization nf4, whose weights can't be trained."),
        ("sequence_len", "--set: found 'sequence_len'. Allowed: key=value"),
    ],
)
def test_settings_that_are_not_allowed(setting: str, expected: str) -> None:
    assert fails(2, setting).startswith(expected)


def test_a_key_may_be_spelled_as_messages_and_recipes_do() -> None:
    run(*QUICK)
    assert not run(*(f"train.{setting}" for setting in QUICK))["is_new"]


def test_bases_that_can_not_be_trained(tmp_path: Path) -> None:
    assert fails(2, base="m.gguf").startswith("m.gguf: a .gguf can't be trained.")
    model = make_model(tmp_path / "model")
    (model / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes()[:-8])
    assert "model.safetensors: cut short" in fails(1, base=str(model))
    assert fails(1, "prompt=chat").startswith(f"{TINY}: prompt chat: its tokenizer has no chat template.")


def test_a_loss_that_is_no_number_names_the_step_and_its_rows() -> None:
    message = fails(1, "learning_rate=1e30", "num_epochs=4", "micro_batch_size=4", "warmup_ratio=0")
    assert "is not a finite number" in message and "Lower train.learning_rate" in message
    assert message.count("d.jsonl:") == 4, "a step's batch is four rows"


# ------------------------------------------------------------------------------------------------------ chat prompts


def test_a_chat_is_the_tokenizers_own(tmp_path: Path) -> None:
    tokenizer = prompts.load_tokenizer(chat_model(tmp_path / "chat"))
    ids = prompts.prompt_ids(tokenizer, "How many?", IN_CHAT, [("One?", "1")])
    assert tokenizer.decode(ids) == "<s>user\nOne?</s>\n<s>assistant\n1</s>\n<s>user\nHow many?</s>\n<s>assistant\n"
    example = prompts.example(tokenizer, "How many?", "3", IN_CHAT)
    assert example.token_ids[: example.prompt_length] == prompts.prompt_ids(tokenizer, "How many?", IN_CHAT)
    assert tokenizer.decode(example.token_ids[example.prompt_length :]) == "3</s>"


def test_a_chat_has_one_beginning_even_where_its_template_has_none(tmp_path: Path) -> None:
    tokenizer = prompts.load_tokenizer(chat_model(tmp_path / "bare", CHATML.replace("<s>", "")))
    ids = prompts.prompt_ids(tokenizer, "How many?", IN_CHAT)
    assert ids.count(tokenizer.bos_token_id) == 1 and ids[0] == tokenizer.bos_token_id
    double = prompts.load_tokenizer(chat_model(tmp_path / "double", "<s>" + CHATML))
    with pytest.raises(ModelError, match=r"its chat template begins with two <s>\."):
        prompts.prompt_ids(double, "How many?", IN_CHAT)


def test_a_chat_ends_by_the_turns_own_token(tmp_path: Path) -> None:
    tokenizer = prompts.load_tokenizer(chat_model(tmp_path / "chat", CHATML.replace("</s>", "<|end|>")))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|end|>"]})
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    assert prompts.example(tokenizer, "How many?", "3", IN_CHAT).token_ids[-1] == end != tokenizer.eos_token_id
    assert prompts.end_ids(tokenizer, IN_CHAT) == [end, tokenizer.eos_token_id]
    assert prompts.end_ids(tokenizer, PLAIN) == [tokenizer.eos_token_id]


def test_a_template_that_fails_or_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    failing = prompts.load_tokenizer(chat_model(tmp_path / "failing", "{{ raise_exception('no users') }}"))
    with pytest.raises(ModelError, match=r"failing: prompt chat: its chat template fails \(no users\)"):
        prompts.prompt_ids(failing, "How many?", IN_CHAT)
    with pytest.raises(UsageError, match="a server has its own chat template"):
        make_requests(draw("tiny-math/train", 0, 1), None, IN_CHAT)


def test_examples_of_a_chat_are_earlier_turns(tmp_path: Path) -> None:
    tokenizer = prompts.load_tokenizer(chat_model(tmp_path / "chat"))
    problems = draw("tiny-math/train", 0, 3)
    examples = choose_examples(problems, 1, IN_CHAT, "here")
    request = make_requests(problems, tokenizer, IN_CHAT, examples)[2]
    (question, solution), asked = examples[0], problems["question"].to_pylist()[2]
    text = f"<s>user\n{question}</s>\n<s>assistant\n{solution}</s>\n<s>user\n{asked}</s>\n<s>assistant\n"
    assert tokenizer.decode(request.prompt_ids) == text
    assert request.prompt == text.removeprefix("<s>")  # a server puts the first one itself


@pytest.mark.slow
def test_what_is_trained_in_a_chat_is_sampled_in_it(tmp_path: Path) -> None:
    """Four examples by heart, in turns that end by a token which is not the end of text."""
    model = str(chat_model(tmp_path / "chat", CHATML.replace("</s>\n", "<s>\n")))
    write_jsonl("d.jsonl", ROWS[:4])
    run("num_epochs=120", "micro_batch_size=4", "learning_rate=5e-3", "prompt=chat", base=model)
    write_jsonl("p.jsonl", [{"question": row["question"], "answer": row["completion"]} for row in ROWS[:4]])
    options = ["-k", "1", "--temperature", "0", "--prompt", "chat", "--adapter", "ad", "--quant", "f32", "-o", "s"]
    done = run_qrft("sample", model, "--problems", "p.jsonl", "--threads", "1", *options)
    assert done.exit_code == 0
    samples = pq.read_table("s/shard-000000.parquet").to_pylist()
    assert {row["finish_reason"] for row in samples} == {"stop"}
    assert sum(row["completion"] == ROWS[i]["completion"] for i, row in enumerate(samples)) >= 3


# -------------------------------------------------------------------------------------------------- every weight


def test_every_weight_is_trained_into_a_model_that_is_a_base_itself() -> None:
    run(*QUICK[:2], "learning_rate=1e-3", "quantization=none", "adapter=none", out="model")
    assert set(open_weights(Path("model"))) == set(open_weights(TINY))
    write_jsonl("p.jsonl", [{"question": row["question"], "answer": "1"} for row in ROWS[:2]])
    sample = ["sample", "model", "--problems", "p.jsonl", "-k", "2", "--threads", "1", "--max-new-tokens", "8"]
    done = run_qrft(*sample, "--json")  # compares the logits too
    assert json.loads(done.stdout)["num_samples"] == 4


@pytest.mark.slow
def test_a_run_without_adapters_goes_from_end_to_end(tmp_path: Path) -> None:
    recipe = RECIPES / "tiny.yaml"
    changes = [
        *("problems.num_train=24", "problems.num_test=40", "sample.num_samples=4", "num_threads=1"),
        "train={quantization: none, num_epochs: 30, learning_rate: 1e-3, micro_batch_size: 8, adapter: none}",
        "rft={adapter: lora, learning_rate: 2e-3}",
    ]
    options = [word for change in changes for word in ("--set", change)]
    done = run_qrft("run", str(recipe), "-o", "runs", *options)
    assert done.exit_code == 0, done.output
    folder, summary = Path("runs/tiny"), json.loads(Path("runs/tiny/summary.json").read_text())
    assert (folder / "sft/train/model/config.json").exists() and (folder / "rft/train/adapter").exists()
    assert (folder / "sft/gguf/base.gguf").exists() and (folder / "rft/gguf/adapter.gguf").exists()
    assert summary["parity"] < 1e-2 and summary["sft"]["accuracy"] > 0
    assert done.stdout.count("--- prompt of the first example") == 1  # both trainings have the same: it is shown once


def test_a_work_folder_of_someone_else_is_left_alone(tmp_path: Path) -> None:
    Path("ad.partial").mkdir()
    Path("ad.partial/thesis.txt").write_text("mine")
    assert "ad.partial: is needed as a work folder, but qrft train did not make it. Move it away" in fails(1)
    Path("elsewhere").mkdir()
    Path("elsewhere/trained").mkdir()
    Path("b.partial").symlink_to("elsewhere")
    assert "b.partial: is needed as a work folder" in fails(1, out="b")
    assert [path.name for path in Path("ad.partial").iterdir()] == ["thesis.txt"]
    assert [path.name for path in Path("elsewhere").iterdir()] == ["trained"]


@pytest.mark.parametrize(("out", "code", "expected"), [("", 2, "the path is empty"), ("/proc/x", 1, "/proc/x")])
def test_a_place_where_nothing_can_be_written_is_one_clear_error(out: str, code: int, expected: str) -> None:
    assert expected in commands.fails(code, *words(out=out))
