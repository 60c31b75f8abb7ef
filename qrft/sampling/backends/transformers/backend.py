"""transformers as a sampler: every causal model that it loads, from a Hugging Face folder."""

from __future__ import annotations

from qrft.sampling.api import LocalSettings, ModelFiles, Sampler, Work

Settings = LocalSettings
RUNTIME_KEYS: frozenset[str] = frozenset()
REQUIRED_KEYS: tuple[str, ...] = ()
READS = "folder"

USUAL_BATCH = 64


def open_model(
    model: ModelFiles, settings: LocalSettings, *, work: Work | None = None, n_threads: int | None = None
) -> Sampler:
    """Open `model.folder` with `model.adapter`. Raises ModelError for what transformers or PEFT can't load."""
    from qrft.sampling.backends.transformers.sampler import TransformersSampler

    assert model.folder is not None
    batch_size = settings.num_sequences or USUAL_BATCH
    return TransformersSampler(model.folder, model.adapter, n_threads=n_threads, batch_size=batch_size)
