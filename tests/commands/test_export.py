"""`qrft export`: what other programs open has the trained prompt inside, and answers as the trained model does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.commands import facts_of, fails, fails_at_once, python, run_process, run_qrft
from helpers.finished import make_run
from helpers.hub import Hub
from helpers.models import make_model

from qrft.commands.trained import find_trained
from qrft.models import prompts
from qrft.models.find import BUILTIN
from qrft.models.gguf.own_prompts import own_prompts
from qrft.models.loading import load_tokenizer
from qrft.models.wording import Wording

CHATML = (
    "{% for m in messages %}<s>{{ m.role }}\n{{ m.content }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% if not thinks %}[]{% endif %}{% endif %}"
)
SYSTEM = 'Say "it" in {{ few }} words.\nNo more.'
CHAT = Wording(prompt="chat", system=SYSTEM, chat_template_args={"thinks": False})
TOLD = ["prompt=chat", f"system={json.dumps(SYSTEM)}", "chat_template_args.thinks=false"]
QUESTIONS = ["Tom has 12 apples. How many?", "  é 日本\n1234 "]


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield tmp_path_factory.mktemp("planted-home-4f2a")


@pytest.fixture(scope="module")
def chat(home: Path) -> Path:
    """A run of a chat model, whose base lies in a home folder."""
    base = make_model(home / "model", eos_token_id=1)
    (base / "chat_template.jinja").write_text(CHATML)
    return make_run(home / "runs", base, *TOLD)


@pytest.fixture(scope="module")
def plain(home: Path) -> Path:
    """A run of the tiny base with a prompt of qrft's own."""
    return make_run(home / "plain", "tiny-base", "prompt=alpaca")


def export(run: Path, out: Path, to: str, *options: object) -> Any:
    return facts_of("export", run, "--to", to, "-o", out, "--threads", 1, *options)


def told(folder: Path) -> list[str]:
    """Return the files that tell of the machine."""
    return [path.name for path in folder.rglob("*") if path.is_file() and b"planted-home" in path.read_bytes()]


def expected_ids(folder: Path, wording: Wording) -> list[list[int]]:
    tokenizer = load_tokenizer(folder)
    return [prompts.prompt_ids(tokenizer, question, wording) for question in QUESTIONS]


def test_a_gguf_has_the_trained_prompt_and_answers_alike(chat: Path, tmp_path: Path) -> None:
    facts = export(chat, tmp_path / "out", "gguf:f16")
    proof = facts["proof"]
    assert (proof["num_problems"], proof["num_same"] + proof["num_ties"]) == (6, 6)
    assert proof["num_same_prompts"] == 6 and proof["num_same_texts"] == proof["num_texts"] > 20
    file = tmp_path / "out" / facts["file"]
    assert (
        sorted(facts["files"]) == ["Modelfile", "README.md", "made-rft-f16.gguf"] and file.name == "made-rft-f16.gguf"
    )
    own = own_prompts(file, QUESTIONS, [])
    assert own.prompts == own.served == expected_ids(chat.parents[1] / "model", CHAT)
    assert own.ends == [1] and not told(tmp_path)
    assert "llama-server -m" in facts["next"][0] and "--model local-chat-completions" in facts["lm_eval"]


def test_a_quantised_file_says_how_far_it_agrees(plain: Path, tmp_path: Path) -> None:
    said = run_qrft("export", plain, "--to", "ollama", "-o", tmp_path / "out", "--check", 3, "--threads", 1).output
    assert "of 3 the same as the trained model's" in said and "ollama create made-rft" in said
    assert max(map(len, said.split("Go on with")[0].splitlines())) <= 80 + len(str(tmp_path))
    file = tmp_path / "out" / "made-rft-q4_k_m.gguf"
    assert own_prompts(file, QUESTIONS, []).prompts == expected_ids(BUILTIN["tiny-base"], Wording(prompt="alpaca"))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["Modelfile", "README.md", file.name, "out"]


