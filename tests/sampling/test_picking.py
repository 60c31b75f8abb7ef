"""Picking: transformers' distribution and kept tokens, streams that are streams.py's, rows that do not meet."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from helpers.distribution import chi_square, exact, filtered

from qrft.errors import SamplerError
from qrft.sampling.api import SamplingParams
from qrft.sampling.backends.picking import Picker, kept_tokens
from qrft.sampling.backends.streams import sample_key, uniforms

SETTINGS = [
    SamplingParams(temperature=1.0),
    SamplingParams(temperature=0.7),
    SamplingParams(temperature=1.3, top_k=20),
    SamplingParams(temperature=0.9, top_p=0.8),
    SamplingParams(temperature=0.7, min_p=0.02),
    SamplingParams(temperature=0.9, top_p=0.95, top_k=40),
    SamplingParams(temperature=1.1, top_p=0.97, top_k=200, min_p=0.01),
]


def keys_of(count: int, problem: str = "p") -> np.ndarray:
    return np.array([sample_key(0, problem, i) for i in range(count)], np.uint64)


def pick_from(
    logits: np.ndarray, params: SamplingParams, keys: np.ndarray | None = None
) -> tuple[list[int], list[float]]:
    keys = keys_of(len(logits)) if keys is None else keys
    picker = Picker(params, len(keys), logits.shape[1])
    tokens, logprobs = picker.pick(np.ascontiguousarray(logits), keys, np.zeros(len(keys), np.int64))
    return tokens.tolist(), logprobs.tolist()


# --------------------------------------------------------------------------------------------- distribution


def count_picks(logits: np.ndarray, params: SamplingParams, rows: int = 1000, rounds: int = 200) -> np.ndarray:
    picker = Picker(params, rows, len(logits))
    keys, counts = keys_of(rows), np.zeros(len(logits))
    for position in range(rounds):
        tokens, _ = picker.pick(logits[None], keys, np.full(rows, position), np.zeros(rows, np.int32))
        counts += np.bincount(tokens, minlength=len(logits))
    return counts


@pytest.mark.parametrize("params", SETTINGS, ids=str)
def test_200_000_picks_follow_the_exact_distribution(params: SamplingParams) -> None:
    """The same test sees a temperature that is wrong by 2%: by other chances, or by a token that should not be kept."""
    logits = np.random.default_rng(0).normal(0, 2, 600).astype(np.float32)
    counts = count_picks(logits, params)
    probabilities = exact(logits, params)
    assert (counts[probabilities == 0] == 0).all()
    assert abs(chi_square(counts, probabilities)) < 3.5
    off = count_picks(logits, params.model_copy(update={"temperature": params.temperature * 1.02}))
    assert (off[probabilities == 0] > 0).any() or chi_square(off, probabilities) > 3.5


def test_a_pick_is_the_inverse_of_the_distribution_at_the_streams_number() -> None:
    """One number, from streams.py, decides: the first token up to which the sum of probabilities is more than it."""
    logits = np.random.default_rng(1).normal(0, 2, (2000, 700)).astype(np.float32)
    keys, positions = keys_of(2000), np.arange(2000) * 7
    for params in SETTINGS:
        picker = Picker(params, 2000, 700)
        tokens, _ = picker.pick(logits, keys, positions)
        numbers = uniforms(keys, positions)
        for row in range(0, 2000, 9):
            cumulative = exact(logits[row], params).cumsum()
            assert cumulative[tokens[row]] > numbers[row] - 1e-6
            assert tokens[row] == 0 or cumulative[tokens[row] - 1] <= numbers[row] + 1e-6


def test_logprobs_are_those_at_temperature_1_without_filters() -> None:
    logits = np.random.default_rng(2).normal(0, 4, (50, 5000)).astype(np.float32)
    wanted = logits - np.log(np.exp(logits.astype(np.float64)).sum(axis=1, keepdims=True))
    for params in (*SETTINGS, SamplingParams(temperature=0)):
        tokens, logprobs = pick_from(logits, params)
        assert np.abs(np.array(logprobs) - wanted[np.arange(50), tokens]).max() < 2e-6


def test_greedy_takes_the_first_of_the_most_likely() -> None:
    logits = np.random.default_rng(3).integers(-9, 9, (200, 3000)).astype(np.float32)
    assert pick_from(logits, SamplingParams(temperature=0))[0] == logits.argmax(axis=1).tolist()


# ------------------------------------------------------------------------------------------------ kept tokens


def adversarial_rows() -> Iterator[np.ndarray]:
    """Ties, masked tokens, one that outweighs all, equal ones, neighbours a rounding apart, extreme sizes."""
    rng = np.random.default_rng(4)
    for size in (1, 2, 5, 16, 17, 64, 65, 300, 1000, 4097):
        normal = rng.normal(0, 3, size).astype(np.float32)
        yield normal
        yield normal + 100
        yield np.round(normal)
        yield np.where(rng.random(size) < 0.5, normal, normal.max())
        yield np.where(np.arange(size) == rng.integers(size), np.float32(0), -np.inf).astype(np.float32)
        yield np.where((rng.random(size) < 0.7) & (normal < normal.max()), -np.inf, normal).astype(np.float32)
        yield np.where(np.arange(size) == rng.integers(size), np.float32(60), normal)
        yield np.zeros(size, np.float32)
        yield np.full(size, -7.25, np.float32)
        yield np.float32(10) + rng.integers(0, 4, size).astype(np.float32) * np.float32(2**-20)
        yield normal * np.float32(1e-6)
        yield normal * np.float32(1e4)
        yield (rng.gumbel(0, 1, size) * 2).astype(np.float32)


FILTERS = [
    {"top_k": 1},
    {"top_k": 7},
    {"top_k": 50},
    {"top_p": 0.95},
    {"top_p": 0.5},
    {"top_p": 0.05},
    {"top_p": 0.999},
    {"min_p": 0.05},
    {"min_p": 1.0},
    {"min_p": 0.001},
    {"top_k": 50, "top_p": 0.9},
    {"top_p": 0.9, "min_p": 0.1},
    {"top_k": 20, "top_p": 0.95, "min_p": 0.02},
]


def stray_tokens(logits: np.ndarray, params: SamplingParams) -> int:
    """How many tokens are kept that transformers drops, or the other way round.

    Where top_p takes some of many equal tokens, torch.sort, which is not stable, decides which: their number counts.
    Fails when the strays are more than a rounding of sums and quotients can make.
    """
    has_chance = np.isfinite(logits)
    wanted = (filtered(logits, params) > -np.inf).numpy() & has_chance
    found = kept_tokens(logits, params)
    values, place = np.unique(logits / np.float32(params.temperature), return_inverse=True)
    strays = np.abs(np.bincount(place, wanted, len(values)) - np.bincount(place, found, len(values)))
    near = np.bincount(place, on_the_edge(logits, params), len(values))
    assert not (strays > near).any(), (logits, params)
    return int(strays.sum())


def on_the_edge(logits: np.ndarray, params: SamplingParams) -> np.ndarray:
    """The tokens for which a rounding of sums or quotients decides whether transformers keeps them."""
    import torch

    scores = torch.tensor(logits[None]) / params.temperature
    if params.top_k:
        scores = filtered(logits, params.model_copy(update={"top_p": 1.0, "min_p": 0.0}))[None]
    ordered, order = torch.sort(scores.double(), descending=False)
    cumulative = ordered.softmax(-1).cumsum(-1)[0].numpy()
    edge = np.zeros(len(logits), np.bool_)
    if params.top_p < 1:
        edge[order[0].numpy()] = np.abs(cumulative - (1 - params.top_p)) < 1e-6
    if params.min_p > 0:
        ratios = torch.exp(scores[0] - scores.max()).double().numpy()
        edge |= np.abs(ratios / params.min_p - 1) < 1e-5
    return edge


@pytest.mark.parametrize("temperature", [1.0, 0.7, 1.3])
def test_the_kept_tokens_are_transformers(temperature: float) -> None:
    """Token for token, but where a rounding decides: these are counted, and few."""
    tokens = strays = 0
    for logits in adversarial_rows():
        for settings in FILTERS:
            params = SamplingParams(temperature=temperature, **settings)  # type: ignore[arg-type]
            tokens, strays = tokens + len(logits), strays + stray_tokens(logits, params)
    assert strays <= tokens * 1e-4, f"{strays} of {tokens}"


def test_the_kept_tokens_of_a_large_vocabulary() -> None:
    rng = np.random.default_rng(5)
    for logits in (rng.normal(0, 1, 151_936), rng.normal(0, 4, 151_936), np.round(rng.normal(0, 2, 151_936), 1)):
        row = logits.astype(np.float32)
        for settings in ({"top_p": 0.95}, {"top_k": 40}, {"top_k": 5000, "top_p": 0.9, "min_p": 0.01}):
            params = SamplingParams(temperature=0.7, **settings)  # type: ignore[arg-type]
            assert stray_tokens(row, params) <= 3


def test_of_equal_tokens_top_p_keeps_the_last() -> None:
    logits = np.zeros(1000, np.float32)
    logits[::2] = 1
    kept = kept_tokens(logits, SamplingParams(temperature=1, top_p=0.5))
    assert kept.sum() == 342 and not kept[1::2].any()  # 342 * e is the first multiple above half of 500 * (1 + e)
    assert kept[-684::2].all()


def test_only_kept_tokens_are_picked() -> None:
    for number, logits in enumerate(adversarial_rows()):
        for settings in FILTERS[number % 3 :: 3]:
            params = SamplingParams(temperature=0.8, **settings)  # type: ignore[arg-type]
            tokens, _ = pick_from(np.tile(logits, (20, 1)), params)
            kept = kept_tokens(logits, params)
            assert kept[tokens].all()


# --------------------------------------------------------------------------------------------- independence


@pytest.mark.parametrize("params", SETTINGS, ids=str)
def test_a_row_depends_on_nothing_beside_it(params: SamplingParams) -> None:
    logits = np.random.default_rng(6).normal(0, 3, (64, 2001)).astype(np.float32)
    keys, positions = keys_of(64), np.arange(64)
    picker = Picker(params, 64, 2001)
    tokens, logprobs = (array.copy() for array in picker.pick(logits, keys, positions))
    for row in range(0, 64, 5):
        alone = picker.pick(logits[row : row + 1], keys[row : row + 1], positions[row : row + 1])
        assert (alone[0][0], alone[1][0]) == (tokens[row], logprobs[row])
    shuffled = np.random.default_rng(7).permutation(64)
    again = picker.pick(logits, keys[shuffled], positions[shuffled], shuffled)
    assert (again[0] == tokens[shuffled]).all() and (again[1] == logprobs[shuffled]).all()


def test_each_row_has_its_own_temperature() -> None:
    logits = np.random.default_rng(8).normal(0, 3, (60, 700)).astype(np.float32)
    keys, positions = keys_of(60), np.arange(60)
    mixed = SamplingParams(temperature=(0.3, 1.0, 2.0), top_p=0.9)
    temperatures = np.array([mixed.temperature_of(i) for i in range(60)])
    tokens, logprobs = Picker(mixed, 60, 700).pick(logits, keys, positions, temperatures=temperatures)
    for start, temperature in enumerate((0.3, 1.0, 2.0)):
        rows = slice(start, None, 3)
        picker = Picker(SamplingParams(temperature=temperature, top_p=0.9), 60, 700)
        alone = picker.pick(np.ascontiguousarray(logits[rows]), keys[rows], positions[rows])
        assert (alone[0] == tokens[rows]).all() and (alone[1] == logprobs[rows]).all()


@pytest.mark.parametrize("params", SETTINGS, ids=str)
def test_threads_share_rows_and_change_none(params: SamplingParams) -> None:
    """Rows wide enough that three threads are worth their start."""
    logits = np.random.default_rng(9).normal(0, 3, (64, 20_001)).astype(np.float32)
    keys, positions = keys_of(64), np.arange(64)
    tokens, logprobs = Picker(params, 64, 20_001).pick(logits, keys, positions)
    threaded = Picker(params, 64, 20_001, num_threads=3).pick(logits, keys, positions)
    assert (threaded[0] == tokens).all() and (threaded[1] == logprobs).all()


def test_logits_stay_as_they_are() -> None:
    logits = np.random.default_rng(8).normal(0, 3, (5, 900)).astype(np.float32)
    before = logits.copy()
    for params in SETTINGS:
        pick_from(logits, params)
    assert (logits == before).all()


# --------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf])
@pytest.mark.parametrize("place", [0, 17, 127, 128, 899])
def test_one_logit_that_is_not_finite_is_an_error(value: float, place: int) -> None:
    logits = np.zeros((3, 900), np.float32)
    logits[1, place] = value
    for params in (*SETTINGS, SamplingParams(temperature=0)):
        with pytest.raises(SamplerError, match=r"not finite.*set gguf\.quant f32"):
            pick_from(logits, params)
    with pytest.raises(SamplerError, match="not finite"):
        kept_tokens(logits[1], SETTINGS[0])


def test_nan_of_any_bits_is_seen() -> None:
    for bits in (0x7F800001, 0x7FFFFFFF, 0xFFFFFFFF, 0xFF800001, 0x7FC00123):
        logits = np.zeros((1, 100), np.float32)
        logits.view(np.uint32)[0, 50] = bits
        with pytest.raises(SamplerError, match="not finite"):
            pick_from(logits, SamplingParams())


def test_masked_tokens_are_never_picked() -> None:
    logits = np.full((500, 400), -np.inf, np.float32)
    logits[:, 123] = -1e30
    for params in (*SETTINGS, SamplingParams(temperature=0)):
        tokens, logprobs = pick_from(logits, params)
        assert set(tokens) == {123} and set(logprobs) == {0.0}
    logits[:] = -np.inf
    with pytest.raises(SamplerError, match="not finite"):
        pick_from(logits, SETTINGS[0])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"temperature": -0.1}, "temperature.constrained-float\n  Input should be greater than or equal to 0 "),
        ({"temperature": -1}, "temperature.constrained-float\n  Input should be greater than or equal to 0 "),
        ({"temperature": np.nan}, "temperature.constrained-float\n  Input should be a finite number "),
        ({"top_p": 0.0}, "top_p\n  Input should be greater than 0 "),
        ({"top_p": 0}, "top_p\n  Input should be greater than 0 "),
        ({"top_p": 1.1}, "top_p\n  Input should be less than or equal to 1 "),
        ({"top_k": -1}, "top_k\n  Input should be greater than or equal to 0 "),
        ({"min_p": -0.1}, "min_p\n  Input should be greater than or equal to 0 "),
        ({"min_p": 1.5}, "min_p\n  Input should be less than or equal to 1 "),
        ({"min_p": 2}, "min_p\n  Input should be less than or equal to 1 "),
        ({"min_p": np.nan}, "min_p\n  Input should be a finite number "),
        ({"max_new_tokens": 0}, "max_new_tokens\n  Input should be greater than or equal to 1 "),
        ({"stop": ("a", "")}, "stop.1\n  String should have at least 1 character "),
        ({"stop": "a"}, "stop\n  Input should be a valid tuple "),
    ],
    ids=str,
)
def test_params_that_can_not_be(settings: dict[str, Any], expected: str) -> None:
    """They can't even be made, so that no sampler needs to check them."""
    with pytest.raises(ValueError, match=f"validation errors? for SamplingParams\n{re.escape(expected)}"):
        SamplingParams(**settings)


