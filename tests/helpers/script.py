"""A server that answers what a test tells it to: failures, and the words of servers that are not at hand."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler
from typing import Any, NamedTuple

from helpers.quiet_server import QuietServer


class Asked(NamedTuple):
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


class Answer(NamedTuple):
    status: int = 200
    content: bytes | None = None  # None: hangs up
    headers: dict[str, str] = {}  # noqa: RUF012
    seconds: float = 0.0


def completion(text: str = "fine", finish_reason: object = "stop", **more: Any) -> Answer:
    usage = {"usage": {"prompt_tokens": 3, "completion_tokens": 5}}
    choice = {"index": 0, "text": text, "finish_reason": finish_reason, "logprobs": None}
    return Answer(content=json.dumps({"choices": [{**choice, **more.pop("choice", {})}], **usage, **more}).encode())


class Script:
    """An HTTP server that answers what it is told to, in turn, the last one for ever."""

    def __init__(self, *answers: Answer) -> None:
        self.answers, self.asked = list(answers), list[Asked]()
        self.in_flight = self.most_in_flight = 0
        self._lock = threading.Lock()
        self._server = QuietServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def take(self, asked: Asked) -> Answer:
        with self._lock:
            self.asked.append(asked)
            self.in_flight += 1
            self.most_in_flight = max(self.in_flight, self.most_in_flight)
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def _handler(script: Script) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer({})

            def do_POST(self) -> None:
                self._answer(json.loads(self.rfile.read(int(self.headers["content-length"]))))

            def _answer(self, body: dict[str, Any]) -> None:
                answer = script.take(Asked(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                time.sleep(answer.seconds)
                with script._lock:
                    script.in_flight -= 1
                if answer.content is None:
                    return
                self.send_response(answer.status)
                for name, value in {"content-length": str(len(answer.content)), **answer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.content)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler

    def __enter__(self) -> Script:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
