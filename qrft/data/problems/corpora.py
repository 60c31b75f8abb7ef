"""What the bases of the tiny worlds read in pre-training, by the name of the world's problem set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from qrft.data.problems import tiny_corpus, tiny_paths_corpus


class Corpus(Protocol):
    """A module with endless texts of three kinds, or of a fixed number of them."""

    def documents(self, seed: int) -> Iterator[str]:
        """Yield what a base is trained on."""

    def solutions(self, seed: int) -> Iterator[str]:
        """Yield worked solutions in the taught form, which only the tokenizer sees."""

    def held_out(self) -> list[str]:
        """Return documents that no base is trained on."""


BY_NAME: dict[str, Corpus] = {"tiny-math": tiny_corpus, "tiny-paths": tiny_paths_corpus}