@pytest.mark.parametrize("to", ["merged", "adapter"])
def test_a_folder_for_transformers_has_the_trained_prompt(to: str, chat: Path, tmp_path: Path) -> None:
    facts = export(chat, tmp_path / "out", to)
    assert facts["proof"]["num_same"] + facts["proof"]["num_ties"] == 6
    tokenizer: Any = load_tokenizer(tmp_path / "out")
    turns = [[prompts.turn("user", question)] for question in QUESTIONS]
    ids = [list(tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_dict=False)) for turn in turns]
    assert ids == expected_ids(chat.parents[1] / "model", CHAT)
    config = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert config["chat_template"] == (tmp_path / "out" / "chat_template.jinja").read_text()
    assert not told(tmp_path) and "--apply_chat_template" in facts["lm_eval"]
    if to == "merged":
        assert json.loads((tmp_path / "out" / "generation_config.json").read_text())["eos_token_id"] == 1


def test_the_card_tells_of_base_data_recipe_and_proof(chat: Path, tmp_path: Path) -> None:
    export(chat, tmp_path / "out", "adapter", "--model", "sft", "--push", "me/mine", "--dry-run")
    card = (tmp_path / "out" / "README.md").read_text()
    for part in ("base_model: model", "library_name: peft", "supervised fine-tuning", "221 worked solutions"):
        assert part in card
    for part in ('"me/mine"', "name: made", "chat_template_args", "of 6 greedy answers are the same", "`lora_r`"):
        assert part in card


