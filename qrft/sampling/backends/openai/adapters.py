"""How a model of a run gets to the server that samples it.

Either the server lists the model; or it is vLLM and loads the adapter on request; or it is llama-server and was started
with the adapter, which each request then switches on. Otherwise a person serves it, and the same command continues.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qrft.errors import ModelError, SamplerError
from qrft.sampling.api import ModelFiles
from qrft.sampling.backends.openai.access import Key, address
from qrft.sampling.backends.openai.exchange import Answer, NoAnswer, ask, client
from qrft.sampling.backends.openai.loop import in_thread

_TIMEOUT = 60.0  # seconds; vLLM reads an adapter before it answers
_MOST_BYTES = 2**23  # of a list of models; that of a service with hundreds of them has 1 MB
_SHOWN_NAMES = 20  # in a message

Loras = list[dict[str, Any]]  # llama-server's adapters: {"id": 0, "path": "my.gguf", "scale": 1.0}


class _Server:
    """What a server is asked before any sample. `url`: where OpenAI's endpoints are."""

    def __init__(self, url: str, key: Key) -> None:
        self.url, self._key = url, key

    def ask(self, method: str, url: str, body: Any = None) -> Answer:
        """Return the answer. Raises SamplerError when there is none."""

        async def work(put: Callable[[Answer], None]) -> None:
            async with client(self._key) as connection:
                put(await ask(connection, method, url, body, key=self._key, most_bytes=_MOST_BYTES, seconds=_TIMEOUT))

        try:
            return next(in_thread(work))
        except NoAnswer as error:
            raise SamplerError(
                f"{self.url}: no answer ({error.reason}). Check the address, and that the server is running."
            ) from None

    def names(self) -> list[str]:
        """Return the names of its models. Raises SamplerError when it lists none."""
        answer = self.ask("GET", f"{self.url}/models")
        try:
            return [str(entry["id"]) for entry in json.loads(answer.content)["data"]]
        except (ValueError, LookupError, TypeError, RecursionError):
            raise SamplerError(
                f"{self.url}/models: status {answer.status}, {answer.shown}. Expected the list of the server's "
                "models, by which a run knows what it samples. Check the address, and the key in api_key_env."
            ) from None

    def loras(self) -> Loras:
        """Return the adapters that llama-server was started with; none for another server."""
        answer = self.ask("GET", f"{self.url.removesuffix('/v1')}/lora-adapters")
        try:
            return [{"id": int(entry["id"]), "path": str(entry["path"])} for entry in json.loads(answer.content)]
        except (ValueError, LookupError, TypeError, OverflowError, RecursionError):
            return []

    def load(self, model: ModelFiles) -> str:
        """Ask vLLM to load the adapter. Return its reason when it does not; "" if it does not know the request."""
        body = {"lora_name": model.name, "lora_path": str(model.adapter)}
        answer = self.ask("POST", f"{self.url}/load_lora_adapter", body)
        knows_it = b"lora" in answer.content.lower() or b"adapter" in answer.content.lower()
        return answer.shown if knows_it and answer.status != 200 else ""


def request_fields(model: ModelFiles, base_url: str, key: Key) -> dict[str, Any]:
    """Return the fields by which each request asks for the model, beside its name.

    Raises SamplerError, which says what to serve and how, when the server has no such model and can't load it.
    """
    server, answer = _Server(address(base_url), key), ""
    names, loras = server.names(), server.loras()
    if model.name in names:
        return {} if model.adapter else _only(loras, None)
    if model.adapter and (lora := _started_with(loras, model)) is not None:
        return _only(loras, lora)
    if model.adapter:
        answer = server.load(model)
        if model.name in server.names():
            return {}
    raise SamplerError(_what_to_serve(model, server.url, names, answer))


def check_listed(name: str, base_url: str, key: Key) -> None:
    """Raise SamplerError unless the server has a model of this name: some answer by another one instead."""
    server = _Server(address(base_url), key)
    if name not in (names := server.names()):
        raise SamplerError(
            f"{server.url}: the server has no model {name!r} (any more). It lists {_listed(names)}. Serve it under "
            "that name to go on, or name another one as server_model, which is then sampled from the beginning."
        )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
    return (", ".join(repr(name[:100]) for name in names[:_SHOWN_NAMES]) or "none") + more


def _started_with(loras: Loras, model: ModelFiles) -> int | None:
    """Return llama-server's number of the model's adapter, known by the name of its GGUF file; None if it has none."""
    gguf = _adapter_gguf(model) if loras else None
    names = {model.name, gguf.stem if gguf else model.name}
    return next((entry["id"] for entry in loras if Path(entry["path"]).stem in names), None)


def _only(loras: Loras, wanted: int | None) -> dict[str, Any]:
    """Return the field that switches one of llama-server's adapters on and the others off."""
    if not loras:
        return {}
    return {"lora": [{"id": entry["id"], "scale": float(entry["id"] == wanted)} for entry in loras]}


def _what_to_serve(model: ModelFiles, url: str, names: list[str], answer: str) -> str:
    lacking = f"{url}: the server has no model {model.name!r}. It lists {_listed(names)}."
    if model.adapter is None:
        return (
            f"{lacking} Serve the model in {model.folder} under that name, then run the same command again. For a base "
            "model, sample.server_model can instead give the name that the server has for it."
        )
    gguf = _adapter_gguf(model)
    ways = [
        f"{lacking} Serve this adapter beside its base, then run the same command again; it continues from here.",
        f"  vLLM: --enable-lora --lora-modules {model.name}={model.adapter}",
        "    (or start it with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True: then the run loads it itself)",
    ]
    if gguf is not None:
        ways.append(f"  llama-server: --lora {gguf}")
        ways.append(f"  another server of GGUF files: this adapter under the name {model.name}")
    if answer:
        ways.append(f"  The server did not load it: {answer}")
    return "\n".join(ways)


def _adapter_gguf(model: ModelFiles) -> Path | None:
    """Return the adapter as a GGUF file, made once; None for one that can't be exported."""
    from qrft.models.gguf.prepare import prepare_adapter

    assert model.adapter is not None
    try:
        return prepare_adapter(model.adapter, str(model.folder))
    except ModelError:
        return None
