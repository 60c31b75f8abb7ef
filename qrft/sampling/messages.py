"""What goes into a sampler and what comes out."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Literal

FinishReason = Literal["stop", "length"]
CacheType = Literal["f16", "f32"]


@dataclass(frozen=True)
class Request:
    """A prompt, as the HF tokenizer's token ids, of which `num_samples` samples are wanted: indices 0 .. k-1."""

    problem_id: str
    prompt_ids: list[int]
    num_samples: int = 1


@dataclass(frozen=True)
class SamplingParams:
    """How tokens are picked, in transformers' order: temperature, then top_k, then top_p.

    Temperature 0 is greedy; top_k 0 and top_p 1 are off.
    """

    temperature: float = 0.7
    top_p: float = 1.0
    top_k: int = 0
    max_new_tokens: int = 256
    seed: int = 0


@dataclass(frozen=True)
class Completion:
    """A sample. `token_ids` ends with the end-of-text token when `finish_reason` is "stop".

    `logprob`: sum of the natural-log probabilities of its tokens at temperature 1, without top_k and top_p.
    """

    problem_id: str
    sample_index: int
    token_ids: list[int]
    finish_reason: FinishReason
    logprob: float


@dataclass
class Stats:
    """Where the time of one `generate` went. Seconds; the rest of `total_seconds` is bookkeeping and messages."""

    num_tokens: int = 0  # generated
    num_steps: int = 0
    decode_seconds: float = 0.0
    pick_seconds: float = 0.0
    total_seconds: float = 0.0

    def __add__(self, other: Stats) -> Stats:
        return Stats(*(left + right for left, right in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class EngineOptions:
    """How llama.cpp runs. None: decided by the engine."""

    base_gguf: str
    adapter_gguf: str | None = None
    n_threads: int | None = None
    n_seq_max: int | None = None  # sequences that live at once
    n_ctx_seq: int | None = None  # tokens of a prompt and its sample; None: as the requests need
    cache_type: CacheType = "f16"
    kv_unified: bool | None = None
    flash_attention: bool | None = None
