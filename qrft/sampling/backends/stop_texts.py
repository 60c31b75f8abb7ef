"""Find a stop text in the bytes of a sample's last tokens, so that one that spans several tokens is found too."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class StopTexts:
    """The stop texts of a call. `pieces`: the bytes of every token of the vocabulary."""

    def __init__(self, stop: Sequence[str], pieces: Sequence[bytes]) -> None:
        self._stop, self._pieces = [text.encode() for text in stop], pieces
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
        return any(stop in text for stop in self._stop)


def first_stop(text: str, stop: tuple[str, ...]) -> int:
    """Return where the first of the stop texts begins in `text`; -1 where there is none."""
    return min((start for start in map(text.find, stop) if start >= 0), default=-1)
