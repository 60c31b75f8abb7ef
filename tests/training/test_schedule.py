"""The order of the examples: which make a step, and which process takes them."""

from __future__ import annotations

from itertools import chain

from qrft.training import schedule


def test_an_epoch_takes_every_example_once_in_batches_the_last_one_smaller() -> None:
    steps = schedule.steps(22, 4, 2, seed=0)
    assert [len(step) for step in steps] == [4, 4, 4, 4, 4, 2] * 2
    first, second = (list(chain.from_iterable(steps[i : i + 6])) for i in (0, 6))
    assert sorted(first) == sorted(second) == list(range(22))
    assert first != second != list(range(22))


def test_the_order_follows_from_the_seed_and_epochs_may_be_fractions() -> None:
    steps = schedule.steps(22, 4, 3, seed=1)
    assert steps == schedule.steps(22, 4, 3, seed=1) != schedule.steps(22, 4, 3, seed=2)
    assert schedule.steps(22, 4, 1.5, seed=1) == steps[:9]
    assert len(schedule.steps(30, 1, 0.1, seed=1)) == 3  # 0.1 * 30 is a little more than 3 in floating point
    assert len(schedule.steps(22, 4, 0.001, seed=1)) == 1


def test_processes_share_a_step_in_equal_parts() -> None:
    lengths = [100, 10, 20, 30, 40, 5]
    parts = schedule.shares(range(6), lengths, 2)
    assert sorted(parts[0] + parts[1]) == list(range(6))
    assert [sum(lengths[i] for i in part) for part in parts] == [105, 100]
    assert schedule.shares([3], lengths, 2) == [[3], []]
