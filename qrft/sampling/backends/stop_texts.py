"""Find a stop text in the bytes of a sample's last tokens, so that one that spans several tokens is found too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import AnyStr

import numpy as np
from numpy.typing import NDArray

from qrft.grading.traces import Traces, stretches


class StopTexts:
    """The stop texts of a call, which count outside traces. `pieces`: the bytes of every token of the vocabulary."""

    def __init__(self, stop: Sequence[str], pieces: Sequence[bytes], traces: Traces | None = None) -> None:
        self._stop, self._pieces, self._traces = [text.encode() for text in stop], pieces, traces
        self._longest = max(map(len, self._stop))
        ends = {text[-1:] for text in self._stop}
        # (vocabulary,) whether a token can complete one: the others, nearly all, need no look at the text.
        self.can_complete: NDArray[np.bool_] = np.array([any(end in piece for end in ends) for piece in pieces])

    def is_completed(self, tokens: NDArray[np.int32]) -> bool:
        """Return whether the last of a sample's tokens (n,) completes a stop text."""
        text, added = b"", len(self._pieces[tokens[-1]])
        for token in reversed(tokens.tolist()):
            text = self._pieces[token] + text
            if len(text) >= self._longest - 1 + added:
                break
        if not any(stop in text for stop in self._stop):
            return False
        return self._traces is None or first_stop(self._whole(tokens), self._stop, self._traces) >= 0

    def _whole(self, tokens: NDArray[np.int32]) -> bytes:
        return b"".join(self._pieces[token] for token in tokens.tolist())


def first_stop(text: AnyStr, stop: Sequence[AnyStr], traces: Traces | None = None) -> int:
    """Return where the first of the stop texts begins in `text`, outside traces; -1 where there is none."""
    if not any(word in text for word in stop):
        return -1
    for span in stretches(text, traces).spans:
        starts = [start for word in stop if (start := text.find(word, *span)) >= 0]
        if starts:
            return min(starts)
    return -1
