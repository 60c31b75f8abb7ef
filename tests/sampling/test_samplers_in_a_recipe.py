"""What a recipe says of its sampler, and what the plan and the forecast make of it."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pytest
from click.testing import CliRunner
from helpers.models import make_other
from helpers.paths import TINY

from qrft.cli.main import main
from qrft.config.load import load
from qrft.data.schema import PROBLEMS
from qrft.errors import RecipeError
from qrft.models.find import BUILTIN
from qrft.models.loading import load_tokenizer
from qrft.models.wording import Wording
from qrft.pipeline.flow import plan
from qrft.pipeline.graph import Step
from qrft.pipeline.stages.sample import Settings as Sampling
from qrft.pipeline.store import Store
from qrft.planning.devices import Device
from qrft.planning.forecast import forecast
from qrft.sampling.backends import registry
from qrft.sampling.requests import make_requests

IN_CHAT = Wording(prompt="chat")
TORCH = ("gguf={}", "sample.sampler=transformers")
SERVER = ("gguf={}", "sample.sampler=openai", "sample.server=http://localhost:8000/v1")


def steps(*settings: str) -> dict[str, Step]:
    return {step.path: step for step in plan(load(TINY, settings), BUILTIN["tiny-base"])}


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        (
            ("gguf={}", "sample.sampler=openai"),
            "sample.server: missing with sample.sampler openai. Allowed: The address of the server, such as "
            "http://localhost:8080/v1.",
        ),
        (
            ("sample.server=http://x",),
            "sample.server: found http://x with sample.sampler llama.cpp, which does not read it. Allowed: leave "
            "it out, or choose sample.sampler openai",
        ),
        (
            (*SERVER, "sample.num_sequences=4"),
            "sample.num_sequences: found 4 with sample.sampler openai, which does not read it. Allowed: leave "
            "it out, or choose sample.sampler llama.cpp or transformers",
        ),
        (
            ("sample.sampler=transformers",),
            "gguf: found settings of a GGUF file with sample.sampler transformers, which does not read one. Allowed: "
            "no such settings (--set gguf={} removes them), or sample.sampler llama.cpp",
        ),
        (
            (*SERVER, "base_model=null", "models={a: {base_model: tiny-base}}", "sample.server_model=b"),
            "sample.server_model: found a name together with models. Allowed: null; the server then knows each "
            "model by its base_model",
        ),
        (
            (*SERVER, "sample.extra_body={a: .nan}"),
            "sample.extra_body: found what JSON can't hold (Out of range float values are not JSON compliant). "
            "Allowed: texts, numbers, lists, mappings",
        ),
        (
            (*SERVER[:2], "sample.server=http://me:secret@host"),
            "sample.server: 'http://host' came with a user name, a password or a query, which would stand in every "
            "message. Leave them out of the address. Put a key into an environment variable and name that one as "
            "`api_key_env`; for a name and a password the variable holds Basic and their base64, such as "
            "'Basic bWU6bXkgcGFzc3dvcmQ='",
        ),
        (("sample.sampler=vllm",), "sample.sampler: found the text 'vllm'. Allowed: llama.cpp, transformers, openai"),
    ],
    ids=str,
)
def test_a_sampler_reads_what_is_set(settings: tuple[str, ...], fault: str) -> None:
    with pytest.raises(RecipeError) as error:
        load(TINY, settings)
    assert str(error.value).partition(": ")[2] == fault


def test_a_key_that_is_not_there_is_missed_before_a_run_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)
    words = [f"--set={setting}" for setting in (*SERVER, "sample.api_key_env=SOME_KEY")]
    done = CliRunner().invoke(main, ["run", str(TINY), "-o", str(tmp_path), *words])
    assert done.exit_code == 1 and "the environment variable SOME_KEY is not set" in done.stderr
    assert not list((tmp_path / "store").glob("*-*"))


def test_every_own_setting_of_a_sampler_is_a_key_of_the_recipe() -> None:
    keys = dict(load(TINY).sample)
    for name in registry.SAMPLERS:
        for key, field in registry.backend(name).Settings.model_fields.items():
            assert keys[key] == field.default and field.description


def test_files_are_exported_for_llama_cpp_alone() -> None:
    plans = {name: steps(*settings) for name, settings in {"llama": (), "torch": TORCH, "server": SERVER}.items()}
    exports = {name: [path for path, step in made.items() if step.stage == "export"] for name, made in plans.items()}
    assert exports == {"llama": ["base/gguf", "sft/gguf", "rft/gguf"], "torch": [], "server": []}
    for made in plans.values():
        assert made["sft/train"].digest == plans["llama"]["sft/train"].digest
        assert made["rft/test-samples"].inputs["model"] == made["sft/train"].inputs["model"]
    for name in ("torch", "server"):
        assert plans[name]["sft/test-samples"].inputs["adapter"] is plans[name]["sft/train"]
        assert plans[name].keys() == plans["llama"].keys() - exports["llama"]
    full = steps(*TORCH, "train.adapter=none", "train.quantization=none")
    assert full["sft/test-samples"].inputs["tuned"] is full["sft/train"]


def test_how_a_server_is_reached_decides_no_sample() -> None:
    def digest(*settings: str) -> str:
        return steps(*settings)["base/test-samples"].digest

    elsewhere = ("sample.server=http://elsewhere/v1", "sample.max_in_flight=3", "sample.api_key_env=KEY")
    assert digest(*SERVER) == digest(*SERVER, *elsewhere)
    assert digest(*SERVER) == digest(*SERVER, "sample.server_model=tiny-base"), "its name is that of base_model"
    others = [digest(), digest(*TORCH), digest(*TORCH, "sample.num_sequences=3"), digest(*SERVER)]
    others += [digest(*SERVER, "sample.server_model=other"), digest(*SERVER, "sample.chat=true")]
    assert len(set(others)) == len(others)
    tuned = [steps(*SERVER, *more)["sft/test-samples"].digest for more in ((), ("sample.server_model=other",))]
    assert tuned[0] == tuned[1], "a tuned model has a name of its own"
    assert "server" not in steps()["base/test-samples"].identity, "a key of another sampler enters no digest"


def test_the_forecast_says_what_it_does_not_know(tmp_path: Path) -> None:
    device = Device("a card", 2**34, is_gpu=True, flops=1e13, bandwidth=5e11)
    few = ("problems.num_train=4", "problems.num_test=4")
    for settings, note in (
        (TORCH, "the time of transformers is only known with --calibrate"),
        (SERVER, "by a server, whose memory and time are not estimated"),
    ):
        found = forecast(steps(*settings, *few).values(), Store(tmp_path), device)
        sampled = [row for row in found.rows if row.stage == "sample"]
        assert len(sampled) == 4 and found.seconds is None
        for row in sampled:
            assert row.seconds is None and row.notes[-1] == note and row.tokens > 0 and not row.faults
            assert (row.memory > 0) == (settings is TORCH)
        assert all(row.seconds is not None for row in found.rows if row.stage != "sample")


@pytest.mark.parametrize(
    ("settings", "note"),
    [
        (TORCH, "4 sequences at once; the time of transformers is only known with --calibrate"),
        (SERVER, "by a server, whose memory and time are not estimated"),
    ],
    ids=["transformers", "openai"],
)
def test_the_plan_shows_what_it_does_not_know(settings: tuple[str, ...], note: str) -> None:
    few = ("problems.num_train=4", "problems.num_test=4", "sample.num_samples=1")
    words = [word for setting in (*settings, *few) for word in ("--set", setting)]
    shown = CliRunner().invoke(main, ["plan", str(TINY), *words, "-o", "none"], catch_exceptions=False).output
    shown = " ".join(shown.split())
    assert re.search(r"Time:\s+4 of the 16 steps have no estimate; the others take", shown)
    assert re.search(rf"sample: \S+-?samples; {note}", shown)


def test_a_server_puts_the_token_that_begins_a_text() -> None:
    tokenizer = load_tokenizer(BUILTIN["tiny-base"])  # of its own: it is changed
    tokenizer.chat_template = "{{ bos_token }}{% for turn in messages %}[{{ turn.role }}]{{ turn.content }}{% endfor %}"
    rows = [{"problem_id": "p", "question": "2 + 2 = ?", "solution": "", "answer": "4"}]
    (request,) = make_requests(pa.Table.from_pylist(rows, schema=PROBLEMS), tokenizer, IN_CHAT)
    assert request.prompt == "[user]2 + 2 = ?"
    assert request.prompt_ids[0] == tokenizer.bos_token_id and request.prompt_ids.count(tokenizer.bos_token_id) == 1


def test_a_model_without_a_gguf_file_is_sampled_by_transformers_and_the_plan_says_so(tmp_path: Path) -> None:
    model = make_other(tmp_path / "model", "GPTNeoX")
    planned = plan(load(TINY, [f"base_model={model}", "train.quantization=none"]), model)
    samplers = {step.settings.sampler for step in planned if isinstance(step.settings, Sampling)}
    assert samplers == {"transformers"} and not any(step.stage == "export" for step in planned)
    options = ["--set", f"base_model={model}", "--set", "train.quantization=none", "-o", str(tmp_path / "runs")]
    words = " ".join(CliRunner().invoke(main, ["plan", str(TINY), *options]).output.split())
    assert "model: qrft makes no GGUF file of a GPTNeoXForCausalLM, so transformers samples it" in words
    assert "Traceback" not in words and "rft/train to do" in words
