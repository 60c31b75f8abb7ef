"""Teachers: models that a server samples and nobody trains, whose paths others learn from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Thread

import pytest
from helpers.commands import command_line, fails, run_process, run_qrft
from helpers.jsonl import read_jsonl
from helpers.quiet_server import QuietServer
from helpers.recipes import fault
from helpers.servers import llama_server

from qrft.config.load import load
from qrft.models.find import BUILTIN
from qrft.models.gguf.base import export_base
from qrft.pipeline.flow import plan

RECIPE = """
name: taught
models:
  small: {base_model: tiny-base}
  teacher: {sampler: openai, server: SERVER, server_model: big}
problems: {train: tiny-math/train, test: tiny-math/test, num_train: 4, num_test: 2}
train: {lora_r: 4, num_epochs: 1, micro_batch_size: 8}
sample: {num_samples: 2, temperature: 1.0, max_new_tokens: 24}
curate: {pool: [teacher]}
evaluate: {max_new_tokens: 24}
num_threads: 1
"""
BASE = """\
name: t
problems: {train: tiny-math/train, test: tiny-math/test, num_train: 3, num_test: 2}
"""
TEACHER = "{sampler: openai, server: http://127.0.0.1:1/v1, server_model: big}"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@contextmanager
def answering(names: list[str]) -> Iterator[str]:
    """A server whose answers bear these names in turn, the last for ever, each a right one to nothing."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send({"data": [{"id": "big"}]})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            name = names.pop(0) if len(names) > 1 else names[0]
            self.send({"model": name, "choices": [{"text": "#### 1", "finish_reason": "stop"}]})

        def send(self, answer: object) -> None:
            content = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None: ...

    server = QuietServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


def recipe(server: str) -> Path:
    Path("recipe.yaml").write_text(RECIPE.replace("SERVER", server))
    return Path("recipe.yaml")


def test_a_model_learns_from_what_a_real_server_wrote(tmp_path: Path) -> None:
    export_base(BUILTIN["tiny-base"], gguf := tmp_path / "big.gguf", "f32")
    with llama_server(tmp_path, {"big": (gguf, None)}) as url:
        run_qrft("run", recipe(url))
    run = Path("runs/taught")
    assert not (run / "small/round-1/samples").exists() and not (run / "teacher/sft").exists()
    rows = read_jsonl(run / "round-1/training/training.jsonl")
    assert {row["source"] for row in rows} <= {"gold", "teacher"}
    summary = json.loads((run / "small/summary.json").read_text())
    assert summary["num_samples"] == 8 and summary["rft"]["accuracy"] >= 0
    # The server is gone, but what it wrote is there.
    run_qrft("run", recipe("http://127.0.0.1:1/v1"))
    steps = json.loads(run_qrft("plan", recipe(url), "-o", "new", "--json").stdout)["steps"]
    told = next(step for step in steps if step["step"] == "teacher/samples")
    assert told["tokens"] == 4 * 2 * 24 // 2 and "by a teacher's server" in told["notes"][0]


def test_a_teacher_that_changes_is_one_message_in_one_call_and_between_two() -> None:
    with answering(["one", "one", "other"]) as url:
        message = run_process(command_line("run", recipe(url)), 1).stderr
    # Several requests are in flight, so either name may be read first.
    changed = r"the teacher changed: 'big' answered as '(one|other)' before, and now as '(one|other)'\."
    first = re.search(changed, " ".join(message.split()))
    assert first is not None and first[1] != first[2], message
    with answering(["third"]) as url:  # the first call's name is kept
        again = fails(1, "run", recipe(url), has_begun=True)
        assert f"answered as '{first[1]}' before, and now as 'third'" in again
    with answering(["one"]) as url:
        words = ["run", Path("recipe.yaml"), "--set", "models.teacher.server_model=gone", "--set"]
        message = fails(1, *words, f"models.teacher.server={url}", has_begun=True)
    assert "the server has no model 'gone' (any more). It lists 'big'." in message


def test_each_model_learns_from_its_own_samples_and_the_teachers_unless_a_pool_says_otherwise() -> None:
    models = f"models: {{small: {{base_model: tiny-base}}, teacher: {TEACHER}}}\n"
    Path("r.yaml").write_text(BASE + models)

    def sources(*sets: str) -> tuple[tuple[str, ...], set[str]]:
        steps = {step.path: step for step in plan(load("r.yaml", [*sets]), BUILTIN["tiny-base"])}
        training = steps.get("round-1/training") or steps["small/round-1/training"]
        return training.settings.sources, {path for path in steps if path.endswith("samples")}  # type: ignore[attr-defined]

    assert sources()[0] == sources("curate.pool=[small, teacher]")[0] == ("small/sft", "teacher")
    alone = sources("curate.pool=[teacher]")
    assert alone[0] == ("",) and "small/round-1/samples" not in alone[1] and "teacher/samples" in alone[1]
    steps = plan(load("r.yaml", ["prompt=chat", "system=Be brief.", "models.teacher.chat=true"]), BUILTIN["tiny-base"])
    asked = next(step.settings for step in steps if step.path == "teacher/samples")
    assert (asked.prompt, asked.system, asked.server_system) == ("plain", None, "Be brief.")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("models", "rest", "message"),
    [
        ("{t: TEACHER}", "", "models: found only teachers. Allowed: a model with a base_model too"),
        ("{a: {train: {}}}", "", "models.a.base_model: missing. Allowed: text, or sampler openai for a teacher"),
        ("{a: {base_model: tiny-base, chat: true}}", "", "models.a.chat: found True, which only a teacher has"),
        (
            "{a: {base_model: tiny-base}, t: {sampler: openai, server: http://h/v1}}",
            "",
            "models.t.server_model: missing. Allowed: text",
        ),
        (
            "{a: {base_model: tiny-base}, t: {sampler: openai, base_model: tiny-base}}",
            "",
            "models.t.base_model: found 'tiny-base', which a teacher has not",
        ),
        (
            "{a: {base_model: tiny-base}, t: TEACHER}",
            "rft: {models: [t]}",
            "rft.models: found 't', a teacher, which is",
        ),
        ("{a: {base_model: tiny-base}, t: TEACHER}", "curate: {pool: [a]}", "curate.pool: found a pool without 't', a"),
        (
            "{a: {base_model: tiny-base}, t: TEACHER}",
            "rounds: 0",
            "rounds: found 0 with a teacher, whose samples nobody",
        ),
        ("{a: {base_model: tiny-base}, t: TEACHER}", "prompt: chat", "prompt: found chat with models.t, whose chat"),
    ],
)
def test_what_a_teacher_can_not_be(models: str, rest: str, message: str) -> None:
    assert message in fault(f"models: {models.replace('TEACHER', TEACHER)}\n{rest}\n", base=BASE)
