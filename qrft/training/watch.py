"""Measure a training while it runs, and report its progress."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence

from qrft.errors import ModelError
from qrft.progress import Progress


class NotFinite(ModelError):
    """The loss or its gradient is no longer a finite number. `step` counts from 1, `indices` are of its examples."""

    def __init__(self, what: str, step: int, indices: Sequence[int], last_loss: float | None) -> None:
        self.what, self.step, self.indices, self.last_loss = what, step, list(indices), last_loss
        super().__init__(self.wording(f"examples {', '.join(map(str, indices))}"))

    def wording(self, batch: str) -> str:
        """Write the message, with the caller's own words for the examples of the step."""
        before = "there was none before" if self.last_loss is None else f"the last finite one was {self.last_loss:.4g}"
        return (
            f"The {self.what} of step {self.step} is not a finite number ({before}). The step's batch: {batch}. "
            "Lower train.learning_rate or raise train.warmup_ratio; at the first step, look at these examples."
        )


def peak_memory() -> int:
    """Return the most bytes that torch held on the GPU since `reset_peak_memory`, or the process ever held."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    kilo = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilo


def reset_peak_memory() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


class Watch:
    """A count of the tokens of the steps, reported with the loss. `step_tokens`: the real tokens of each step."""

    def __init__(self, progress: Progress, step_tokens: Sequence[int]) -> None:
        self.progress, self.step_tokens = progress, step_tokens
        self.last_loss: float | None = None
        self.seconds = 0.0  # of the steps before this process went on with them
        self.num_computed = 0  # tokens of the rows that went through the model here, padding with them
        self.num_real = 0
        self._first = 0
        self._start = time.monotonic()

    def begin(self, first: int) -> None:
        """Start the clock. first: how many steps are done already."""
        self._first, self._start = first, time.monotonic()

    def elapsed(self) -> float:
        """Return the seconds that the steps took, over all the processes that did them one after the other."""
        return self.seconds + time.monotonic() - self._start

    def padding_share(self) -> float:
        return 1 - self.num_real / self.num_computed if self.num_computed else 0.0

    def tokens_per_second(self, done: int) -> float:
        """Return the real tokens per second of this process's steps so far."""
        return sum(self.step_tokens[self._first : done]) / max(1e-9, time.monotonic() - self._start)

    def report(self, done: int) -> None:
        note = (
            f"loss {self.last_loss:#.3g}, {self.tokens_per_second(done):,.0f} tokens/s, "
            f"{self.padding_share():.0%} padding, {peak_memory() / 2**30:.1f} GiB"
        )
        self.progress(done, len(self.step_tokens), note)
