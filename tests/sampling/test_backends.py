"""One suite for llama.cpp, transformers and a real OpenAI-compatible server; then what each of the latter two adds."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.commands import python, run_process, start_process
from helpers.models import make_adapter, make_model
from helpers.script import Answer, Script, completion
from helpers.servers import llama_server

from qrft.errors import ModelError, SamplerError
from qrft.grading.traces import Traces
from qrft.models import prompts
from qrft.models.find import find_model
from qrft.models.gguf.adapter import export_adapter
from qrft.models.gguf.base import export_base
from qrft.models.wording import PLAIN
from qrft.sampling.api import Completion, ModelFiles, Request, Sampler, SamplingParams
from qrft.sampling.backends import registry
from qrft.sampling.backends.llama_cpp.process import LlamaProcess
from qrft.sampling.backends.openai.sampler import ServerSampler
from qrft.sampling.backends.stop_texts import StopTexts, first_stop
from qrft.sampling.backends.transformers.sampler import TransformersSampler

BASE = find_model("tiny-base")
EOS = [1]
GREEDY = SamplingParams(temperature=0, max_new_tokens=40)
WARM = SamplingParams(temperature=0.9, max_new_tokens=30)
QUESTIONS = [
    *[f"Tom has {20 + 3 * i} apples and gives {5 + i} of the apples to Ann. How many are left?" for i in range(6)],
    *[f"Compute {i} + {i * i}." for i in range(3, 9)],
]
Samples = dict[tuple[str, int], Completion]


def open_any(
    name: str, *, folder: Path | None = None, gguf: Path | None = None, **settings: Any
) -> AbstractContextManager[Sampler]:
    """Open a sampler as `qrft run` and `qrft sample` do, closed at the end of the `with` block."""
    backend = registry.backend(name)
    model = ModelFiles("tiny-base", folder, gguf=gguf)
    return closing(backend.open_model(model, backend.Settings(**settings), n_threads=1))


def request_for(question: str, num_samples: int = 1, first_sample: int = 0) -> Request:
    prompt = prompts.TEMPLATES["plain"].format(question=question)
    return Request(question, prompts.prompt_ids(tokenizer(), question, PLAIN), num_samples, first_sample, prompt)


_tokenizers: list[Any] = []


def tokenizer() -> Any:
    if not _tokenizers:
        _tokenizers.append(prompts.load_tokenizer(BASE))
    return _tokenizers[0]


def text(found: Completion, stop: tuple[str, ...] = ()) -> str:
    if found.text is not None:
        return found.text
    made: str = tokenizer().decode(found.token_ids, skip_special_tokens=True)
    return made[: first_stop(made, stop)] if found.finish_reason == "stop_text" else made


def sample(sampler: Sampler, requests: list[Request], params: SamplingParams) -> Samples:
    found = list(sampler.generate(requests, params, EOS))
    by_name = {(one.problem_id, one.sample_index): one for one in found}
    assert len(by_name) == len(found)
    return by_name


def share_equal(left: Samples, right: Samples) -> float:
    assert left.keys() <= right.keys()
    return float(np.mean([text(left[key]) == text(right[key]) for key in left]))


# ----------------------------------------------------------------------------------------------- the three alike


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "base.gguf"
    export_base(BASE, path)
    return path


@pytest.fixture(scope="module")
def address(gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base model, at llama-cpp-python's own server."""
    with llama_server(tmp_path_factory.mktemp("server"), {"tiny-base": (gguf, None)}) as url:
        yield url


@pytest.fixture(scope="module", params=registry.SAMPLERS)
def sampler(request: pytest.FixtureRequest) -> Iterator[Sampler]:
    with ExitStack() as stack:
        if request.param == "llama.cpp":
            gguf = request.getfixturevalue("gguf")
            yield stack.enter_context(open_any("llama.cpp", gguf=gguf, num_sequences=8))
        elif request.param == "transformers":
            yield stack.enter_context(open_any("transformers", folder=BASE, num_sequences=8))
        else:
            address = request.getfixturevalue("address")
            yield stack.enter_context(open_any("openai", server=address, max_in_flight=4))


