"""A server that speaks as the Hugging Face hub does to whoever makes a repository and commits small files."""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler
from typing import Any

from helpers.quiet_server import QuietServer


class Hub:
    """`created`: what the repository was asked for with; `files`: what was committed."""

    def __init__(self) -> None:
        self.created: dict[str, Any] = {}
        self.files: dict[str, bytes] = {}
        self._server = QuietServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Hub:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str, body: bytes) -> dict[str, Any]:
        if path == "/api/whoami-v2":
            return {"type": "user", "name": "me", "auth": {"accessToken": {"role": "write"}}}
        if path == "/api/repos/create":
            self.created = json.loads(body)
            return {"url": f"{self.url}/me/mine"}
        if path.endswith("/preupload/main"):
            files = json.loads(body)["files"]
            return {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]}
        if path.endswith("/commit/main"):
            for row in map(json.loads, body.decode().splitlines()):
                if row["key"] == "file":
                    self.files[row["value"]["path"]] = base64.b64decode(row["value"]["content"])
            return {"commitUrl": f"{self.url}/me/mine/commit/abc", "commitOid": "abc", "hookOutput": ""}
        if path == "/api/validate-yaml":
            return {"errors": [], "warnings": []}
        return {"id": "me/mine", "sha": "abc", "siblings": []}

    def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:  # the handler has a self of its own
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(b"")

            def do_POST(self) -> None:
                self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

            def _answer(self, body: bytes) -> None:
                content = json.dumps(hub.answer(self.path.partition("?")[0], body)).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *words: object) -> None:
                pass

        return Handler
