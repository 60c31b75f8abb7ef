"""How a model of a run gets to the server that samples it.

Either the server lists the model; or it is vLLM and loads the adapter on request; or it is llama-server and was started
with the adapter, which each request then switches on. Otherwise a person serves it, and the same command continues.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qrft.errors import ModelError, SamplerError
from qrft.sampling.api import ModelFiles
from qrft.sampling.backends.openai.sampler import address

if TYPE_CHECKING:
    import httpx2

_TIMEOUT = 60.0  # seconds; vLLM reads an adapter before it answers
_SHOWN = 300  # characters of an answer in a message

Loras = list[dict[str, Any]]  # llama-server's adapters: {"id": 0, "path": "my.gguf", "scale": 1.0}


def request_fields(model: ModelFiles, base_url: str, headers: dict[str, str]) -> dict[str, Any]:
    """Return the fields by which each request asks for the model, beside its name.

    Raises SamplerError, which says what to serve and how, when the server has no such model and can't load it.
    """
    import httpx2

    url, answer = address(base_url), ""
    with httpx2.Client(headers=headers, timeout=_TIMEOUT) as client:
        try:
            names, loras = _listed(client, url), _lora_adapters(client, url)
            if model.name in names:
                return {} if model.adapter else _only(loras, None)
            if model.adapter and (lora := _started_with(loras, model)) is not None:
                return _only(loras, lora)
            if model.adapter:
                answer = _load(client, url, model)
                if model.name in _listed(client, url):
                    return {}
        except httpx2.TransportError as error:
            reason = f"{type(error).__name__} {error}".strip()
            raise SamplerError(
                f"{url}: no answer ({reason}). Check the address, and that the server is running."
            ) from None
    raise SamplerError(_what_to_serve(model, url, names, answer))


def _listed(client: httpx2.Client, url: str) -> list[str]:
    """Return the names of the server's models. Raises SamplerError when it lists none."""
    answer = client.get(f"{url}/models")
    try:
        return [str(entry["id"]) for entry in json.loads(answer.content)["data"]]
    except (ValueError, LookupError, TypeError):
        raise SamplerError(
            f"{url}/models: status {answer.status_code}, {answer.text[:_SHOWN]!r}. Expected the list of the server's "
            "models, by which a run knows what it samples. Check the address, and the key in api_key_env."
        ) from None


def _lora_adapters(client: httpx2.Client, url: str) -> Loras:
    """Return the adapters that llama-server was started with; none for another server."""
    answer = client.get(f"{url.removesuffix('/v1')}/lora-adapters")
    try:
        return [{"id": int(entry["id"]), "path": str(entry["path"])} for entry in json.loads(answer.content)]
    except (ValueError, LookupError, TypeError):
        return []


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


def _load(client: httpx2.Client, url: str, model: ModelFiles) -> str:
    """Ask vLLM to load the adapter. Return its reason when it does not; "" if it does not know the request."""
    body = {"lora_name": model.name, "lora_path": str(model.adapter)}
    answer = client.post(f"{url}/load_lora_adapter", json=body)
    knows_it = "lora" in answer.text.lower() or "adapter" in answer.text.lower()
    return answer.text[:_SHOWN] if knows_it and answer.status_code != 200 else ""


def _what_to_serve(model: ModelFiles, url: str, names: list[str], answer: str) -> str:
    listed = ", ".join(map(repr, names)) or "none"
    lacking = f"{url}: the server has no model {model.name!r}. It lists {listed}."
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
