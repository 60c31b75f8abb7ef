"""Random numbers by counter: each depends on (seed, problem, sample, position) only.

So raising the number of samples keeps those already there, a resumed run continues the same samples, and what else is
in a batch changes nothing. Method: splitmix64 (Steele, Lea, Flood 2014), whose n-th output is a hash of
start + n * gamma; each sample starts at a 64-bit hash of its own.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_SHIFT_30, _SHIFT_27, _SHIFT_31, _SHIFT_11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)


def sample_key(seed: int, problem_id: str, sample_index: int) -> int:
    """Return the 64-bit start of a sample's stream."""
    text = f"{seed}|{sample_index}|{problem_id}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def uniforms(keys: NDArray[np.uint64], positions: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return one number in [0, 1) for each (key, position), both (n,): 53 random bits each."""
    state = keys + _GAMMA * (positions.astype(np.uint64) + np.uint64(1))
    state = (state ^ (state >> _SHIFT_30)) * _MIX_1
    state = (state ^ (state >> _SHIFT_27)) * _MIX_2
    state ^= state >> _SHIFT_31
    return np.asarray((state >> _SHIFT_11) * 2.0**-53)
