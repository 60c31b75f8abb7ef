"""What is passed on tells nothing of the machine: no home folder, no user's name, no token."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.commands import run_qrft
from helpers.models import make_model
from helpers.paths import TINY

from qrft.config.load import load
from qrft.config.paths import for_people, without_folders
from qrft.pipeline.flow import plan

SECRETS = ("ada-planted-7f3c", "hf_planted4f9a77", "sk-planted-8be1")
ROWS = [{"question": f"What is {n} and 4?", "completion": f"{n}+4={n + 4}\n#### {n + 4}"} for n in range(4)]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with a model and data in it, and the tokens that people keep in their environment."""
    home = tmp_path / "home" / SECRETS[0]
    make_model(home / "models" / "llama")
    (home / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    problems = [{"problem_id": str(n), "question": "3 and 4?", "answer": "7"} for n in range(2)]
    (home / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in problems))
    monkeypatch.setenv("HF_TOKEN", SECRETS[1])
    monkeypatch.setenv("OPENAI_API_KEY", SECRETS[2])
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
    monkeypatch.chdir(tmp_path)
    return home


def told(folder: Path) -> Iterator[str]:
    """Yield each file with a secret in it."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        found = [secret for secret in SECRETS if secret.encode() in path.read_bytes()]
        if found:
            yield f"{path.relative_to(folder)}: {found}"


@pytest.mark.parametrize("adapter", ["lora", "none"])
def test_a_trained_model_that_is_pushed(adapter: str, home: Path) -> None:
    settings = [f"adapter={adapter}", "quantization=none", "num_epochs=1", "sequence_len=128"]
    words = [word for setting in settings for word in ("--set", setting)]
    run_qrft("train", home / "models/llama", "--data", home / "rows.jsonl", "-o", "out", "--threads", 1, *words)
    assert not list(told(Path("out")))
    card = json.loads(Path("out/train.json").read_text())["settings"]
    assert (card["base"]["name"], card["data"]["name"]) == ("llama", "rows.jsonl")
    if adapter == "lora":
        assert json.loads(Path("out/adapter_config.json").read_text())["base_model_name_or_path"] == "llama"
        assert '"path/of/llama"' in Path("out/README.md").read_text()


@pytest.mark.parametrize("sampler", ["llama.cpp", "transformers"])
def test_samples_that_are_passed_on(sampler: str, home: Path) -> None:
    of = ["--problems", home / "problems.jsonl", "--sampler", sampler, "-k", 1, "--max-new-tokens", 4, "--threads", 1]
    run_qrft("sample", home / "models/llama", *of, "-o", "samples")
    assert not list(told(Path("samples")))
    exported = list((home / ".cache").rglob("*.gguf"))
    assert len(exported) == (sampler == "llama.cpp")
    assert not any(secret.encode() in file.read_bytes() for secret in SECRETS for file in exported)


def test_the_settings_of_a_report(home: Path) -> None:
    changes = [f"base_model={home}/models/llama", f"problems.train={home}/problems.jsonl"]
    steps = plan(load(TINY, changes), home / "models" / "llama")
    texts = [json.dumps(step.identity) for step in steps]
    assert not any(SECRETS[0] in text for text in texts), "nor does a path enter a digest"
    shown = steps[-1].settings.recipe  # type: ignore[attr-defined]
    assert (shown["base_model"], shown["problems"]["train"]) == ("llama", "problems.jsonl")


def test_names_tell_paths_apart_and_leave_the_rest(home: Path) -> None:
    names = ["/home/ada/a/model", "/home/bob/b/model", "/home/bob/other", "tiny-base", "org/model", "gsm8k/test"]
    assert list(for_people(names).values()) == ["a/model", "b/model", "other", "tiny-base", "org/model", "gsm8k/test"]
    recipe = {"base_model": "/x/m", "evaluate": {"problems": ["gsm8k/test", "/x/p.jsonl"]}, "gguf": {"file": None}}
    assert without_folders(recipe) == {
        "base_model": "m",
        "evaluate": {"problems": ["gsm8k/test", "p.jsonl"]},
        "gguf": {"file": None},
    }
