"""A server is not trusted: whatever it sends, there are samples or one error, in bounded time and memory."""

from __future__ import annotations

import gzip
import json
import math
import random
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest
from helpers.commands import environment, fails
from helpers.hostile import Random, damaged, value, with_a_strange_value
from helpers.processes import run_measured

from qrft.data.schema import SAMPLES
from qrft.errors import SamplerError
from qrft.sampling.api import Completion, ModelFiles, Request, SamplingParams
from qrft.sampling.backends.openai.access import Key
from qrft.sampling.backends.openai.adapters import request_fields
from qrft.sampling.backends.openai.sampler import ServerSampler

KEY = "sk-planted/4f9a+77"
CHOICE = {"index": 0, "text": "3+4=7\n#### 7", "finish_reason": "stop", "logprobs": {"token_logprobs": [-0.5, -1]}}
WHOLE = {"id": "1", "choices": [CHOICE], "usage": {"completion_tokens": 9}}
PARAMS = SamplingParams(max_new_tokens=16, stop=("Q:",))
Send = Callable[[socket.socket], None]


@contextmanager
def serving(send: Send) -> Iterator[str]:
    """Serve on a socket: each connection is read once, then gets what `send` sends, which need not be HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection = server.accept()[0]
                except OSError:
                    return
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

        def answer(connection: socket.socket) -> None:
            with connection:
                try:
                    connection.recv(2**16)
                    send(connection)
                except OSError:
                    pass  # the client has seen enough

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


def http(content: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(content)}", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode() + content


def hostile_answer(rng: Random) -> bytes:
    """Return what one connection gets."""
    whole = json.dumps(WHOLE).encode()
    ways: Sequence[Callable[[], bytes]] = (
        *[lambda: http(with_a_strange_value(WHOLE, rng))] * 4,
        lambda: http(damaged(whole, rng)),
        lambda: damaged(http(whole), rng),
        lambda: http(damaged(gzip.compress(whole), rng), "Content-Encoding: gzip"),
        lambda: http(
            whole, f"Content-Encoding: {rng.choice(['br', 'zstd', 'deflate', 'gzip', 'x', 'identity, gzip'])}"
        ),
        lambda: http(rng.choice([whole, KEY.encode() * 99]), status=f"{rng.randrange(1000):03} {KEY}"),
        lambda: http(
            b"slow down", f"Retry-After: {rng.choice(['nan', '1e400', '-1', 'Mon, 99', 'x' * 9999])}", status="429 a"
        ),
        lambda: http(whole, f"Content-Length: {rng.choice(['-1', '9' * 30, 'x', '1, 2', '5'])}"),
        lambda: http(whole, f"Transfer-Encoding: {rng.choice(['chunked', 'x', 'chunked, chunked'])}"),
        lambda: http(
            f'{{"error": "bad key {KEY} {json.dumps(KEY)} {value(rng)}"}}'.encode("utf-8", "replace"), status="401 no"
        ),
        lambda: http(whole, *(f"X-{i}: {'y' * 900}" for i in range(rng.choice([5, 500])))),
        lambda: rng.randbytes(rng.randrange(2000)),
    )
    return rng.choice(ways)()


def check(url: str, ask: Callable[[], object]) -> bool:
    """Ask; return whether samples came. Otherwise there was one error that names the server and not its key."""
    try:
        found = ask()
    except SamplerError as error:
        message = str(error)
        assert url in message and KEY not in message and len(message) < 1500, message
        return False
    assert KEY not in repr(found)
    return True


def samples_of(url: str) -> list[Completion]:
    sampler = ServerSampler(url, "m", retries=0, timeout=5, max_in_flight=1)
    sampler.key = Key(KEY)
    found = list(sampler.generate([Request("p", [], 1, 0, "2 + 2 =")], PARAMS, []))
    for one in found:  # they can be written
        values = ["p", "m", 0, one.text, one.finish_reason, one.num_tokens, one.logprob]
        pa.Table.from_pylist([dict(zip(SAMPLES.names, values, strict=True))], schema=SAMPLES)
        assert one.finish_reason in ("stop", "stop_text", "length") and not math.isinf(one.logprob)
    return found


def ask_hostile_servers(seed: int, count: int) -> None:
    rng, taken = random.Random(seed), 0
    for _ in range(count):
        content = hostile_answer(rng)
        with serving(lambda connection, content=content: connection.sendall(content)) as url:  # type: ignore[misc]
            taken += check(url, lambda url=url: samples_of(url))  # type: ignore[misc]
            check(url, lambda url=url: request_fields(ModelFiles("m"), url, Key(KEY)))  # type: ignore[misc]
    assert 0 < taken < count


def test_sixty_hostile_servers() -> None:
    ask_hostile_servers(seed=1, count=60)


@pytest.mark.torture
def test_five_hundred_hostile_servers() -> None:
    ask_hostile_servers(seed=2, count=500)


def test_an_answer_that_drips_ends_in_time() -> None:
    def drip(connection: socket.socket) -> None:
        for byte in http(json.dumps(WHOLE).encode()):
            connection.sendall(bytes([byte]))
            time.sleep(0.2)

    with serving(drip) as url, pytest.raises(SamplerError, match=r"none that was whole after 1 s.*`timeout` is 1 s"):
        before = time.monotonic()
        list(ServerSampler(url, "m", retries=0, timeout=1).generate([Request("p", [], 1, 0, "2")], PARAMS, []))
    assert time.monotonic() - before < 5


@pytest.mark.parametrize(
    "bomb", ["gzip", *(pytest.param(kind, marks=pytest.mark.torture) for kind in ("endless", "deep"))]
)
def test_an_answer_without_end_takes_no_memory(tmp_path: Path, bomb: str) -> None:
    packed = gzip.compress(bytes(2**30), 9)  # 1 MB

    def send(connection: socket.socket) -> None:
        if bomb == "gzip":
            connection.sendall(http(packed, "Content-Encoding: gzip"))
        if bomb == "deep":
            connection.sendall(http(b"[" * 2**21))
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(b'{"choices": ' * 5000)

    problems = tmp_path / "problems.jsonl"
    problems.write_text('{"id": "a", "question": "How many is 3+4?", "answer": "7"}\n')
    words = (
        "sample",
        "m",
        "--sampler",
        "openai",
        "--problems",
        problems,
        "-k",
        1,
        "--timeout",
        20,
        "-o",
        tmp_path / "out",
    )
    with serving(send) as url:
        done = run_measured([*map(str, words), "--server", url], environment())
    assert done.code == 1 and "Traceback" not in done.errors
    expected = "not a completion" if bomb == "deep" else r"one of more than 3,145,728 bytes"
    assert re.search(expected, done.errors), done.errors
    assert done.peak_bytes < 400 * 2**20  # of which Python, Arrow and the rest of qrft are 250


@pytest.mark.parametrize(
    ("server", "message"),
    [
        ("http://127.0.0.1:99999/v1", "is not the address of a server"),
        ("http://[::1/v1", "is not the address of a server"),
        ("http://a b/v1", "is not the address of a server"),
        ("http://me:hunter22@localhost/v1", "came with a user name, a password or a query.*api_key_env"),
        ("http://localhost/v1?key=hunter22", "came with a user name, a password or a query.*api_key_env"),
    ],
)
def test_addresses_are_checked_first(tmp_path: Path, server: str, message: str) -> None:
    words = ("sample", "m", "--sampler", "openai", "--problems", "none.jsonl", "-k", 1, "-o", tmp_path / "out")
    found = fails(2, *words, "--server", server)
    assert re.search(message, found, re.S) and "--server" in found and "hunter22" not in found


@pytest.mark.parametrize("key", ["sk-hunter22\nsecond", "sk hunter22", "hunter22\x00", "hünter22", "Basic a b"])
def test_a_key_that_can_not_be_is_not_shown(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setattr("os.environ", {"SOME_KEY": key})  # a real environment takes no \0
    with pytest.raises(SamplerError, match=r"SOME_KEY holds .* that are no key.*line break") as error:
        ServerSampler("http://localhost", "m", api_key_env="SOME_KEY")
    assert "hunter22" not in str(error.value)


def test_a_key_may_be_a_whole_header() -> None:
    assert Key("abcdef").headers == {"Authorization": "Bearer abcdef"}
    assert Key("Basic bWU6eA==").headers == {"Authorization": "Basic bWU6eA=="}
    assert Key("Bearer abcdef").hide(b"key abcdef") == b"key [the API key]"
    assert Key("none").hide(b"none of them") == b"none of them" and Key().headers == {}