def test_what_is_not_the_trained_model_is_not_kept(chat: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof fails where a wrong file would be shipped: here one without the adapter."""
    from qrft.commands import shipped

    whole = shipped.export_base

    def without(model: Path, out: Path, quant: Any, adapter: Path | None = None, **how: Any) -> None:
        whole(model, out, quant, None, **how)

    monkeypatch.setattr(shipped, "export_base", without)
    message = fails(1, "export", chat, "--to", "gguf:f16", "-o", tmp_path / "out", "--threads", 1)
    assert "problems otherwise than the model that was trained, and not for a tie" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_folder_of_a_training_is_exported_with_the_base_that_it_names(home: Path, tmp_path: Path) -> None:
    rows = [{"question": f"What is {n} and 4?", "completion": f"{n}+4={n + 4}\n#### {n + 4}"} for n in range(4)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    base = make_model(tmp_path / "elsewhere" / "llama")
    words = [word for key in ("quantization=none", "num_epochs=1") for word in ("--set", key)]
    run_qrft("train", base, "--data", tmp_path / "rows.jsonl", "-o", tmp_path / "ad", "--threads", 1, *words)
    out = tmp_path / "out"
    wanted = "was trained on llama, a folder that is not here. Say where it is with --base."
    assert wanted in fails(2, "export", tmp_path / "ad", "--to", "adapter", "-o", out)
    other = make_model(tmp_path / "other", "qwen3")
    message = fails(1, "export", tmp_path / "ad", "--to", "adapter", "-o", out, "--base", other)
    assert "is not the base model of this training" in message
    problems = ("--problems", tmp_path / "rows.jsonl", "--check", 2)
    fails(1, "export", tmp_path / "ad", "--to", "adapter", "-o", out, "--base", base, *problems)  # rows without answers
    facts = export(tmp_path / "ad", out, "gguf:q8_0", "--base", base, "--check", 2)
    assert facts["model"] == "ad" and facts["proof"]["num_problems"] == 2
    assert "qrft train llama --data rows.jsonl -o adapter" in (out / "README.md").read_text()


# ------------------------------------------------------------------------------------------------------- bad input ----


def test_what_is_no_run_is_one_message(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    to = ("--to", "gguf:f16", "-o", "out")
    assert "there is no such folder. Expected the folder of a run" in fails_at_once(2, "export", "gone", *to)
    Path("recipe.yaml").write_text("name: x\n")
    assert "is a recipe. Run it with `qrft run`" in fails_at_once(2, "export", "recipe.yaml", *to)
    shutil.copyfile("recipe.yaml", "notes.txt")
    assert "notes.txt: is a file" in fails_at_once(2, "export", "notes.txt", *to)
    Path("empty").mkdir()
    Path("recipe.yaml").unlink()
    assert "empty: is no run" in fails_at_once(2, "export", "empty", *to)
    message = fails_at_once(2, "export", plain.parent, *to)
    assert "is no run" in message and str(plain) in message
    adapter = plain / "rft" / "train" / "adapter"
    assert "It holds an adapter, but no train.json" in fails_at_once(2, "export", adapter, *to)


def test_a_run_that_is_half_done_says_what_there_is(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = make_run(home / "half", "tiny-base", phases=("sft",))
    message = fails_at_once(2, "export", run, "--to", "merged", "-o", "out")
    assert "has no model rft yet. Its finished models: sft, base. Run its recipe to the end" in message
    assert "has no model control. " in fails_at_once(
        2, "export", run, "--to", "merged", "-o", "out", "--model", "control"
    )
    damaged = next((run / "sft" / "train").resolve().glob("adapter/*.safetensors"))
    damaged.write_bytes(damaged.read_bytes()[:-8])
    message = fails_at_once(1, "export", run, "--to", "merged", "-o", "out", "--model", "sft")
    assert "bytes, but its manifest says" in message


def test_of_several_models_or_runs_one_has_to_be_named(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    models = ("base_model=null", "models={one: {base_model: tiny-base}, two: {base_model: tiny-base}}")
    run = make_run(home / "many", "tiny-base", *models, phases=("one/rft",))
    message = fails_at_once(2, "export", run, "--to", "adapter", "-o", "out")
    assert f"is a run of several models. Name the folder of one of them: {run / 'one'}, {run / 'two'}." in message
    (model,) = find_trained(run / "one")
    assert (model.name, model.base_dir, len(model.problems)) == ("one-rft", BUILTIN["tiny-base"], 2)
    sweep = make_run(home / "swept", "tiny-base", "sweep={seed: [0, 1]}", phases=("seed=0/rft",))
    assert f"Name one of them. There is {sweep / 'seed=0'}." in fails_at_once(
        2, "export", sweep, "--to", "adapter", "-o", "o"
    )
    assert find_trained(sweep / "seed=0")[0].name == "seed=0-rft"


def test_an_output_of_others_is_left_alone(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("full").mkdir()
    Path("full/kept.txt").write_text("mine")
    assert "already exists and is not empty" in fails_at_once(2, "export", plain, "--to", "merged", "-o", "full")
    assert "is a file" in fails_at_once(2, "export", plain, "--to", "merged", "-o", "full/kept.txt")
    assert "--to gguf:q3: unknown. Give gguf:q4_k_m" in fails_at_once(
        2, "export", plain, "--to", "gguf:q3", "-o", "out"
    )
    no_push = fails_at_once(2, "export", plain, "--to", "merged", "-o", "out", "--dry-run")
    assert "--dry-run: has no effect without --push" in no_push
    assert "is no name of a repository" in fails_at_once(
        2, "export", plain, "--to", "merged", "-o", "o", "--push", "x y"
    )
    base = fails_at_once(2, "export", plain, "--to", "adapter", "-o", "out", "--model", "base")
    assert "made-base is the base model, so it has no adapter" in base
    nowhere = fails_at_once(1, "export", plain, "--to", "adapter", "-o", "/proc/nowhere/out")
    assert "/proc/nowhere: no folder can be made here" in nowhere


def test_no_room_is_told_before_any_work(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=1 << 20))
    message = fails_at_once(1, "export", plain, "--to", "gguf:f16", "-o", "out")
    assert "has 0.0 GiB free, and this export needs 0.1 GiB there" in message and "Make room" in message


@pytest.mark.parametrize(
    ("token", "wanted"),
    [("", "is not logged in to the Hugging Face hub. Log in with `hf auth login`"), ("hf_x", "Look at the network")],
)
def test_a_push_that_can_not_be_fails_before_any_work(token: str, wanted: str, tmp_path: Path) -> None:
    code = "from qrft.commands.hub import check_access\ncheck_access('me/mine')"
    place = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9", "HF_TOKEN": token}
    assert wanted in run_process(python(code), 1, **place).stderr


@pytest.mark.slow
def test_a_folder_is_uploaded_as_it_is(tmp_path: Path) -> None:
    """By the hub's own library, to a server that speaks as the hub does where files are small."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "README.md").write_text("---\ntags: [qrft]\n---\n# It")
    with Hub() as hub:
        code = """
            from pathlib import Path
            from qrft.commands.hub import check_access, push
            import sys
            check_access("me/mine")
            print(push(Path(sys.argv[1]), "me/mine", is_private=True, is_dry=False)["url"])
        """
        place = {"HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_x"}
        done = run_process(python(code, folder), **place)
    assert "/commit/abc" in done.stdout
    assert "private" in hub.created.values() or hub.created["private"]
    assert hub.files == {"README.md": (folder / "README.md").read_bytes()}