def test_every_backend_is_cheap_to_import() -> None:
    code = """
        import sys
        from qrft.sampling.backends import registry
        for name in registry.SAMPLERS:
            backend = registry.backend(name)
            assert backend.RUNTIME_KEYS | {*backend.REQUIRED_KEYS} <= backend.Settings.model_fields.keys()
            assert backend.READS in ("gguf", "folder", "server") and callable(backend.open_model)
        print({"numpy", "pyarrow", "torch", "transformers", "llama_cpp", "httpx2"} & set(sys.modules))
    """
    assert run_process(python(code)).stdout.strip() == "set()"


@pytest.fixture(scope="module")
def greedy_texts() -> dict[str, str]:
    """By transformers' own `generate`."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    found = {}
    for question in QUESTIONS:
        ids = torch.tensor([request_for(question).prompt_ids])
        output = model.generate(ids, do_sample=False, max_new_tokens=GREEDY.max_new_tokens)
        found[question] = tokenizer().decode(output[0, ids.shape[1] :], skip_special_tokens=True)
    return found


def test_every_sample_comes_once_under_its_index(sampler: Sampler) -> None:
    asked = [(QUESTIONS[0], 3, 0), (QUESTIONS[1], 2, 7), (QUESTIONS[6], 0, 0), (QUESTIONS[7], 1, 1)]
    found = sample(sampler, [request_for(*ask) for ask in asked], WARM)
    assert found.keys() == {(name, first + i) for name, num, first in asked for i in range(num)}
    for one in found.values():
        assert one.finish_reason in ("stop", "length") and text(one)
        assert 0 < one.num_tokens <= WARM.max_new_tokens
    assert sampler.stats.num_tokens == sum(one.num_tokens for one in found.values())
    stats = sampler.stats
    assert stats.num_stop + stats.num_length == len(found) and stats.num_stop_text == 0 < stats.total_seconds


def test_greedy_texts_are_transformers_own(sampler: Sampler, greedy_texts: dict[str, str]) -> None:
    found = sample(sampler, [request_for(question) for question in QUESTIONS], GREEDY)
    assert {name: text(one) for (name, _), one in found.items()} == greedy_texts
    assert {one.finish_reason for one in found.values()} == {"stop", "length"}


@pytest.mark.parametrize("stop", [("=",), ("the answer", "left is", "<<")], ids=str)
def test_stop_texts_cut_the_completion(sampler: Sampler, greedy_texts: dict[str, str], stop: tuple[str, ...]) -> None:
    params = SamplingParams(temperature=0, max_new_tokens=GREEDY.max_new_tokens, stop=stop)
    found = sample(sampler, [request_for(question) for question in QUESTIONS], params)
    whole = "|".join(map(re.escape, stop))
    cut = {question: re.split(whole, greedy, maxsplit=1)[0] for question, greedy in greedy_texts.items()}
    assert {name: text(one, stop) for (name, _), one in found.items()} == cut
    for (name, _), one in found.items():
        if cut[name] != greedy_texts[name]:
            # A server need not say which of the two it was.
            assert one.finish_reason == "stop_text" or (
                isinstance(sampler, ServerSampler) and one.finish_reason == "stop"
            )


def test_stop_texts_do_not_count_in_traces(sampler: Sampler, greedy_texts: dict[str, str]) -> None:
    """Between the first = and the next >> the tiny model thinks, as it were."""
    traces, stop = Traces("=", ">>"), ("<<", "the answer")
    params = SamplingParams(temperature=0, max_new_tokens=GREEDY.max_new_tokens, stop=stop, stops_outside=traces)
    found = sample(sampler, [request_for(question) for question in QUESTIONS], params)
    cut = {question: before_stop(greedy, stop, traces) for question, greedy in greedy_texts.items()}
    assert any("<<" in kept for kept in cut.values())  # which would have ended it
    assert {name: before_stop(text(one), stop, traces) for (name, _), one in found.items()} == cut


def before_stop(text: str, stop: tuple[str, ...], traces: Traces) -> str:
    start = first_stop(text, stop, traces)
    return text if start < 0 else text[:start]


def test_a_stop_text_is_found_behind_a_trace() -> None:
    pieces = [b"<th", b"ink>", b"a\n", b"\nb", b"</think>", b"c"]
    stop = StopTexts(["\n\n"], pieces, Traces("<think>", "</think>"))
    inside, behind = np.array([0, 1, 2, 3], np.int32), np.array([0, 1, 2, 3, 4, 5, 2, 3], np.int32)
    assert not stop.is_completed(inside) and stop.is_completed(behind)
    assert StopTexts(["\n\n"], pieces).is_completed(inside)
    assert stop.is_completed(np.array([2, 3], np.int32))
    is_open = StopTexts(["\n\n"], pieces, Traces("<think>", "</think>", is_open=True))
    assert not is_open.is_completed(np.array([2, 3], np.int32)) and is_open.is_completed(behind[4:])


def test_the_length_limit(sampler: Sampler, greedy_texts: dict[str, str]) -> None:
    params = SamplingParams(temperature=0, max_new_tokens=6)
    for (name, _), one in sample(sampler, [request_for(question) for question in QUESTIONS], params).items():
        assert one.finish_reason == "length" and one.num_tokens == 6
        assert greedy_texts[name].startswith(text(one)) and text(one)


def test_the_same_call_gives_the_same_samples_and_another_seed_others(sampler: Sampler) -> None:
    requests = [request_for(question, 3) for question in QUESTIONS[:4]]
    first = sample(sampler, requests, WARM)
    assert share_equal(first, sample(sampler, requests, WARM)) == 1
    assert (
        share_equal(first, sample(sampler, requests, SamplingParams(temperature=0.9, max_new_tokens=30, seed=1))) < 0.5
    )


def test_each_sample_has_its_own_temperature(sampler: Sampler) -> None:
    """The first, third, fifth are greedy, or nearly so, and the others are what they are at their temperature alone."""
    requests = [request_for(question, 6) for question in QUESTIONS[:4]]
    mixed = sample(sampler, requests, SamplingParams(temperature=(1e-6, 0.9), max_new_tokens=30))
    greedy = sample(sampler, requests, SamplingParams(temperature=0, max_new_tokens=30))
    alike = [share_equal(*({k: v for k, v in found.items() if k[1] % 2 == 0} for found in (mixed, greedy)))]
    alike += [
        share_equal(
            *({k: v for k, v in found.items() if k[1] % 2} for found in (mixed, sample(sampler, requests, WARM)))
        )
    ]
    assert min(alike) >= 0.9  # logits of another batch may differ in the last bit


def test_more_samples_keep_those_already_there(sampler: Sampler) -> None:
    few = sample(sampler, [request_for(question, 2) for question in QUESTIONS[:4]], WARM)
    more = sample(sampler, [request_for(question, 5) for question in QUESTIONS[:4]], WARM)
    rest = sample(sampler, [request_for(question, 3, first_sample=2) for question in QUESTIONS[:4]], WARM)
    # Logits of another batch may differ in the last bit, and a sample that sits on an edge with them.
    assert share_equal({**few, **rest}, more) >= 0.95
    assert len({text(one) for one in more.values()}) > 10


def test_a_dropped_iterator_stops_and_the_sampler_goes_on(sampler: Sampler) -> None:
    iterator = sampler.generate([request_for(QUESTIONS[0], 100_000)], WARM, EOS)
    next(iterator)
    before = time.monotonic()
    iterator.close()  # type: ignore[attr-defined]
    assert time.monotonic() - before < 60, "all of its samples would take minutes"
    assert len(sample(sampler, [request_for(QUESTIONS[0], 2)], WARM)) == 2


def test_what_no_sampler_takes(sampler: Sampler) -> None:
    good = request_for(QUESTIONS[0])
    with pytest.raises(SamplerError, match="the prompt of problem 'none' is empty: expected"):
        list(sampler.generate([good, Request("none", [])], WARM, EOS))
    assert list(sampler.generate([], WARM, EOS)) == []
    assert len(sample(sampler, [good], WARM)) == 1


# ------------------------------------------------------------------------------------------------- transformers


def random_requests(num: int = 9, num_samples: int = 5) -> list[Request]:
    return [Request(f"p{i}", [0, *range(3 + i, 20 + 3 * i)], num_samples) for i in range(num)]


def tokens_equal(left: Samples, right: Samples) -> float:
    assert left.keys() == right.keys()
    return float(np.mean([left[key].token_ids == right[key].token_ids for key in left]))


def test_samples_with_an_adapter_are_llama_cpps(tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", "qwen3")
    adapter = make_adapter(tmp_path / "adapter", model)
    export_base(model, tmp_path / "base.gguf")
    export_adapter(adapter, model, tmp_path / "lora.gguf")
    params = SamplingParams(temperature=0.8, max_new_tokens=50)
    with LlamaProcess(tmp_path / "base.gguf", tmp_path / "lora.gguf", n_threads=1, cache_type="f32") as process:
        expected = sample(process, random_requests(), params)
    with TransformersSampler(model, adapter, n_threads=1) as sampler:
        found = sample(sampler, random_requests(), params)
    assert tokens_equal(found, expected) >= 0.97
    for key, one in found.items():
        if one.token_ids == expected[key].token_ids:
            assert one.finish_reason == expected[key].finish_reason
            assert one.logprob == pytest.approx(expected[key].logprob, abs=1e-2)


def test_the_batch_does_not_change_its_samples(tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", "qwen3")
    params = SamplingParams(temperature=0.8, max_new_tokens=30)
    found = {}
    for batch_size in (1, 7, 64):
        with TransformersSampler(model, n_threads=1, batch_size=batch_size) as sampler:
            found[batch_size] = sample(sampler, random_requests(num_samples=3), params)
    assert tokens_equal(found[7], found[1]) >= 0.97 and tokens_equal(found[64], found[1]) >= 0.97
    assert {one.finish_reason for one in found[1].values()} == {"stop", "length"}


# Learned positions; none at all; sliding and full attention in turns; a recurrent state; the last two together.
@pytest.mark.parametrize(
    "architecture", ["GPT2", "Bloom", "Gemma2", "FalconMamba", pytest.param("Qwen3Next", marks=pytest.mark.slow)]
)
def test_other_architectures(tmp_path: Path, architecture: str) -> None:
    import torch
    import transformers

    torch.manual_seed(0)
    settings: dict[str, Any] = dict(vocab_size=300, hidden_size=32, num_hidden_layers=4, num_attention_heads=2)
    settings |= dict(intermediate_size=48, num_key_value_heads=1, head_dim=16, initializer_range=0.3)
    settings |= dict(sliding_window=16) if architecture == "Gemma2" else {}
    config = getattr(transformers, f"{architecture}Config")(**settings, bos_token_id=0, eos_token_id=1)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    params = SamplingParams(temperature=0, max_new_tokens=12)
    with TransformersSampler(tmp_path, n_threads=1) as sampler:
        found = sample(sampler, random_requests(4, num_samples=2), params)
        for request in random_requests(4):
            ids = torch.tensor([request.prompt_ids])
            output = sampler.model.generate(ids, do_sample=False, max_new_tokens=12, eos_token_id=1, pad_token_id=1)
            expected = output[0, ids.shape[1] :].tolist()
            assert found[request.problem_id, 0].token_ids == found[request.problem_id, 1].token_ids == expected


def test_memory_that_runs_out_halves_the_batch(tmp_path: Path) -> None:
    import torch

    model = make_model(tmp_path / "model", "qwen3")
    with TransformersSampler(model, n_threads=1) as sampler:
        expected = sample(sampler, random_requests(), WARM)
        forward, fits, steps = sampler.model.forward, 12, 0

        def limited(input_ids: Any, **rest: Any) -> Any:
            nonlocal steps
            steps += 1
            if len(input_ids) > fits and steps > 20:  # in the midst of a batch, some of its samples done
                raise torch.OutOfMemoryError("out of memory: tried to allocate")
            return forward(input_ids=input_ids, **rest)

        sampler.model.forward = limited
        found = sample(sampler, random_requests(), WARM)
        assert sampler.batch_size in (11, 16) and tokens_equal(found, expected) >= 0.97
        fits = 0
        with pytest.raises(SamplerError, match=r"memory ran out with a single sample.*tried to allocate.*bfloat16"):
            sample(sampler, random_requests(), WARM)


@pytest.mark.slow
def test_a_real_lack_of_memory_on_the_cpu(tmp_path: Path) -> None:
    """The address space is limited so that a batch of one fits, and a large one does not."""
    model = make_model(tmp_path / "model", max_position_embeddings=2048)
    script = f"""
        import resource
        from pathlib import Path
        from qrft.sampling.api import Request, SamplingParams
        from qrft.sampling.backends.transformers.sampler import TransformersSampler
        sampler = TransformersSampler(Path({str(model)!r}), n_threads=1, batch_size=64)
        requests = [Request(str(i), [0] * 1000, 1) for i in range(64)]
        list(sampler.generate(requests[:1], SamplingParams(max_new_tokens=1), []))
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**24, -1))
        found = next(sampler.generate(requests, SamplingParams(max_new_tokens=1), []))
        print(sampler.batch_size, len(found.token_ids))
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = run_process(command)
    batch_size, num_tokens = map(int, done.stdout.split())
    assert 1 <= batch_size < 64 and num_tokens == 1


