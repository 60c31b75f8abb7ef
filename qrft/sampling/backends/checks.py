"""What every sampler refuses before it starts."""

from __future__ import annotations

from qrft.errors import SamplerError
from qrft.sampling.api import SamplingParams


def check_params(params: SamplingParams) -> None:
    """Raises SamplerError for settings that no sampler can follow."""
    if (
        params.max_new_tokens < 1
        or not params.temperature >= 0
        or not 0 < params.top_p <= 1
        or params.top_k < 0
        or not 0 <= params.min_p <= 1
    ):
        raise SamplerError(
            f"{params}: expected max_new_tokens >= 1, temperature >= 0, 0 < top_p <= 1, top_k >= 0, 0 <= min_p <= 1. "
            "Correct the settings."
        )
    if "" in params.stop:
        raise SamplerError(f"stop {params.stop!r} holds an empty text, which every text contains. Leave it out.")


def first_stop(text: str, stop: tuple[str, ...]) -> int:
    """Where the first of the stop texts begins in `text`; -1 where there is none."""
    return min((start for start in map(text.find, stop) if start >= 0), default=-1)
