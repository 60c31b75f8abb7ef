"""llama.cpp as a sampler: the fastest on a CPU, from GGUF files."""

from __future__ import annotations

from qrft.sampling.api import LocalSettings, ModelFiles, Sampler, Work

Settings = LocalSettings
RUNTIME_KEYS: frozenset[str] = frozenset()
REQUIRED_KEYS: tuple[str, ...] = ()
READS = "gguf"


def open_model(
    model: ModelFiles, settings: LocalSettings, *, work: Work | None = None, n_threads: int | None = None
) -> Sampler:
    """Open `model.gguf` with `model.adapter_gguf`. Raises SamplerError for a file that llama.cpp can't load."""
    from qrft.sampling.backends.llama_cpp.pool import open_sampler

    assert model.gguf is not None
    chosen = {"n_threads": n_threads, "n_seq_max": settings.num_sequences}
    return open_sampler(model.gguf, model.adapter_gguf, work=work, **chosen)