def test_requests_and_models_that_transformers_can_not_take(tmp_path: Path) -> None:
    model = make_model(tmp_path / "model")
    with TransformersSampler(model, n_threads=1) as sampler:
        with pytest.raises(SamplerError, match=r"problem 'long' has 250 tokens.*max_new_tokens 20.*256"):
            sample(sampler, [Request("long", [0] * 250)], SamplingParams(max_new_tokens=20))
        for alien in (300, -1):
            with pytest.raises(SamplerError, match=f"token id {alien}, the model has ids 0 to 299"):
                sample(sampler, [Request("alien", [0, alien])], WARM)
    with pytest.raises(SamplerError, match="closed"):
        sample(sampler, random_requests(), WARM)
    with pytest.raises(ModelError, match=r"nothing/config.json: not found\. Expected"):
        TransformersSampler(tmp_path / "nothing")
    with pytest.raises(ModelError, match="other: peft can't load it"):
        other = make_model(tmp_path / "larger", hidden_size=32)
        TransformersSampler(model, make_adapter(tmp_path / "other", other))


# --------------------------------------------------------------------------------------------------- the server


def ask(script: Script, num_samples: int = 1, params: SamplingParams = WARM, **settings: Any) -> list[Completion]:
    sampler = ServerSampler(script.url, "some-model", **settings)
    return list(sampler.generate([Request("p", [], num_samples, 0, "2 + 2 =")], params, EOS))