def test_params_reach_a_worker_process() -> None:
    params = SamplingParams(temperature=0.5, top_k=3, stop=("Q:", "\n"), seed=2**32 - 1)
    assert pickle.loads(pickle.dumps(params)) == params


def test_arrays_of_the_wrong_shape_are_refused() -> None:
    picker = Picker(SamplingParams(), 2, 10)
    keys, positions = keys_of(2), np.zeros(2, np.int64)
    with pytest.raises(ValueError, match="float32 logits"):
        picker.pick(np.zeros((2, 11), np.float32), keys, positions)
    with pytest.raises(ValueError, match="float32 logits"):
        picker.pick(np.zeros((2, 10)), keys, positions)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="2 rows to pick and 1 rows of logits"):
        picker.pick(np.zeros((1, 10), np.float32), keys, positions)
    with pytest.raises(ValueError, match="expected rows below 1"):
        picker.pick(np.zeros((1, 10), np.float32), keys, positions, np.array([0, 1]))


@pytest.mark.parametrize("temperature", [1e-300, 1e-20, 1e-3, 1e3, 1e20, 1e300])
def test_extreme_temperatures(temperature: float) -> None:
    logits = np.random.default_rng(9).normal(0, 3, (300, 50)).astype(np.float32)
    logits[:, 7] = -np.inf
    for settings in ({}, {"top_p": 0.9}, {"top_k": 5}, {"min_p": 0.5}):
        tokens, _ = pick_from(logits, SamplingParams(temperature=temperature, **settings))  # type: ignore[arg-type]
        if temperature < 1e-2:
            assert np.mean(np.array(tokens) == logits.argmax(axis=1)) > 0.99
        elif not settings:
            assert len(set(tokens)) > 40 and 7 not in tokens
