"""The server of `qrft browse`: for one person on this machine, who knows the token of its address."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from qrft.browse import pages
from qrft.browse.bank import Bank
from qrft.errors import UsageError

LOOPBACK = "127.0.0.1"
PAGES = {"/": pages.listing, "/compare": pages.comparison}


class Server(ThreadingHTTPServer):
    """Serves a bank's pages on loopback. port: 0 for any that is free. Raises UsageError for one that is taken."""

    daemon_threads = True

    def __init__(self, bank: Bank, name: str, port: int) -> None:
        try:
            super().__init__((LOOPBACK, port), _Handler)
        except OSError as error:
            raise UsageError(f"--port {port}: {error.strerror}. Choose another, or leave it out.") from None
        self.bank, self.name, self.token = bank, name, secrets.token_urlsafe(16)

    @property
    def address(self) -> str:
        """Return the address to open: whoever has it may read the samples."""
        return f"http://{LOOPBACK}:{self.server_port}/?token={self.token}"


class _Handler(BaseHTTPRequestHandler):
    server: Server
    timeout = 60.0  # seconds without a word

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        asked = dict(parse_qsl(url.query, errors="replace"))
        if not self._is_host():  # a page elsewhere whose name was pointed here
            self._answer(HTTPStatus.MISDIRECTED_REQUEST, "This server answers for 127.0.0.1 only.")
        elif self._is_token(asked.get("token", "")):
            self._let_in()
        elif not self._is_token(self._cookie()):
            self._answer(HTTPStatus.FORBIDDEN, "Open the address that qrft browse printed.")
        elif url.path not in PAGES:
            self._answer(HTTPStatus.NOT_FOUND, "There is no such page.")
        else:
            self._show(lambda: PAGES[url.path](self.server.bank, self.server.name, asked))

    def _show(self, page: Callable[[], str]) -> None:
        try:
            self._answer(HTTPStatus.OK, page(), "text/html")
        except UsageError as error:
            self._answer(HTTPStatus.BAD_REQUEST, str(error))

    def _let_in(self) -> None:
        """Keep the token in a cookie, so that it stands in no link and no history."""
        self.send_response(HTTPStatus.SEE_OTHER)
        cookie = f"{self._name}={self.server.token}; HttpOnly; SameSite=Strict; Path=/"
        for name, value in (("Location", "/"), ("Set-Cookie", cookie), ("Content-Length", "0")):
            self.send_header(name, value)
        self.end_headers()

    def _answer(self, status: HTTPStatus, text: str, kind: str = "text/plain") -> None:
        body = text.encode(errors="replace")
        self.send_response(status)
        for name, value in (
            ("Content-Type", f"{kind}; charset=utf-8"),
            ("Content-Length", str(len(body))),
            ("Content-Security-Policy", pages.policy()),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            ("Cache-Control", "no-store"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    @property
    def _name(self) -> str:
        """Return the cookie's name: a browser sends those of one port to all ports."""
        return f"qrft-browse-{self.server.server_port}"

    def _is_host(self) -> bool:
        return self.headers.get("Host", "") in (f"{name}:{self.server.server_port}" for name in (LOOPBACK, "localhost"))

    def _is_token(self, found: str) -> bool:
        return secrets.compare_digest(found.encode(), self.server.token.encode())

    def _cookie(self) -> str:
        try:
            cookie = SimpleCookie(self.headers.get("Cookie", "")).get(self._name)
        except CookieError:
            return ""
        return cookie.value if cookie else ""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the terminal is the person's."""