def test_a_server_that_stops_a_thought_is_asked_again_without_stop_texts() -> None:
    params = SamplingParams(stop=("Q:",), stops_outside=Traces("<think>", "</think>"))
    thought = completion("<think>The ", choice={"stop_reason": "Q:"})
    whole = completion("<think>The Q: is</think> 4. Q: 3", "length")
    with Script(thought, whole, whole) as script:
        found = ask(script, 2, params, max_in_flight=1)
    assert [one.text for one in found] == ["<think>The Q: is</think> 4. "] * 2
    assert {one.finish_reason for one in found} == {"stop_text"}
    assert [asked.body.get("stop") for asked in script.asked] == [["Q:"], None, None]


def test_what_a_server_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "secret")
    params = SamplingParams(temperature=0.5, top_p=0.9, top_k=20, max_new_tokens=30, seed=4, min_p=0.1, stop=("Q:",))
    with Script(completion()) as script:
        ask(script, 2, params, api_key_env="SOME_KEY", extra_body={"logprobs": 1, "repeat_penalty": None})
        ask(script, 1, SamplingParams(), chat=True)
    (path, headers, body), second, chat = script.asked
    assert path == "/v1/completions" and headers["authorization"] == "Bearer secret"
    seeds = {body.pop("seed"), second.body["seed"]}
    assert len(seeds) == 2 and all(0 <= seed < 2**31 for seed in seeds)
    assert body == {
        "model": "some-model",
        "prompt": "2 + 2 =",
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 20,
        "min_p": 0.1,
        "max_tokens": 30,
        "stop": ["Q:"],
        "repetition_penalty": 1.0,
        "logprobs": 1,
    }
    assert chat.path == "/v1/chat/completions" and "authorization" not in chat.headers and "stop" not in chat.body
    assert chat.body["messages"] == [{"role": "user", "content": "2 + 2 ="}] and "prompt" not in chat.body


