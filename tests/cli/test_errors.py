"""Each error that qrft raises on purpose ends a command with its exit code and a message that names the way out."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers.paths import RECIPES, TINY

from qrft import errors
from qrft.cli.main import main
from qrft.errors import QrftError
from qrft.sampling.backends.llama_cpp.process import LlamaProcess

QUESTION = json.dumps({"problem_id": "a", "question": "3 and 4?", "answer": "7"})
SAMPLE = ["sample", "tiny-base", "--problems", "p.jsonl", "-k", "1", "--threads", "1", "-o", "out"]


def existing_folder(patch: pytest.MonkeyPatch) -> list[str]:
    Path("out").mkdir()
    return ["pretrain", str(RECIPES / "tiny-base.yaml"), "--out", "out"]


def broken_model(patch: pytest.MonkeyPatch) -> list[str]:
    Path("model").mkdir()
    return ["sample", "model", *SAMPLE[2:]]


def damaged_artifact(patch: pytest.MonkeyPatch) -> list[str]:
    Path("store/sample-0123456789abcdef0123").mkdir(parents=True)
    Path("store/sample-0123456789abcdef0123/manifest.json").write_text("{")
    Path("store/sample-0123456789abcdef0123/samples.jsonl").write_text(QUESTION)
    return ["grade", "store/sample-0123456789abcdef0123/samples.jsonl", "--problems", "p.jsonl", "-o", "out.parquet"]


def no_memory(patch: pytest.MonkeyPatch) -> list[str]:
    """The process says what C++ says without memory, and aborts as it then does."""
    start = LlamaProcess._start

    def started(self: LlamaProcess) -> None:
        start(self)
        self._log.write(b"terminate called after throwing an instance of 'std::bad_alloc'\n")
        self._log.flush()
        os.kill(self._process.pid, signal.SIGABRT)
        self._process.wait()

    patch.setattr(LlamaProcess, "_start", started)
    return SAMPLE


# The command that raises each, and what its message advises.
COMMANDS: dict[str, tuple[Callable[[pytest.MonkeyPatch], list[str]], str]] = {
    "UsageError": (lambda _: ["sample", "m.gguf", *SAMPLE[2:]], "Name its folder with --tokenizer"),
    "RecipeError": (lambda _: ["plan", str(TINY), "--set", "problems.num_train=1000000000"], "Allowed: 1 to 1,000,000"),
    "DataError": (lambda _: ["train", "tiny-base", "--data", "no.jsonl", "-o", "out"], "Name"),
    "ModelError": (broken_model, "check the path"),
    "StoreError": (existing_folder, "Choose a new folder with --out"),
    "DamagedError": (damaged_artifact, "again"),
    "SamplerError": (lambda _: [*SAMPLE, "--max-new-tokens", "100000"], "Lower max_new_tokens"),
    "OutOfMemoryError": (no_memory, "Lower num_sequences"),
}


def test_all_errors_are_listed_here() -> None:
    raised = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, QrftError)}
    assert raised - {"QrftError"} == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_raises_it_and_its_message_names_the_way_out(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("p.jsonl").write_text(QUESTION + "\n")
    prepare, advice = COMMANDS[name]
    done = CliRunner().invoke(main, prepare(monkeypatch))
    assert isinstance(done.exception, SystemExit), repr(done.exception)
    error = done.exception.__context__
    assert type(error) is getattr(errors, name), done.output
    assert done.exit_code == error.exit_code and "Traceback" not in done.output.partition("Its last log lines")[0]
    assert advice in done.stderr.partition("Error: ")[2], done.stderr
