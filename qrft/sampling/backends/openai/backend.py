"""A server as a sampler: llama-server, vLLM, llama-cpp-python's, a cloud service."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from qrft.config.section import Count, Section
from qrft.sampling.api import ModelFiles, Sampler, Work


class Settings(Section):
    """Where the server is, and how it is asked."""

    server: str | None = Field(default=None, description="The address of the server, such as http://localhost:8080/v1.")
    chat: bool = Field(default=False, description="Send the prompt as a chat message, to the server's chat template.")
    api_key_env: str | None = Field(
        default=None, description="The environment variable that holds the server's key; null sends none."
    )
    max_in_flight: Count = Field(default=16, description="How many requests wait for the server at once.")
    requests_per_minute: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="The most requests per minute; null sets no limit."
    )


RUNTIME_KEYS = frozenset({"server", "api_key_env", "max_in_flight", "requests_per_minute"})
REQUIRED_KEYS = ("server",)
READS = "server"


def open_model(
    model: ModelFiles, settings: Settings, *, work: Work | None = None, n_threads: int | None = None
) -> Sampler:
    """Ask the server's model `model.name`. Raises SamplerError for an address or a key that is none."""
    from qrft.sampling.backends.openai.sampler import ServerSampler

    asked = settings.model_dump(exclude={"server"})
    return ServerSampler(settings.server or "", model.name, **asked)