def test_what_a_server_tells() -> None:
    tokens = {"token_logprobs": [-0.5, -0.25]}
    message = {"message": {"content": "chat"}, "logprobs": {"content": [{"logprob": -1.0}, {"logprob": -2.0}]}}
    cases: list[tuple[Answer, tuple[str, str, int, float]]] = [
        (completion("a"), ("a", "stop", 5, np.nan)),
        (completion("a", "length", choice={"logprobs": tokens}, usage=None), ("a", "length", 2, -0.75)),
        (completion("a", choice={"stop_reason": "Q:"}), ("a", "stop_text", 5, np.nan)),
        (completion("a", choice={"stop_reason": 1}), ("a", "stop", 5, np.nan)),
        (completion("a", stopping_word="Q:"), ("a", "stop_text", 5, np.nan)),
        (completion("aQ: b"), ("a", "stop_text", 5, np.nan)),  # a server that leaves it in
        (completion(choice=message), ("chat", "stop", 5, -3.0)),
        (completion(choice={"message": {"content": None}}), ("", "stop", 5, np.nan)),
        (
            completion(choice={"message": {"content": [{"type": "thinking"}, {"type": "text", "text": "b"}]}}),
            ("b", "stop", 5, np.nan),
        ),
        (completion("a", usage={"completion_tokens": 9.0}), ("a", "stop", 9, np.nan)),
        (completion("a", choice={"logprobs": {"token_logprobs": [-1e400]}}), ("a", "stop", 5, np.nan)),
        (completion("half \ud83d a pair"), ("half ? a pair", "stop", 5, np.nan)),
    ]
    with Script(*(answer for answer, _ in cases)) as script:
        found = ask(script, len(cases), SamplingParams(stop=("Q:",)), max_in_flight=1)
    for one, (_, (text, reason, num_tokens, logprob)) in zip(found, cases, strict=True):
        assert (one.text, one.finish_reason, one.num_tokens, one.token_ids) == (text, reason, num_tokens, [])
        assert one.logprob == pytest.approx(logprob, nan_ok=True)


