"""The samplers by name. Each is a module that is imported when it is asked for.

To add one, write a module with the names of `Backend`, cheap to import, and give it a line in SAMPLERS.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from pydantic import Field, create_model

from qrft.config.section import Section
from qrft.sampling.api import ModelFiles, Sampler, Work

SAMPLERS = {
    "llama.cpp": "qrft.sampling.backends.llama_cpp.backend",
    "transformers": "qrft.sampling.backends.transformers.backend",
    "openai": "qrft.sampling.backends.openai.backend",
}
DEFAULT = "llama.cpp"

if TYPE_CHECKING:
    SamplerName = str
else:
    SamplerName = Literal[tuple(SAMPLERS)]

SAMPLER = Field(
    default=DEFAULT,
    description="What generates the samples: llama.cpp, transformers, or a server that speaks OpenAI's protocol "
    "(openai).",
)

# What a sampler reads of a model: a GGUF file, the Hugging Face folder, or nothing, since a server has it.
Reads = Literal["gguf", "folder", "server"]


class Backend(Protocol):
    """What the module of a sampler holds.

    `Settings`: the recipe's keys of the section `sample`, and the options of `qrft sample`, that this sampler reads.
    `RUNTIME_KEYS`: those of them that do not decide the samples. `REQUIRED_KEYS`: those that have to be given.
    """

    Settings: type[Section]
    RUNTIME_KEYS: frozenset[str]
    REQUIRED_KEYS: tuple[str, ...]
    READS: Reads

    def open_model(
        self, model: ModelFiles, settings: Any, *, work: Work | None = None, n_threads: int | None = None
    ) -> Sampler:
        """Open a sampler, which the caller must close. Raises SamplerError or ModelError when that is impossible."""
        ...


def backend(name: str) -> Backend:
    """Return the module of a sampler. `name` is one of SAMPLERS."""
    return cast(Backend, import_module(SAMPLERS[name]))


def check(name: str, values: Mapping[str, Any]) -> None:
    """Raise SamplerError for what will certainly fail, where the sampler can say so before anything is opened."""
    if hasattr(backend(name), "check"):
        backend(name).check(own_settings(name, values))  # type: ignore[attr-defined] # only a server has what may lack


def combined_settings() -> type[Section]:
    """Return a section with the sampler's name and the own settings of all samplers, for the recipe."""
    own = {key: field for name in SAMPLERS for key, field in backend(name).Settings.model_fields.items()}
    fields: dict[str, Any] = {key: (field.annotation, field) for key, field in own.items()}
    return create_model("SamplerSettings", __base__=Section, sampler=(SamplerName, SAMPLER), **fields)


def runtime_keys() -> set[str]:
    """Return the samplers' own settings that do not decide the samples."""
    return {key for name in SAMPLERS for key in backend(name).RUNTIME_KEYS}


def own_values(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that the sampler reads as its own settings."""
    return {key: value for key, value in values.items() if key in backend(name).Settings.model_fields}


def own_settings(name: str, values: Mapping[str, Any]) -> Section:
    """Return the sampler's own settings, from values that may include those of other samplers."""
    return backend(name).Settings(**own_values(name, values))


def all_keys() -> set[str]:
    """Return the names of all samplers' own settings."""
    return {key for name in SAMPLERS for key in backend(name).Settings.model_fields}


def readers(key: str) -> list[str]:
    """Return the samplers that read a setting as their own; none for a setting that all share."""
    return [name for name in SAMPLERS if key in backend(name).Settings.model_fields]


def unread_keys(name: str, values: Mapping[str, Any]) -> list[str]:
    """Return the keys whose values differ from their defaults, though only other samplers read them."""
    others = [key for key in values if readers(key) and name not in readers(key)]
    return [key for key in others if values[key] != backend(readers(key)[0]).Settings.model_fields[key].default]


def missing_keys(name: str, settings: Section) -> list[tuple[str, str]]:
    """Return the keys that the sampler requires and that are missing, each with its description."""
    missing = [key for key in backend(name).REQUIRED_KEYS if getattr(settings, key) is None]
    return [(key, str(type(settings).model_fields[key].description)) for key in missing]
