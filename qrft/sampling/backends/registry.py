"""Any of the samplers, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from qrft.sampling.api import Sampler
from qrft.sampling.backends.llama_cpp.pool import open_sampler
from qrft.sampling.backends.openai import ServerSampler
from qrft.sampling.backends.transformers import TransformersSampler

Kind = Literal["llama.cpp", "transformers", "openai"]

SAMPLERS: dict[Kind, Callable[..., Sampler]] = {
    "llama.cpp": open_sampler,
    "transformers": TransformersSampler,
    "openai": ServerSampler,
}


@contextmanager
def open_any(kind: Kind, *args: Any, **settings: Any) -> Iterator[Sampler]:
    """A sampler that is closed at the end of the `with` block. Arguments are those of SAMPLERS[kind].

    llama.cpp: (base_gguf, adapter_gguf); transformers: (model_dir, adapter_dir); openai: (base_url, model).
    Raises SamplerError or ModelError when it can't be opened.
    """
    sampler = SAMPLERS[kind](*args, **settings)
    try:
        yield sampler
    finally:
        sampler.close()
