"""What goes into a sampler and what comes out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Annotated, Literal, Protocol

from pydantic import Field, field_validator

from qrft.config.section import Count, Section, Seed
from qrft.grading.traces import Traces

# By the end-of-text token, by one of `SamplingParams.stop`, by `max_new_tokens`.
FinishReason = Literal["stop", "stop_text", "length"]
CacheType = Literal["f16", "f32", "q8_0"]


@dataclass(frozen=True)
class Request:
    """A prompt to be sampled `num_samples` times; the samples' indices begin at `first_sample`.

    `prompt_ids`: the HF tokenizer's token ids; `prompt`: their text, for samplers that send texts. `system`: a turn
    before it, for a server that has the chat template.
    """

    problem_id: str
    prompt_ids: list[int]
    num_samples: int = 1
    first_sample: int = 0
    prompt: str = ""
    system: str | None = None


# One, or several that the samples of a problem take in turn.
Temperatures = Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(strict=False, min_length=1)]
Temperature = Annotated[float, Field(ge=0)] | Temperatures


class Picking(Section):
    """How tokens are picked, in transformers' order: temperature, then top_k, then top_p, then min_p."""

    temperature: Temperature = Field(
        default=0.7,
        description="How random the choice of a token is; 0 always takes the most likely one. Of several, the samples "
        "of a problem take one after the other.",
    )
    top_p: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Keep only the most likely tokens whose probabilities together reach this; 1 turns it off.",
    )
    top_k: int = Field(default=0, ge=0, description="Keep only the k most likely tokens; 0 turns it off.")
    min_p: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Keep only tokens with at least this share of the most likely one's probability; 0 turns it off.",
    )
    max_new_tokens: Count = Field(default=512, description="The maximum length of a completion, in tokens.")
    stop: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(strict=False)] = Field(
        default=(), description="Texts that end a completion and are left out of it."
    )

    @field_validator("temperature")
    @classmethod
    def _one_is_a_number(cls, temperature: float | tuple[float, ...]) -> float | tuple[float, ...]:
        return temperature[0] if isinstance(temperature, tuple) and len(temperature) == 1 else temperature

    def temperature_of(self, sample_index: int) -> float:
        """Return the temperature of a sample of a problem."""
        if isinstance(self.temperature, tuple):
            return self.temperature[sample_index % len(self.temperature)]
        return self.temperature


class SamplingParams(Picking):
    """What a sampler takes. The same seed gives the same samples. Raises ValidationError for settings out of range."""

    seed: Seed = Field(default=0, description="The seed for every random choice of the sampler.")
    # Of the rules, which say where stop texts do not count; no setting of its own, so it is in no digest.
    stops_outside: Traces | None = Field(default=None, exclude=True)


@dataclass(frozen=True)
class Completion:
    """A sample. `token_ids` ends with the end-of-text token when `finish_reason` is "stop", and with the token that
    completes the stop text when it is "stop_text". `num_tokens` counts them, or is the number that a server reports.

    `logprob`: sum of the natural-log probabilities of its tokens at temperature 1, without top_k, top_p and min_p; NaN
    when the sampler can't say. `text`: the completion before the stop text; None where the tokenizer has to make it.
    """

    problem_id: str
    sample_index: int
    token_ids: list[int]
    finish_reason: FinishReason
    logprob: float
    text: str | None = None
    num_tokens: int = -1

    def __post_init__(self) -> None:
        if self.num_tokens < 0:
            object.__setattr__(self, "num_tokens", len(self.token_ids))


@dataclass
class Stats:
    """Where the time of one `generate` went, in seconds. The rest of `total_seconds` is bookkeeping and messages."""

    num_tokens: int = 0  # generated
    num_steps: int = 0
    decode_seconds: float = 0.0
    pick_seconds: float = 0.0
    total_seconds: float = 0.0
    num_prompt_tokens: int = 0  # decoded; those of parked samples count again
    num_live: int = 0  # sequences at this moment
    num_parked: int = 0  # times that a sample was set aside because the context was full
    num_stop: int = 0  # samples by finish_reason
    num_stop_text: int = 0
    num_length: int = 0

    def count_finished(self, reason: FinishReason) -> None:
        setattr(self, f"num_{reason}", getattr(self, f"num_{reason}") + 1)

    def __add__(self, other: Stats) -> Stats:
        return Stats(*(left + right for left, right in zip(astuple(self), astuple(other), strict=True)))


class Sampler(Protocol):
    """What all samplers have in common. `stats` are of the latest `generate`, kept up to date."""

    @property
    def stats(self) -> Stats: ...

    def generate(
        self, requests: Iterable[Request], params: SamplingParams, eos_ids: Sequence[int]
    ) -> Iterator[Completion]:
        """Yield every sample of every request, in the order in which they end. Raises SamplerError."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class ModelFiles:
    """Where the sampled model is. Each backend reads what it needs.

    `name`: what the samples call the model, and its name at a server. `folder`: Hugging Face's, with the tokenizer.
    `adapter`: PEFT's folder. `gguf`, `adapter_gguf`: the files for llama.cpp. `is_tuned`: whether a run trained it.
    `memory`: of a teacher, the file in which a server's own name for it is kept between calls, since it may not change.
    """

    name: str
    folder: Path | None = None
    adapter: Path | None = None
    gguf: Path | None = None
    adapter_gguf: Path | None = None
    is_tuned: bool = False
    memory: Path | None = None


@dataclass(frozen=True)
class Work:
    """The rough size of the work: tokens per prompt, tokens per sample, samples per prompt, and prompts."""

    num_prompt: int
    num_new: int
    num_samples: int
    num_requests: int

    @property
    def num_tokens(self) -> int:
        """The tokens of all samples."""
        return self.num_requests * self.num_samples * self.num_new


class LocalSettings(Section):
    """The settings of a sampler that runs on this machine."""

    num_sequences: Count | None = Field(
        default=None, description="How many sequences to decode at once. If not set, the sampler chooses."
    )


@dataclass(frozen=True)
class EngineOptions:
    """How llama.cpp runs. The engine decides whatever is None."""

    base_gguf: str
    adapter_gguf: str | None = None
    n_threads: int | None = None
    n_seq_max: int | None = None  # sequences that live at once
    n_ctx_seq: int | None = None  # tokens of a prompt and its sample; None: as the requests need
    n_ctx: int | None = None  # tokens in the whole context; None: as the requests need and the memory allows
    cache_type: CacheType = "f16"
    kv_unified: bool | None = None
    flash_attention: bool | None = None
    overlap: bool | None = None  # two contexts, of which one decodes while tokens are picked for the other


@dataclass(frozen=True)
class EngineInfo:
    """What llama.cpp says once a model is loaded. `gpu`: name and memory of the GPUs that hold the model, empty on a
    processor. `build`: its version and what it was built for."""

    n_vocab: int
    n_ctx_train: int
    gpu: str
    build: str