@pytest.mark.parametrize(
    ("said", "found"),
    [
        *((word, "stop") for word in ("stop", "eos", "eos_token", "EOS", "end_turn", "FINISH_REASON_STOP", "", None)),
        *((word, "length") for word in ("length", "max_tokens", "MAX_TOKENS", "model_length", "content_filter")),
        ("stop_sequence", "stop_text"),
        ("weather", "length"),
        ({"a": 1}, "length"),
    ],
)
def test_the_ends_of_other_servers(said: Any, found: str, caplog: pytest.LogCaptureFixture) -> None:
    with Script(completion("a", said)) as script:
        ends = [one.finish_reason for one in ask(script, 3, SamplingParams(stop=("Q:",)))]
    assert ends == [found] * 3
    told = [record.getMessage() for record in caplog.records if record.name.startswith("qrft")]
    assert len(told) == (said in ("weather", {"a": 1})) and all("is not known" in text for text in told)


def test_an_end_that_is_not_said_is_a_cut_at_the_last_token() -> None:
    with Script(completion("a", None, usage={"completion_tokens": 32.0})) as script:
        assert ask(script, params=SamplingParams(max_new_tokens=32))[0].finish_reason == "length"
        assert ask(script, params=SamplingParams(max_new_tokens=33))[0].finish_reason == "stop"


