"""A server as a sampler: llama-server, vLLM, llama-cpp-python's, a cloud service."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from qrft.config.section import Count, Section, broken_rule
from qrft.errors import SamplerError
from qrft.sampling.api import ModelFiles, Sampler, Work
from qrft.sampling.backends.openai.access import address, key_in


def _checked_address(server: str) -> str:
    try:
        address(server)
    except SamplerError as error:
        raise broken_rule(str(error).rstrip(".")) from None
    return server


def _json_alone(fields: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(fields, allow_nan=False)
    except (ValueError, TypeError, RecursionError) as error:
        raise broken_rule(f"found what JSON can't hold ({error}). Allowed: texts, numbers, lists, mappings") from None
    return fields


class Settings(Section):
    """Where the server is, and how it is asked."""

    server: Annotated[str, AfterValidator(_checked_address)] | None = Field(
        default=None, description="The address of the server, such as http://localhost:8080/v1."
    )
    server_model: str | None = Field(
        default=None,
        description="The name that the server has for the base model. If not set, it is the base model's own name.",
    )
    chat: bool = Field(
        default=False, description="Send each prompt as a chat message, so that the server applies its chat template."
    )
    api_key_env: str | None = Field(
        default=None,
        description="The environment variable that holds the server's API key. If not set, no key is sent.",
    )
    max_in_flight: Count = Field(default=16, description="How many requests may wait for the server at the same time.")
    requests_per_minute: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="The most requests to send per minute. If not set, there is no limit."
    )
    timeout: Annotated[float, Field(gt=0)] = Field(
        default=600.0, description="How many seconds a whole answer, or a pause that the server asks for, may take."
    )
    extra_body: Annotated[dict[str, Any], AfterValidator(_json_alone)] | None = Field(
        default=None,
        description='Further fields of every request, such as {"logprobs": 1}. They replace the usual ones.',
    )


RUNTIME_KEYS = frozenset({"server", "api_key_env", "max_in_flight", "requests_per_minute", "timeout"})
REQUIRED_KEYS = ("server",)
READS = "server"


def check(settings: Settings) -> None:
    """Raise SamplerError for a key that is not there: known before a run trains for a day."""
    key_in(settings.api_key_env)


def open_model(
    model: ModelFiles, settings: Settings, *, work: Work | None = None, n_threads: int | None = None
) -> Sampler:
    """Ask the server's model of this name. Raises SamplerError for an invalid address or a missing key.

    A model with a `model.folder` on this machine belongs to a run: the server has to list it, or to load it now. Raises
    SamplerError with what to serve when it does neither. One with a `model.memory` is a teacher: the server has to list
    it, and to answer under one name.
    """
    from qrft.sampling.backends.openai.adapters import check_listed, request_fields
    from qrft.sampling.backends.openai.sampler import ServerSampler

    name = model.name if model.is_tuned else settings.server_model or model.name
    asked = settings.model_dump(exclude={"server", "server_model"})
    sampler = ServerSampler(settings.server or "", name, **asked)
    if model.folder is not None:
        sampler.extra_body |= request_fields(replace(model, name=name), settings.server or "", sampler.key)
    if model.memory is not None:
        check_listed(name, settings.server or "", sampler.key)
        sampler.memory = model.memory
    return sampler
