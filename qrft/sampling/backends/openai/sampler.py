"""Sampling from a server that speaks OpenAI's HTTP interface: llama-server, vLLM, llama-cpp-python's, a cloud teacher.

There is one request per sample, and many are in flight. An event loop in its own thread waits, so that dropping the
iterator, Ctrl-C included, closes the connections at once, and a server that watches them stops its work.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from qrft.data.disk import write_atomic
from qrft.errors import SamplerError
from qrft.grading.traces import stretches
from qrft.sampling.api import Completion, Request, SamplingParams, Stats
from qrft.sampling.backends.openai.access import address, key_in
from qrft.sampling.backends.openai.completions import Job, NotACompletion, name_in, read
from qrft.sampling.backends.openai.exchange import Answer, NoAnswer, ask, client
from qrft.sampling.backends.openai.loop import in_thread
from qrft.sampling.backends.streams import sample_key

if TYPE_CHECKING:
    import httpx2

_Put = Callable[[Completion], None]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 60.0  # seconds before the first and any further try; doubled in between
# The refusals that may pass: of a busy server (429, 529), a broken one (5xx), or a proxy before it (499, 520 to 524).
_PASSING = {408, 409, 425, 429, 499}
_LASTING = {501, 505, 511, 525, 526}  # not implemented, HTTP version, a login page, TLS of the origin
_ANSWER_BYTES, _BYTES_PER_TOKEN = 2**20, 2**12  # the largest answer; a token may come with the logprobs of 20 others
# Fields beyond OpenAI's own, with the values that turn them off. Those are sent, since a server's defaults may be on:
# llama-server has top_k 40 and min_p 0.05, llama-cpp-python's server a repeat_penalty, vLLM the model's own settings.
_OFF = {"top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0, "repetition_penalty": 1.0}
_LIMIT, _NEW_LIMIT = "max_tokens", "max_completion_tokens"  # OpenAI's newer models refuse the former
_ADVICE = {
    400: "It refuses the request. Change the field that it names with `extra_body`, or leave it out: "
    + """--extra-body '{"FIELD": null}'.""",
    401: "Put its key into an environment variable and name that one as `api_key_env`.",
    404: "Check the address and the model's name.",
    429: "Lower `max_in_flight`, or set `requests_per_minute`.",
}
_ADVICE |= {403: _ADVICE[401], 422: _ADVICE[400]}
log = logging.getLogger(__name__)


class ServerSampler:
    """A model behind `base_url`, such as http://localhost:8080/v1 ("/v1" is added to an address without a path).

    Args: `chat`: sends the prompt as a user message, behind the system one if there is any, to /chat/completions, not
    as it is to /completions. `api_key_env`: the environment variable with the key; None for none. `timeout`: seconds
    that a whole answer, or a pause that the server asks for, may take. `retries`: further tries of a request after a
    refusal that may pass, an answer that can't be read or a lost connection. `extra_body`: fields that go into every
    request and replace ours; None removes one. Raises SamplerError for an address or a key that can't be.
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
        self.key = key_in(api_key_env)
        self.max_in_flight, self.timeout, self.retries = max_in_flight, timeout, retries
        self.extra_body = dict(extra_body or {})
        self.stats = Stats()  # of the latest `generate`
        self._pace = _Pace(60.0 / requests_per_minute if requests_per_minute else 0.0)
        self._unknown: set[str] = set()  # fields that the server refused, and that are off
        self._limit = _LIMIT  # the field's name
        self._stops_here = False  # stop texts are not sent
        self.memory: Path | None = None  # where the name under which a teacher answers is kept; None: any name will do
        self._ends: set[str] = set()  # finish reasons that are not known, and that were told

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
        started = time.perf_counter()
        completions: Iterator[Completion] = in_thread(lambda put: self._sample_all(todo, params, put))
        for completion in completions:
            self.stats.num_tokens += completion.num_tokens
            self.stats.num_steps += 1
            self.stats.count_finished(completion.finish_reason)
            self.stats.decode_seconds = self.stats.total_seconds = time.perf_counter() - started
            yield completion

    def close(self) -> None:
        """Do nothing, since nothing is kept between calls."""

    def __enter__(self) -> ServerSampler:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def _sample_all(self, requests: list[Request], params: SamplingParams, put: _Put) -> None:
        jobs = ((request, request.first_sample + i) for request in requests for i in range(request.num_samples))
        async with client(self.key, self.max_in_flight) as connections:

            async def work() -> None:
                for job in jobs:  # shared: each worker takes the next
                    put(await self._sample(connections, job, params))

            try:
                async with asyncio.TaskGroup() as workers:
                    for _ in range(self.max_in_flight):
                        workers.create_task(work())
            except BaseExceptionGroup as errors:
                raise errors.exceptions[0] from None

    async def _sample(self, connections: httpx2.AsyncClient, job: Job, params: SamplingParams) -> Completion:
        failures = 0
        while True:
            await self._pace.wait()
            sent = self._body(job, params)
            try:
                found = self._read(await self._post(connections, sent, params), job, params)
                if "stop" not in sent or not _ends_in_trace(found, params):
                    return found
                self._stops_here = True  # the server knows no traces: from now on stop texts are looked for here alone
            except _Fault as fault:
                if self._drop_unknown(fault, sent) or self._rename_limit(fault, sent):
                    continue
                failures += 1
                if not fault.may_pass or failures > self.retries or fault.pause > self.timeout:
                    raise self._error(fault, failures) from None
                # All workers obey a pause asked of one of them; the random part keeps them from returning all at once.
                self._pace.hold(fault.pause)
                backoff = min(_FIRST_PAUSE * 2 ** (failures - 1), _LONGEST_PAUSE)
                await asyncio.sleep(max(fault.pause, backoff * random.uniform(0.5, 1.0)))

    def _body(self, job: Job, params: SamplingParams) -> dict[str, Any]:
        request, index = job
        turns = [("system", request.system), ("user", request.prompt)]
        messages = [{"role": role, "content": text} for role, text in turns if text is not None]
        body = {
            "model": self.model,
            **({"messages": messages} if self.chat else {"prompt": request.prompt}),
            "temperature": params.temperature_of(index),
            "top_p": params.top_p,
            **_OFF,
            "top_k": params.top_k,
            "min_p": params.min_p,
            self._limit: params.max_new_tokens,
            "stop": None if self._stops_here else list(params.stop) or None,
            "seed": sample_key(params.seed, request.problem_id, index) >> 33,  # 31 bits: some servers read an int32
            **self.extra_body,
        }
        return {name: value for name, value in body.items() if value is not None and name not in self._unknown}

    async def _post(self, connections: httpx2.AsyncClient, body: dict[str, Any], params: SamplingParams) -> Answer:
        """Return an answer with status 200. Raises _Fault for anything else."""
        most_bytes = _ANSWER_BYTES + _BYTES_PER_TOKEN * params.max_new_tokens
        limits: dict[str, Any] = {"key": self.key, "most_bytes": most_bytes, "seconds": self.timeout}
        try:
            answer = await ask(connections, "POST", self.url, body, **limits)
        except NoAnswer as error:
            advice = f"Check that the server runs and is not overloaded; `timeout` is {self.timeout:g} s."
            raise _Fault(f"no answer ({error.reason})", advice, may_pass=error.may_pass) from None
        if answer.status == 200:
            return answer
        raise _Fault(
            f"status {answer.status}, {answer.shown}",
            _ADVICE.get(answer.status, "Look into the server's log."),
            may_pass=answer.status in _PASSING or (answer.status >= 500 and answer.status not in _LASTING),
            pause=_retry_after(answer.retry_after),
            refused=answer.content.decode("utf-8", "replace") if answer.status in (400, 422) else "",
        )

    def _read(self, answer: Answer, job: Job, params: SamplingParams) -> Completion:
        try:
            completion = read(answer, job, params, self._tell_end)
            self._check_name(answer)
            return completion
        except NotACompletion as error:
            advice = (
                'Expected JSON with choices[0].text (or .message.content) and finish_reason "stop" or "length"; '
                "check that the address is that of an OpenAI-compatible server."
            )
            found = f"an answer that is not a completion ({error}), {answer.shown}"
            raise _Fault(found, advice, may_pass=True) from None

    def _check_name(self, answer: Answer) -> None:
        """Raise SamplerError when a teacher answers under another name than before, in an earlier call too."""
        if self.memory is None or (name := name_in(answer)) is None:
            return
        if not self.memory.exists():
            write_atomic(self.memory, name)
        if (before := self.memory.read_text(encoding="utf-8")) != name:
            raise SamplerError(
                f"{self.url}: the teacher changed: {self.model!r} answered as {before!r} before, and now as {name!r}. "
                f"Have the server answer by {before!r} again to go on, or ask for a model that stays the same, such as "
                "a dated version, as server_model, which is then sampled from the beginning."
            )

    def _tell_end(self, reason: object) -> None:
        """Say once that a finish reason is not known, and what it is taken for."""
        shown = repr(reason)[:60]
        if shown not in self._ends and len(self._ends) < 10:
            self._ends.add(shown)
            log.warning("%s: the finish_reason %s is not known; such samples count as cut (length).", self.url, shown)

    def _rename_limit(self, fault: _Fault, sent: dict[str, Any]) -> bool:
        """Return whether the server wants the length under OpenAI's newer name, so that the request can be sent so."""
        wanted = _LIMIT in sent and _NEW_LIMIT in fault.refused and _LIMIT not in self.extra_body
        self._limit = _NEW_LIMIT if wanted else self._limit
        return wanted

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


def _ends_in_trace(completion: Completion, params: SamplingParams) -> bool:
    """Return whether a stop text may have ended a completion while the model was thinking, where none counts."""
    return completion.finish_reason != "length" and stretches(completion.text or "", params.stops_outside).is_unclosed


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


def _retry_after(value: str) -> float:
    """Return seconds: the header holds a number of them, or a date. 0 for anything else."""
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0
