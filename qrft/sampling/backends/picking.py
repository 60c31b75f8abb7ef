"""Pick a token for each row of a block of logits, in C (`csrc/pick/pick.c`).

It inverts the CDF: the row's random number is a share of its sum of weights, and the token on whose weight it falls is
picked. The filters are transformers' own, in its order; `docs/sampling.md` says how exactly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qrft.errors import SamplerError
from qrft.grading.columns import pointer
from qrft.grading.native import ffi, lib
from qrft.sampling.api import SamplingParams

Logits = NDArray[np.float32]
# Logits a thread must have to be worth its start: about 150 us of work against 50 to 100 us. Measured on two cores, two
# threads against one, temperature alone: 64 rows of 4,096 1.03 times, of 32,000 1.7, of 151,936 1.8; 4 of these 1.1.
PER_THREAD = 2**18


class Picker:
    """A picker of up to `max_rows` rows at a time, with one call to C and no new array: its results are views.

    `num_threads`: rows are shared among up to so many, fewer where there is little to do.
    """

    def __init__(self, params: SamplingParams, max_rows: int, num_vocab: int, num_threads: int = 1) -> None:
        self._num_threads = num_threads
        self._keys = np.zeros(max_rows, np.uint64)
        self._positions = np.zeros(max_rows, np.int64)
        self._rows = np.zeros(max_rows, np.int32)
        self._tokens = np.zeros(max_rows, np.int32)
        self._logprobs = np.zeros(max_rows, np.float64)
        self._temperatures = np.zeros(max_rows, np.float64)
        self._scratch = np.empty(lib.qrft_tokens_scratch(num_vocab, num_threads), np.uint8)
        streams = [pointer(self._keys, "uint64_t *"), pointer(self._positions, "int64_t *")]
        self._streams = ffi.new("qrft_streams *", streams)
        self._picking = _picking(params)
        self._row_temperatures = pointer(self._temperatures, "double *")
        self._logits = ffi.new("qrft_logits *", {"num_vocab": num_vocab})
        self._some_rows = pointer(self._rows, "int32_t *")
        self._out = (
            pointer(self._scratch, "void *"),
            pointer(self._tokens, "int32_t *"),
            pointer(self._logprobs, "double *"),
        )

    def pick(
        self,
        logits: Logits,
        keys: NDArray[np.uint64],
        positions: NDArray[np.integer],
        rows: NDArray[np.integer] | None = None,
        temperatures: NDArray[np.float64] | None = None,
    ) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """Pick the tokens number `positions` (n,) of the streams `keys` (n,) from `logits` (n, vocabulary).

        `rows` (n,): pick i is from logits[rows[i]]. `temperatures` (n,): of each pick; None for the parameters' first.
        Returns views, overwritten by the next call: the tokens (n,), and
        their natural-log probabilities (n,) at temperature 1 without filters. Raises SamplerError when logits are NaN,
        +inf, or -inf for all tokens.
        """
        count = len(keys)
        self._check_shapes(logits, count, rows)
        self._keys[:count] = keys
        self._positions[:count] = positions
        if temperatures is not None:
            self._temperatures[:count] = temperatures
        if rows is not None:
            self._rows[:count] = rows
        self._logits.values = ffi.cast("float *", logits.ctypes.data)
        self._logits.rows = ffi.NULL if rows is None else self._some_rows
        self._logits.num_rows = count
        self._picking.temperatures = ffi.NULL if temperatures is None else self._row_temperatures
        num_threads = max(1, min(self._num_threads, count * self._logits.num_vocab // PER_THREAD))
        if lib.qrft_tokens_pick(self._logits, self._picking, self._streams, num_threads, *self._out):
            raise SamplerError(
                "the model returned logits that are not finite. Its weights are broken, or overflow in f16: "
                "set gguf.quant f32, or repair the weights."
            )
        return self._tokens[:count], self._logprobs[:count]

    def _check_shapes(self, logits: Logits, count: int, rows: NDArray[np.integer] | None) -> None:
        num_vocab = self._logits.num_vocab
        if logits.dtype != np.float32 or not logits.flags.c_contiguous or logits.shape[1:] != (num_vocab,):
            raise ValueError(f"expected C-contiguous float32 logits (n, {num_vocab}), found {logits.shape}")
        if count > len(self._keys) or (rows is None and count > len(logits)):
            raise ValueError(
                f"found {count} rows to pick and {len(logits)} rows of logits, with room for {len(self._keys)}"
            )
        if rows is not None and count and not (rows.min() >= 0 and rows.max() < len(logits)):
            raise ValueError(f"expected rows below {len(logits)}, found {rows.min()} to {rows.max()}")


def _picking(params: SamplingParams) -> Any:
    return ffi.new("qrft_picking *", [params.temperature_of(0), params.top_k, params.top_p, params.min_p, ffi.NULL])


def kept_tokens(logits: NDArray[np.float32], params: SamplingParams) -> NDArray[np.bool_]:
    """Return which tokens of one row (vocabulary,) the filters keep. Raises SamplerError as Picker does."""
    logits = np.ascontiguousarray(logits, np.float32)
    kept = np.zeros(len(logits), np.bool_)
    scratch = np.empty(lib.qrft_tokens_scratch(len(logits), 1), np.uint8)
    values, out = pointer(logits, "float *"), pointer(kept, "uint8_t *")
    if lib.qrft_tokens_keep(values, len(logits), _picking(params), pointer(scratch, "void *"), out):
        raise SamplerError("the logits are not finite: NaN, +inf, or -inf for all tokens.")
    return kept
