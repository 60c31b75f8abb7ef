"""How fast a process samples with so many sequences at once, in this cache or that: tried out, in a limited time."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from qrft.errors import SamplerError
from qrft.sampling.api import Request, SamplingParams, Work
from qrft.sampling.backends.llama_cpp.process import LlamaProcess

log = logging.getLogger(__name__)

_FIRST, _MORE, _FEWER = 32, (64, 128, 240), 16  # sequences; 240: as many as two contexts in turns hold
_WARM_UP, _STEPS, _FEWEST_STEPS = 4, 16, 6  # steps before those that count, those that count, and how few may
_SHARE, _LEAST_SECONDS = 0.05, 30.0  # of the time that the work takes, and what may always be taken
_ABSURD = 10  # times what the other speeds lead one to expect
_PROMPT_TOKENS = 256  # tokens of prompts that go through the layers in a step, at least


class Trial(NamedTuple):
    """Sequences that live at once, and whether all share one cache."""

    live: int
    unified: bool

    def __str__(self) -> str:
        return f"{self.live} {'unified' if self.unified else 'split'}"

    def in_words(self) -> str:
        return f"{self.live} sequences at once in {'one cache' if self.unified else 'a cache of parts'}"


class Search:
    """Tries more and more sequences until they are no faster, or the time is up. `speeds`: in tokens per second."""

    def __init__(self, process: LlamaProcess, work: Work) -> None:
        self._process, self._work = process, work
        self._started, self._cost = time.monotonic(), 0.0  # the most seconds that a trial took for each sequence
        self.speeds: dict[Trial, float] = {}

    def run(self) -> None:
        caches = (True, False) if self._process.info.gpu else (False, True)
        for live in (_FIRST, *_MORE):
            for unified in caches:
                self._try(Trial(live, unified))
            if not self.speeds or self.best().live != live:
                break
        if self.speeds and self.best().live == _FIRST:
            for unified in caches:
                self._try(Trial(_FEWER, unified))

    def best(self) -> Trial:
        return max(self.speeds, key=lambda trial: self.speeds[trial])

    def speed(self, trial: Trial, **options: Any) -> float | None:
        """Return the tokens per second; None where too little time is left for it, or llama.cpp can't do it."""
        begun = time.monotonic()
        left = allowance(self._work, max(self.speeds.values(), default=None)) - (begun - self._started)
        if left <= self._cost * trial.live:
            return None
        self._process.configure(n_seq_max=trial.live, kv_unified=trial.unified, **options)
        try:
            if not self._cost:
                self._pace(2, left)  # reads the weights, starts a GPU
            speed = tokens_per_second(self._pace(trial.live, left))
        except SamplerError as error:
            log.info("Not %s: %s", trial.in_words(), str(error).splitlines()[0])
            self._process.start_again()
            return None
        self._cost = max(self._cost, (time.monotonic() - begun) / trial.live)
        return speed

    def _try(self, trial: Trial) -> None:
        for _ in range(2):  # what can't be is measured again, and then left out
            if (speed := self.speed(trial)) is None:
                return
            found = credible({**self.speeds, trial: speed})
            if trial in found:
                self.speeds = found
                log.info("%s: %s tokens/s", trial.in_words().capitalize(), f"{speed:,.0f}")
                return

    def _pace(self, live: int, seconds: float) -> list[tuple[float, int]]:
        """Measure samples that are half grown: each has its own first half, and the prompt where prompts are shared."""
        room = self._process.n_ctx_train - 1
        num_new = _WARM_UP + _STEPS + live * (self._work.num_new // 2 + self._work.num_prompt) // _PROMPT_TOKENS + 1
        num_new = min(num_new, room // 2)
        num_own = max(1, min(self._work.num_new // 2, (room - num_new) // 2))
        num_prompt = max(1, min(self._work.num_prompt, room - num_new - num_own))
        prompts = [self._tokens(i if self._work.num_samples == 1 else 0, num_prompt) for i in range(live)]
        requests = [Request(str(i), prompt + self._tokens(1 + i, num_own)) for i, prompt in enumerate(prompts)]
        return self._process.pace(requests, SamplingParams(max_new_tokens=num_new), _WARM_UP + _STEPS, seconds)

    def _tokens(self, start: int, count: int) -> list[int]:
        """Return some tokens: any will do but those of control, which come first."""
        return [3 + (start + 7 * i) % max(1, self._process.n_vocab - 3) for i in range(count)]


def is_small(work: Work) -> bool:
    """Tell whether the first trial alone would be more than 5% of the work, counted in tokens decoded."""
    prompts = _FIRST if work.num_samples == 1 else 1
    trial = _FIRST * (work.num_new // 2 + _WARM_UP + _STEPS) + prompts * work.num_prompt
    return trial > _SHARE * (work.num_tokens + work.num_requests * work.num_prompt)


def allowance(work: Work, speed: float | None) -> float:
    """Return the seconds that all trials together may take; the first, by which the speed is known, as it likes."""
    return math.inf if speed is None else max(_LEAST_SECONDS, _SHARE * work.num_tokens / speed)


def tokens_per_second(steps: Sequence[tuple[float, int]]) -> float | None:
    """Return the median speed of steps, each with its seconds and tokens; None where too few are left.

    The first steps do not count, as they start up what the later ones find started; nor does what can't be.
    """
    speeds = [tokens / seconds for seconds, tokens in steps[_WARM_UP:] if seconds > 0 and tokens > 0]
    return median(speeds) if len(speeds) >= _FEWEST_STEPS else None


def credible(speeds: Mapping[Trial, float]) -> dict[Trial, float]:
    """Leave out speeds that can't be: ten times what the others, were each of their sequences as fast, would give."""
    return {trial: speed for trial, speed in speeds.items() if _is_credible(trial, speed, speeds)}


def _is_credible(trial: Trial, speed: float, speeds: Mapping[Trial, float]) -> bool:
    others = {other: known for other, known in speeds.items() if other != trial}
    expected = [known * max(1.0, trial.live / other.live) for other, known in others.items()]
    return speed > 0 and (not expected or speed <= _ABSURD * median(expected))
