"""One request to a server, which is not trusted: its answer has a largest size and a last moment to be whole."""

from __future__ import annotations

import asyncio
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

from qrft.sampling.backends.openai.access import Key

if TYPE_CHECKING:
    import httpx2

_CONNECT_TIMEOUT = 30.0  # seconds
_SHOWN = 200  # characters of an answer in a message


class Answer(NamedTuple):
    """What came back, without the key. Of an answer that is not status 200, `content` may be only the beginning."""

    status: int
    content: bytes
    retry_after: str = ""

    @property
    def shown(self) -> str:
        """The beginning of the answer, as messages quote it."""
        text = self.content[: 4 * _SHOWN].decode("utf-8", "replace")
        return repr(text[:_SHOWN] + ("..." if len(text) > _SHOWN else ""))


class NoAnswer(Exception):
    """No answer that can be used. `may_pass`: whether another try may get one."""

    def __init__(self, reason: str, *, may_pass: bool = True) -> None:
        super().__init__(reason)
        self.reason, self.may_pass = reason, may_pass


def client(key: Key, max_connections: int = 1) -> httpx2.AsyncClient:
    """Open a client that sends the key, and times out only as `ask` says."""
    import httpx2

    # gzip alone is asked for: zlib can be told how much of it to unpack.
    headers = {**key.headers, "Accept-Encoding": "gzip"}
    limits = httpx2.Limits(max_connections=max_connections)
    return httpx2.AsyncClient(headers=headers, timeout=httpx2.Timeout(None, connect=_CONNECT_TIMEOUT), limits=limits)


async def ask(
    client: httpx2.AsyncClient, method: str, url: str, body: Any = None, *, key: Key, most_bytes: int, seconds: float
) -> Answer:
    """Return the answer, which has to be whole in time. Raises NoAnswer."""
    import httpx2

    try:
        async with asyncio.timeout(seconds), client.stream(method, url, json=body) as response:
            content = await _content(response, most_bytes)
    except TimeoutError:
        raise NoAnswer(f"none that was whole after {seconds:g} s") from None
    except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError) as error:
        reason = key.hide(f"{type(error).__name__} {error}".encode()).decode()
        raise NoAnswer(reason.strip(), may_pass=isinstance(error, httpx2.TransportError)) from None
    return Answer(response.status_code, key.hide(content), response.headers.get("retry-after", ""))


async def _content(response: httpx2.Response, most_bytes: int) -> bytes:
    """Return the bytes of an answer, unpacked. Raises NoAnswer for more than `most_bytes` of them."""
    encoding = response.headers.get("content-encoding", "identity").lower()
    if encoding not in ("identity", "gzip", "x-gzip", ""):
        raise NoAnswer(f"one in the encoding {encoding[:_SHOWN]!r}, where gzip was asked for")
    unpack = zlib.decompressobj(wbits=31).decompress if "gzip" in encoding else lambda chunk, most: chunk[:most]
    content = bytearray()
    try:
        async for chunk in response.aiter_raw():
            content += unpack(chunk, most_bytes + 1 - len(content))
            if len(content) > most_bytes:
                break
    except zlib.error as error:
        raise NoAnswer(f"one with damaged gzip: {error}") from None
    if len(content) > most_bytes and response.status_code == 200:
        raise NoAnswer(f"one of more than {most_bytes:,} bytes", may_pass=False)
    return bytes(content[:most_bytes])
