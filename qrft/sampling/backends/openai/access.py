"""Where a server is and what opens it: its address, and the key that no message and no file may show."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from html import escape
from urllib.parse import quote, urlsplit

from qrft.errors import SamplerError

_SHORTEST = 6  # characters of a secret; shorter keys are placeholders such as "none" or "EMPTY"
_HIDDEN = b"[the API key]"
_SCHEMES = ("Basic", "Bearer")
_A_KEY = re.compile(r"(?:(?:Basic|Bearer) +)?[!-~]+")


def address(base_url: str) -> str:
    """Return the address under which OpenAI's endpoints are. Raises SamplerError for an invalid address.

    A user name, a password or a query is refused and not shown: addresses stand in recipes, reports and messages.
    """
    shown = re.sub(r"[?#].*", "", re.sub(r"//.*@", "//", base_url))
    try:
        parts = urlsplit(base_url)
        is_address = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port out of range, half an IPv6 address
        is_address = False
    if not is_address or re.search(r"[\s\x00-\x1f\x7f]", base_url):
        raise SamplerError(f"{shown!r} is not the address of a server. Expected one such as http://localhost:8080/v1.")
    if shown != base_url:
        raise SamplerError(
            f"{shown!r} came with a user name, a password or a query, which would stand in every message. Leave them "
            "out of the address. Put a key into an environment variable and name that one as `api_key_env`; for a name "
            "and a password the variable holds Basic and their base64, such as 'Basic bWU6bXkgcGFzc3dvcmQ='."
        )
    return parts._replace(path=parts.path.rstrip("/") or "/v1").geturl()


@dataclass(frozen=True, repr=False)
class Key:
    """A server's key, or a whole Authorization header beginning with Basic or Bearer; "" for none."""

    text: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """The headers that send it."""
        is_whole = self.text.partition(" ")[0] in _SCHEMES
        return {"Authorization": self.text if is_whole else f"Bearer {self.text}"} if self.text else {}

    def hide(self, content: bytes) -> bytes:
        """Return what a server sent without the key, as it is or as JSON, HTML and addresses spell it."""
        secret = self.text.rpartition(" ")[2]
        if len(secret) < _SHORTEST:
            return content
        in_json = json.dumps(secret)[1:-1]
        for spelling in {secret, in_json, in_json.replace("/", "\\/"), escape(secret), quote(secret, safe="")}:
            content = content.replace(spelling.encode(), _HIDDEN)
        return content


def key_in(api_key_env: str | None) -> Key:
    """Return the key in this environment variable. Raises SamplerError when there is none, or none that can be."""
    if api_key_env is None:
        return Key()
    text = os.environ.get(api_key_env, "").strip()
    if not text:
        raise SamplerError(
            f"api_key_env: the environment variable {api_key_env} is not set. Put the server's key there, "
            "or leave api_key_env out for a server without keys."
        )
    if not _A_KEY.fullmatch(text):
        raise SamplerError(
            f"api_key_env: the environment variable {api_key_env} holds {len(text)} characters that are no key: a key "
            "is one line of ASCII without spaces. Look for a line break, a space or a second key in it."
        )
    return Key(text)
