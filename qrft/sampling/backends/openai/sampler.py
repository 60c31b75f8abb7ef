"""Sampling from a server that speaks OpenAI's HTTP interface: llama-server, vLLM, llama-cpp-python's, a cloud teacher.

There is one request per sample, and many are in flight. An event loop in its own thread waits, so that dropping the
iterator, Ctrl-C included, closes the connections at once, and a server that watches them stops its work.
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import random
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from qrft.errors import SamplerError
from qrft.sampling.api import Completion, FinishReason, Request, SamplingParams, Stats
from qrft.sampling.backends.stop_texts import first_stop
from qrft.sampling.backends.streams import sample_key

if TYPE_CHECKING:
    import httpx2

_Job = tuple[Request, int]  # with the index of the sample
_Put = Callable[[Completion], None]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 60.0  # seconds before the first and any further try; doubled in between
_CONNECT_TIMEOUT = 30.0  # seconds
_PASSING = {408, 409, 425, 429, 500, 502, 503, 504, 529}  # worth another try; 529: "overloaded" of some clouds
_SHOWN = 200  # bytes of an answer in a message
# Fields beyond OpenAI's own, with the values that turn them off. Those are sent, since a server's defaults may be on:
# llama-server has top_k 40 and min_p 0.05, llama-cpp-python's server a repeat_penalty, vLLM the model's own settings.
_OFF = {"top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0, "repetition_penalty": 1.0}
_FINISH_REASONS: dict[str, FinishReason] = {"stop": "stop", "length": "length", "content_filter": "length"}
_ADVICE = {
    400: "It refuses the request. Change or remove the field that it names with `extra_body` (null removes one).",
    401: "Put its key into an environment variable and name that one as `api_key_env`.",
    404: "Check the address and the model's name.",
    429: "Lower `max_in_flight`, or set `requests_per_minute`.",
}
_ADVICE |= {403: _ADVICE[401], 422: _ADVICE[400]}


class ServerSampler:
    """A model behind `base_url`, such as http://localhost:8080/v1 ("/v1" is added to an address without a path).

    Args: `chat`: sends the prompt as one user message to /chat/completions, not as it is to /completions.
    `api_key_env`: the environment variable with the key; None for none. `timeout`: seconds that an answer, or a pause
    that the server asks for, may take. `retries`: further tries of a request after a refusal that may pass, an answer
    that can't be read or a lost connection. `extra_body`: fields that go into every request and replace ours; None
    removes one. Raises SamplerError for an address or a key that can't be.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        chat: bool = False,
        api_key_env: str | None = None,
        max_in_flight: int = 16,
        timeout: float = 600.0,
        retries: int = 6,
        requests_per_minute: float | None = None,
        extra_body: Mapping[str, Any] | None = None,
    ) -> None:
        self.url = f"{address(base_url)}/{'chat/' if chat else ''}completions"
        self.model, self.chat = model, chat
        self.headers = key_headers(api_key_env)
        self.max_in_flight, self.timeout, self.retries = max_in_flight, timeout, retries
        self.extra_body = dict(extra_body or {})
        self.stats = Stats()  # of the latest `generate`
        self._pace = _Pace(60.0 / requests_per_minute if requests_per_minute else 0.0)
        self._unknown: set[str] = set()  # fields that the server refused, and that are off

    def generate(
        self, requests: Iterable[Request], params: SamplingParams, eos_ids: Sequence[int]
    ) -> Iterator[Completion]:
        """Yield every sample of every request, in the order in which they end. `eos_ids` are not used.

        Each sample has its own seed, which most servers honour, but none is certain to. Raises SamplerError when the
        server can't be reached, refuses, or sends an answer that can't be read; earlier samples have been yielded by
        then.
        """
        todo = [request for request in requests if request.num_samples > 0]
        for request in todo:
            if not request.prompt:
                raise SamplerError(
                    f"the prompt of problem {request.problem_id!r} is empty: expected its text in Request.prompt, "
                    "since a server is sent texts."
                )
        self.stats = Stats(num_live=min(self.max_in_flight, sum(request.num_samples for request in todo)))
        yield from _in_thread(lambda put: self._sample_all(todo, params, put), self.stats)

    def close(self) -> None:
        """Do nothing, since nothing is kept between calls."""

    def __enter__(self) -> ServerSampler:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def _sample_all(self, requests: list[Request], params: SamplingParams, put: _Put) -> None:
        import httpx2

        jobs = ((request, request.first_sample + i) for request in requests for i in range(request.num_samples))
        timeout = httpx2.Timeout(self.timeout, connect=min(self.timeout, _CONNECT_TIMEOUT))
        limits = httpx2.Limits(max_connections=self.max_in_flight)
        async with httpx2.AsyncClient(headers=self.headers, timeout=timeout, limits=limits) as client:

            async def work() -> None:
                for job in jobs:  # shared: each worker takes the next
                    put(await self._sample(client, job, params))

            try:
                async with asyncio.TaskGroup() as workers:
                    for _ in range(self.max_in_flight):
                        workers.create_task(work())
            except BaseExceptionGroup as errors:
                raise errors.exceptions[0] from None

    async def _sample(self, client: httpx2.AsyncClient, job: _Job, params: SamplingParams) -> Completion:
        failures = 0
        while True:
            await self._pace.wait()
            sent = self._body(job, params)
            try:
                return _read(await self._post(client, sent), job, params)
            except _Fault as fault:
                if self._drop_unknown(fault, sent):
                    continue
                failures += 1
                if not fault.may_pass or failures > self.retries or fault.pause > self.timeout:
                    raise self._error(fault, failures) from None
                # All workers obey a pause asked of one of them; the random part keeps them from returning all at once.
                self._pace.hold(fault.pause)
                backoff = min(_FIRST_PAUSE * 2 ** (failures - 1), _LONGEST_PAUSE)
                await asyncio.sleep(max(fault.pause, backoff * random.uniform(0.5, 1.0)))

    def _body(self, job: _Job, params: SamplingParams) -> dict[str, Any]:
        request, index = job
        prompt = (
            {"messages": [{"role": "user", "content": request.prompt}]} if self.chat else {"prompt": request.prompt}
        )
        body = {
            "model": self.model,
            **prompt,
            "temperature": params.temperature,
            "top_p": params.top_p,
            **_OFF,
            "top_k": params.top_k,
            "min_p": params.min_p,
            "max_tokens": params.max_new_tokens,
            "stop": list(params.stop) or None,
            "seed": sample_key(params.seed, request.problem_id, index) >> 33,  # 31 bits: some servers read an int32
            **self.extra_body,
        }
        return {name: value for name, value in body.items() if value is not None and name not in self._unknown}

    async def _post(self, client: httpx2.AsyncClient, body: dict[str, Any]) -> bytes:
        """Return the bytes of an answer with status 200. Raises _Fault for anything else."""
        import httpx2

        try:
            answer = await client.post(self.url, json=body)
        except httpx2.TransportError as error:
            reason = f"{type(error).__name__} {error}".strip()
            advice = f"Check that the server runs and is not overloaded; `timeout` is {self.timeout:g} s."
            raise _Fault(f"no answer ({reason})", advice, may_pass=True) from None
        if answer.status_code == 200:
            return answer.content
        advice = _ADVICE.get(answer.status_code, "Look into the server's log.")
        pause = _retry_after(answer.headers.get("retry-after", ""))
        raise _Fault(
            f"status {answer.status_code}, {_shown(answer.content)}",
            advice,
            may_pass=answer.status_code in _PASSING,
            pause=pause,
            refused=answer.text if answer.status_code in (400, 422) else "",
        )

    def _drop_unknown(self, fault: _Fault, sent: dict[str, Any]) -> bool:
        """Return whether the server refused fields that are off, so that the request can be sent without them."""
        named = {name for name in _OFF if name in sent and name in fault.refused}
        wanted = sorted(name for name in named if sent[name] != _OFF[name])
        if wanted:
            values = " and ".join(f"{name} {_OFF[name]:g}" for name in wanted)
            fault.advice = f"It refuses {' and '.join(wanted)}. Set {values} (off), or use llama-server or vLLM."
            return False
        self._unknown |= named
        return bool(named)

    def _error(self, fault: _Fault, tries: int) -> SamplerError:
        times = f" {tries} times" if tries > 1 else ""
        wait = f" It asks to wait {fault.pause:.0f} s, more than `timeout`." if fault.pause > self.timeout else ""
        return SamplerError(f"{self.url} (model {self.model!r}):{times} {fault.found}.{wait} {fault.advice}")