def test_failures_that_pass() -> None:
    busy = Answer(429, b"slow down", {"retry-after": "0.4"})
    for first in (
        busy,
        Answer(500, b"oops"),
        Answer(520, b"<html>"),
        Answer(524),
        completion(finish_reason="abort"),
        Answer(),
        Answer(200, b"<html>"),
        Answer(503, b"", {"retry-after": "?"}),
    ):
        with Script(first, completion()) as script:
            before = time.monotonic()
            assert [one.text for one in ask(script, retries=1)] == ["fine"] and len(script.asked) == 2
            assert time.monotonic() - before > (0.4 if first == busy else 0.2)
        assert script.asked[0].body["seed"] == script.asked[1].body["seed"]


def test_all_requests_heed_the_pause_that_one_is_asked_for() -> None:
    with Script(Answer(429, b"", {"retry-after": "1"}), completion()._replace(seconds=0.2)) as script:
        before = time.monotonic()
        assert len(ask(script, 6, max_in_flight=2)) == 6
        assert time.monotonic() - before > 1.2


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer(401, b'{"error": "bad key"}'), "status 401, .*bad key.*api_key_env"),
        (Answer(404, b"no such model"), "status 404, 'no such model'.*address and the model's name"),
        (Answer(400, b"context too long"), "status 400, 'context too long'.*--extra-body"),
        (Answer(501, b"never"), "status 501, 'never'"),
        (Answer(302, b"", {"location": "/"}), "status 302, ''.*server's log"),
        (Answer(500, b"x" * 900), r"status 500, 'x{200}\.\.\.'\. .*server's log"),
        (
            Answer(429, b"", {"retry-after": "3600"}),
            "status 429.*asks to wait 3600 s, more than `timeout`.*max_in_flight",
        ),
        (Answer(200, b"<html>Welcome"), "not a completion.*'<html>Welcome'.*OpenAI-compatible"),
        (Answer(200, b"\xff\xfe\x00"), "not a completion.*OpenAI-compatible"),
        (Answer(200, b"[1]"), "not a completion"),
        (Answer(200, b'{"choices": []}'), "not a completion.*choices"),
        (Answer(200, b'{"choices": [{"finish_reason": "stop"}]}'), "not a completion.*KeyError: 'text'"),
        (completion(finish_reason="error"), "not a completion.*finish_reason 'error'"),
        (completion(choice={"text": 5}), "not a completion"),
        (completion(choice={"logprobs": {"token_logprobs": ["a"]}}), "not a completion"),
        (completion(usage={"completion_tokens": "many"}), "not a completion"),
        (Answer(), r"no answer \(RemoteProtocolError.*Check that the server runs"),
        (Answer(200, b"{}", {"content-length": "20"}), "no answer"),
        (Answer(200, b"{}", seconds=4), r"no answer \(none that was whole after 2 s\).*`timeout` is 2 s"),
    ],
    ids=lambda value: repr(value)[:60] if isinstance(value, str) else "",
)
def test_failures_that_stay(answer: Answer, message: str) -> None:
    with (
        Script(answer) as script,
        pytest.raises(SamplerError, match=f"{script.url}/v1/completions .*some-model.*{message}"),
    ):
        ask(script, 3, retries=0, timeout=2 if answer.seconds else 20)


def test_a_server_that_is_not_there() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1/"
        sampler = ServerSampler(url, "m", retries=1)
        with pytest.raises(SamplerError, match=rf"{url}completions \(model 'm'\): 2 times no answer \(ConnectError"):
            list(sampler.generate([Request("p", [], 1, 0, "2")], WARM, EOS))


def test_addresses_and_keys_that_can_not_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)
    for url in ("localhost:8080", "ftp://a/v1", "http://", ""):
        with pytest.raises(
            SamplerError, match=r"is not the address of a server\. Expected one such as http://localhost:8080/v1"
        ):
            ServerSampler(url, "m")
    with pytest.raises(SamplerError, match="environment variable SOME_KEY is not set"):
        ServerSampler("http://localhost", "m", api_key_env="SOME_KEY")


