"""How a run's models get to a server: what vLLM and llama-server are asked, and what a person is told to serve."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from helpers.models import make_adapter
from helpers.script import Answer, Script, completion

from qrft.errors import SamplerError
from qrft.models.find import BUILTIN
from qrft.models.gguf.prepare import prepare_adapter
from qrft.sampling.api import ModelFiles, Request, SamplingParams
from qrft.sampling.backends import registry

BASE = ModelFiles("tiny-base", BUILTIN["tiny-base"])
NOT_FOUND = Answer(404, b'{"detail":"Not Found"}')


def listing(*names: str) -> Answer:
    return Answer(content=json.dumps({"object": "list", "data": [{"id": name} for name in names]}).encode())


def lora_adapters(*paths: str) -> Answer:
    return Answer(content=json.dumps([{"id": i, "path": path, "scale": 1.0} for i, path in enumerate(paths)]).encode())


@pytest.fixture(scope="module")
def sft(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelFiles]:
    """A tuned adapter, as the stage hands it over."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        adapter = make_adapter(tmp_path_factory.mktemp("sft") / "adapter", BUILTIN["tiny-base"])
        yield ModelFiles("sft-0a1b2c3d4e5f", BUILTIN["tiny-base"], adapter, is_tuned=True)


def sampled(script: Script, model: ModelFiles, **settings: Any) -> dict[str, Any]:
    """Take one sample, and return the body of the request for it."""
    backend = registry.backend("openai")
    with closing(backend.open_model(model, backend.Settings(server=script.url, **settings))) as sampler:
        assert len(list(sampler.generate([Request("p", [], 1, 0, "2 + 2 =")], SamplingParams(), []))) == 1
    return script.asked[-1].body


def refused(script: Script, model: ModelFiles) -> str:
    with pytest.raises(SamplerError) as error:
        sampled(script, model)
    return str(error.value)


def test_a_model_that_is_listed_is_asked_by_its_name(sft: ModelFiles) -> None:
    with Script(listing("tiny-base", sft.name), NOT_FOUND, completion()) as script:
        body = sampled(script, sft)
    assert [asked.path for asked in script.asked] == ["/v1/models", "/lora-adapters", "/v1/completions"]
    assert body["model"] == sft.name and "lora" not in body


def test_the_base_model_may_have_another_name_at_the_server() -> None:
    with Script(listing("org/tiny"), NOT_FOUND, completion()) as script:
        assert sampled(script, BASE, server_model="org/tiny")["model"] == "org/tiny"
    with Script(listing("org/tiny", "sft-1"), NOT_FOUND) as script:
        assert refused(script, BASE) == (
            f"{script.url}/v1: the server has no model 'tiny-base'. It lists 'org/tiny', 'sft-1'. Serve the model in "
            f"{BUILTIN['tiny-base']} under that name, then run the same command again. For a base model, "
            "sample.server_model can instead give the name that the server has for it."
        )


def test_vllm_loads_an_adapter_on_request(sft: ModelFiles) -> None:
    loaded = Answer(content=b"Success: LoRA adapter added successfully.")
    both = listing("tiny-base", sft.name)
    with Script(listing("tiny-base"), NOT_FOUND, loaded, both, completion()) as script:
        assert sampled(script, sft, server_model="tiny-base")["model"] == sft.name
    assert [asked.path for asked in script.asked[2:]] == ["/v1/load_lora_adapter", "/v1/models", "/v1/completions"]
    assert script.asked[2].body == {"lora_name": sft.name, "lora_path": str(sft.adapter)}


def test_vllms_reason_not_to_load_an_adapter_is_told(sft: ModelFiles) -> None:
    reason = b'{"error": {"message": "LoRA rank 64 is greater than max_lora_rank 16.", "code": 400}}'
    base = listing("tiny-base")
    with Script(base, NOT_FOUND, Answer(400, reason), base) as script:
        assert refused(script, sft).endswith(f"\n  The server did not load it: {reason.decode()!r}")


def test_llama_server_switches_its_adapters_by_request(sft: ModelFiles) -> None:
    assert sft.adapter is not None
    gguf = prepare_adapter(sft.adapter, str(sft.folder))
    loras = lora_adapters("/elsewhere/other.gguf", str(gguf))
    with Script(listing("tiny-base"), loras, completion()) as script:
        assert sampled(script, sft)["lora"] == [{"id": 0, "scale": 0.0}, {"id": 1, "scale": 1.0}]
    with Script(listing("tiny-base"), loras, completion()) as script:
        assert sampled(script, BASE)["lora"] == [{"id": 0, "scale": 0.0}, {"id": 1, "scale": 0.0}]


def test_what_to_serve_is_told(sft: ModelFiles) -> None:
    assert sft.adapter is not None
    gguf = prepare_adapter(sft.adapter, str(sft.folder))
    base = listing("tiny-base")
    with Script(base, NOT_FOUND, NOT_FOUND, base) as script:
        assert refused(script, sft) == (
            f"{script.url}/v1: the server has no model {sft.name!r}. It lists 'tiny-base'. Serve this adapter beside "
            "its base, then run the same command again; it continues from here.\n"
            f"  vLLM: --enable-lora --lora-modules {sft.name}={sft.adapter}\n"
            "    (or start it with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True: then the run loads it "
            "itself)\n"
            f"  llama-server: --lora {gguf}\n"
            f"  another server of GGUF files: this adapter under the name {sft.name}"
        )


def test_servers_that_list_nothing(sft: ModelFiles) -> None:
    for answer in (Answer(401, b"bad key"), Answer(200, b"<html>"), Answer(200, b"[]")):
        with Script(answer) as script:
            assert refused(script, sft) == (
                f"{script.url}/v1/models: status {answer.status}, {(answer.content or b'').decode()!r}. Expected the "
                "list of the server's models, by which a run knows what it samples. Check the address, and the key in "
                "api_key_env."
            )
    with Script(Answer()) as script:
        assert refused(script, sft).startswith(f"{script.url}/v1: no answer (RemoteProtocolError")


def test_a_model_that_is_not_on_this_machine_is_asked_without_a_look_at_the_list() -> None:
    with Script(completion()) as script:
        sampled(script, ModelFiles("teacher"))
    assert [asked.path for asked in script.asked] == ["/v1/completions"]