class _Fault(Exception):
    """A try that failed. `pause`: seconds that the server asks for. `refused`: its reasons against the request."""

    def __init__(self, found: str, advice: str, *, may_pass: bool, pause: float = 0.0, refused: str = "") -> None:
        super().__init__(found)
        self.found, self.advice, self.may_pass, self.pause, self.refused = found, advice, may_pass, pause, refused


class _Pace:
    """When the next request may be sent: `interval` seconds after the last, and after every pause asked for."""

    def __init__(self, interval: float) -> None:
        self._interval, self._next = interval, 0.0

    async def wait(self) -> None:
        start = max(time.monotonic(), self._next)
        self._next = start + self._interval
        await asyncio.sleep(start - time.monotonic())

    def hold(self, seconds: float) -> None:
        self._next = max(self._next, time.monotonic() + seconds)


def _in_thread(work: Callable[[_Put], Coroutine[Any, Any, None]], stats: Stats) -> Iterator[Completion]:
    """Run `work` on an event loop in a thread; yield what it puts, raise what it raises, and when dropped cancel it."""
    started = time.perf_counter()
    results: queue.SimpleQueue[Completion | Exception | None] = queue.SimpleQueue()
    loop = asyncio.new_event_loop()
    task = loop.create_task(work(results.put))

    def run() -> None:
        try:
            loop.run_until_complete(task)
            results.put(None)
        except asyncio.CancelledError:
            pass
        except Exception as error:
            results.put(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while (result := results.get()) is not None:
            if isinstance(result, Exception):
                raise result
            stats.num_tokens += result.num_tokens
            stats.num_steps += 1
            stats.count_finished(result.finish_reason)
            stats.decode_seconds = stats.total_seconds = time.perf_counter() - started
            yield result
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
        loop.close()


def _read(content: bytes, job: _Job, params: SamplingParams) -> Completion:
    """Return the completion in an answer. Raises _Fault when it can't be found there."""
    try:
        answer = json.loads(content)
        choice = answer["choices"][0]
        text = (choice["message"]["content"] or "") if "message" in choice else choice["text"]
        reason = _FINISH_REASONS[choice["finish_reason"]]
        logprobs = _logprobs(choice)
        num_tokens = int((answer.get("usage") or {}).get("completion_tokens") or len(logprobs))
        # JSON can hold half a surrogate pair, which is not a text.
        text = text.encode("utf-8", "replace").decode()
        logprob = float(sum(logprobs)) if logprobs else float("nan")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise _Fault(
            f"an answer that is not a completion ({type(error).__name__}: {error}), {_shown(content)}",
            'Expected JSON with choices[0].text (or .message.content) and finish_reason "stop" or "length"; '
            "check that the address is that of an OpenAI-compatible server.",
            may_pass=True,
        ) from None
    start = first_stop(text, params.stop)
    if start >= 0 or (reason == "stop" and _stop_text(answer, choice) in params.stop):
        reason = "stop_text"
    return Completion(
        job[0].problem_id, job[1], [], reason, logprob, text[:start] if start >= 0 else text, max(num_tokens, 0)
    )


def _logprobs(choice: dict[str, Any]) -> list[float]:
    """Return each token's log-probability, of /completions or /chat/completions; none if they were not asked for."""
    given = choice.get("logprobs") or {}
    tokens = given.get("content") or []
    return [token["logprob"] for token in tokens] or list(given.get("token_logprobs") or [])


def _stop_text(answer: dict[str, Any], choice: dict[str, Any]) -> object:
    """Return the stop text as vLLM (stop_reason) and llama-server (stopping_word) name it; None if there is none."""
    return choice.get("stop_reason") or choice.get("stopping_word") or answer.get("stopping_word")


def address(base_url: str) -> str:
    """Return the address under which OpenAI's endpoints are. Raises SamplerError for an invalid address."""
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SamplerError(
            f"{base_url!r} is not the address of a server. Expected one such as http://localhost:8080/v1."
        )
    return parts._replace(path=parts.path.rstrip("/") or "/v1").geturl()


def key_headers(api_key_env: str | None) -> dict[str, str]:
    """Return the headers with the key in this environment variable. Raises SamplerError when there is none."""
    if api_key_env is None:
        return {}
    key = os.environ.get(api_key_env, "").strip()
    if not key:
        raise SamplerError(
            f"api_key_env: the environment variable {api_key_env} is not set. Put the server's key there, "
            "or leave api_key_env out for a server without keys."
        )
    return {"Authorization": f"Bearer {key}"}


def _retry_after(value: str) -> float:
    """Return seconds: the header holds a number of them, or a date. 0 for anything else."""
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0


def _shown(content: bytes) -> str:
    return repr(content[:_SHOWN].decode("utf-8", "replace") + ("..." if len(content) > _SHOWN else ""))
