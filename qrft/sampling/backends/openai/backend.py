"""A server as a sampler: llama-server, vLLM, llama-cpp-python's, a cloud service."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from pydantic import Field

from qrft.config.section import Count, Section
from qrft.sampling.api import ModelFiles, Sampler, Work


class Settings(Section):
    """Where the server is, and how it is asked."""

    server: str | None = Field(default=None, description="The address of the server, such as http://localhost:8080/v1.")
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


RUNTIME_KEYS = frozenset({"server", "api_key_env", "max_in_flight", "requests_per_minute"})
REQUIRED_KEYS = ("server",)
READS = "server"


def open_model(
    model: ModelFiles, settings: Settings, *, work: Work | None = None, n_threads: int | None = None
) -> Sampler:
    """Ask the server's model of this name. Raises SamplerError for an invalid address or a missing key.

    A model with a `model.folder` on this machine belongs to a run: the server has to list it, or to load it now. Raises
    SamplerError with what to serve when it does neither.
    """
    from qrft.sampling.backends.openai.adapters import request_fields
    from qrft.sampling.backends.openai.sampler import ServerSampler

    name = model.name if model.is_tuned else settings.server_model or model.name
    asked = settings.model_dump(exclude={"server", "server_model"})
    sampler = ServerSampler(settings.server or "", name, **asked)
    if model.folder is not None:
        sampler.extra_body |= request_fields(replace(model, name=name), settings.server or "", sampler.headers)
    return sampler