def test_what_came_before_a_failure_is_kept() -> None:
    with Script(completion("1"), completion("2"), completion("3"), Answer(401, b"expired")) as script:
        samples = ServerSampler(script.url, "m", max_in_flight=1).generate([Request("p", [], 9, 0, "2")], WARM, EOS)
        assert [next(samples).text for _ in range(3)] == ["1", "2", "3"]
        with pytest.raises(SamplerError, match="expired"):
            next(samples)


def test_requests_in_flight_and_per_minute() -> None:
    with Script(completion()._replace(seconds=0.1)) as script:
        assert len(ask(script, 20, max_in_flight=5)) == 20
        assert script.most_in_flight == 5
    with Script(completion()) as script:
        before = time.monotonic()
        ask(script, 6, requests_per_minute=600)
        assert time.monotonic() - before >= 0.5


def test_fields_that_a_server_refuses() -> None:
    refusal = Answer(
        400, b'{"error": {"message": "Unrecognized request arguments supplied: min_p, repeat_penalty, top_k"}}'
    )
    with Script(refusal, refusal, completion()) as script:  # two in flight: both are refused before either knows
        assert len(ask(script, 9, max_in_flight=2)) == 9
        fields = [asked.body.keys() & {"top_k", "min_p", "repeat_penalty"} for asked in script.asked]
        assert [len(found) for found in fields] == [3, 3] + [0] * 9
    with Script(refusal) as script, pytest.raises(SamplerError, match=r"refuses top_k. Set top_k 0 \(off\), or use"):
        ask(script, params=SamplingParams(top_k=40))


def test_a_server_that_wants_the_length_under_its_newer_name() -> None:
    refusal = Answer(400, b"Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
    with Script(refusal, refusal, completion()) as script:
        assert len(ask(script, 5, max_in_flight=2)) == 5
    assert [asked.body.get("max_completion_tokens") for asked in script.asked] == [None, None] + [30] * 5
    assert all("max_tokens" not in asked.body for asked in script.asked[2:])
    with Script(refusal) as script, pytest.raises(SamplerError, match="--extra-body"):
        ask(script)


def test_tokens_of_a_real_server_follow_the_models_distribution(address: str, gguf: Path) -> None:
    """Its own defaults (top_k, min_p, repeat_penalty) would show."""
    request, params = request_for(QUESTIONS[6], 400), SamplingParams(temperature=1.5, max_new_tokens=1)
    with LlamaProcess(gguf, n_threads=1, cache_type="f32") as process:
        logits = process.logits([request.prompt_ids])[0][-1].astype(np.float64) / params.temperature
    exact = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    expected: dict[str, float] = {}
    for token, probability in enumerate(exact):
        name = "" if token in EOS else tokenizer().decode([token])
        expected[name] = expected.get(name, 0.0) + 400 * float(probability)
    with open_any("openai", server=address) as sampler:
        found = [text(one) for one in sampler.generate([request], params, EOS)]
    likely = [name for name, count in expected.items() if count >= 5]
    counts = np.array([found.count(name) for name in likely] + [sum(name not in likely for name in found)])
    means = np.array([expected[name] for name in likely] + [400 - sum(expected[name] for name in likely)])
    degrees = len(counts) - 1
    assert degrees >= 5 and ((counts - means) ** 2 / means).sum() < degrees + 5 * (2 * degrees) ** 0.5


def test_ctrl_c_stops_at_once() -> None:
    with Script(completion()._replace(seconds=600)) as script:
        code = f"""
            from qrft.sampling.api import Request, SamplingParams
            from qrft.sampling.backends.openai.sampler import ServerSampler
            print("ready", flush=True)
            list(ServerSampler({script.url!r}, "m").generate([Request("p", [], 99, 0, "2")], SamplingParams(), []))
        """
        with start_process(python(code), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
            deadline = time.monotonic() + 120
            while script.in_flight < 16 and time.monotonic() < deadline:
                time.sleep(0.02)
            os.kill(child.pid, signal.SIGINT)
            assert script.in_flight == 16
            errors = child.communicate(timeout=120)[1]  # it does not wait for the answers, which take ten minutes
            assert errors.strip().endswith("KeyboardInterrupt")
