"""Which sample is which: models by number, indexes for those that have none, and no sample twice."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from qrft.data.samples.batches import Batch
from qrft.errors import DataError

_INDEX_BITS = 31


class Numbering:
    """Sees every batch in order. Keeps 8 bytes per sample whose index was given, to find duplicates."""

    def __init__(self, problem_ids: pa.Array) -> None:
        self.models: list[str] = []
        self._problem_ids = problem_ids
        self._codes: dict[str, int] = {}
        self._counts = np.zeros(0, np.int64)  # samples without an index so far, by model and problem
        self._given: list[npt.NDArray[np.int64]] = []
        self._places: list[tuple[Callable[[int], str], npt.NDArray[np.int64]]] = []

    def add(self, batch: Batch) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """Return the number of each row's model in `models`, and its sample_index: if none is given, it is counted."""
        models = self._model_codes(batch)
        pairs = models.astype(np.int64) * len(self._problem_ids) + batch.problem
        indexes = batch.sample_index.copy()
        self._remember(batch, pairs, indexes)
        lacking = np.flatnonzero(indexes < 0)
        if len(lacking):
            indexes[lacking] = self._count(pairs[lacking])
        return models, indexes.astype(np.int32)

    def _model_codes(self, batch: Batch) -> npt.NDArray[np.int32]:
        for name in batch.model.dictionary.to_pylist():
            if name not in self._codes:
                self._codes[name] = len(self.models)
                self.models.append(name)
        if len(self.models) * len(self._problem_ids) >= 1 << (63 - _INDEX_BITS):
            many = f"{len(self.models):,} different models"
            raise DataError(f"{batch.place(0)}: found {many}. Expected the name of a model under `model`.")
        codes = np.array([self._codes[name] for name in batch.model.dictionary.to_pylist()], np.int32)
        numbers: npt.NDArray[np.int32] = codes[batch.model.indices.to_numpy()]
        return numbers

    def _count(self, pairs: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Count the rows of the same pair that came before each."""
        if lacking := len(self.models) * len(self._problem_ids) - len(self._counts):
            self._counts = np.concatenate([self._counts, np.zeros(lacking, np.int64)])
        order = np.argsort(pairs, kind="stable")
        groups, starts, sizes = np.unique(pairs[order], return_index=True, return_counts=True)
        ranks = np.empty(len(pairs), np.int64)
        ranks[order] = np.arange(len(pairs)) - np.repeat(starts, sizes)
        ranks += self._counts[pairs]
        self._counts[groups] += sizes
        return ranks

    def _remember(self, batch: Batch, pairs: npt.NDArray[np.int64], indexes: npt.NDArray[np.int64]) -> None:
        is_given = indexes >= 0
        self._given.append(pairs[is_given] << _INDEX_BITS | indexes[is_given])
        self._places.append((batch.place, np.zeros(0, np.int64) if is_given.all() else np.flatnonzero(is_given)))

    def check(self) -> None:
        """Raise DataError when a sample of a problem and model occurs twice."""
        whole = np.sort(np.concatenate([*self._given, np.zeros(0, np.int64)]))
        twice = whole[1:][whole[1:] == whole[:-1]]
        if len(twice):
            pair, index = divmod(int(twice[0]), 1 << _INDEX_BITS)
            model, problem = divmod(pair, len(self._problem_ids))
            first, second = self._where(int(twice[0]))
            raise DataError(
                f"{second}: problem_id {self._problem_ids[problem].as_py()!r}, sample_index {index}, model "
                f"{self.models[model]!r} is already at {first} ({len(twice):,} such rows). Name each file once; if the "
                "files come from several runs, give their rows different values of `model`."
            )

    def _where(self, code: int) -> list[str]:
        """Return the places of the first two rows with this code."""
        places: list[str] = []
        for given, (place, rows) in zip(self._given, self._places, strict=True):
            places.extend(place(int(rows[i]) if len(rows) else int(i)) for i in np.flatnonzero(given == code))
        return places[:2]
