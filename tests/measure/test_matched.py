from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastslow.measure.matched import Matched, at_reward, match


def test_between_two_evaluations_it_is_a_straight_line() -> None:
    assert at_reward([0.0, 0.2, 0.6], [0, 10, 30], 0.3) == pytest.approx(15)


def test_an_evaluation_is_met_exactly() -> None:
    assert at_reward([0.0, 0.2, 0.6], [0, 10, 30], 0.2) == 10
    assert at_reward([0.0, 0.2, 0.6], [0, 10, 30], 0.6) == 30


def test_the_first_crossing_counts_whatever_follows() -> None:
    assert at_reward([0.0, 0.5, 0.1, 0.5], [0, 10, 20, 30], 0.5) == 10


def test_a_dip_does_not_lower_what_was_reached() -> None:
    # From 0.4, the best so far, to 0.8: half of the way from 20 to 30 and not 5/6 of it.
    assert at_reward([0.0, 0.4, -0.2, 0.8], [0, 10, 20, 30], 0.6) == pytest.approx(25)


def test_a_run_that_begins_above_or_never_arrives() -> None:
    assert at_reward([0.5, 0.6], [7, 8], 0.4) == 7
    assert at_reward([0.5, 0.6], [7, 8], 0.7) is None
    assert at_reward([], [], 0.1) is None


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0, 1), st.floats(0, 1))
def test_higher_rewards_come_later(rewards: list[float], a: float, b: float) -> None:
    places = list(range(len(rewards)))
    first, second = (at_reward(rewards, places, level) for level in sorted((a, b)))
    assert first is not None or second is None
    if first is not None and second is not None:
        assert 0 <= first <= second <= places[-1]


def test_a_run_that_drifts_a_third_as_much_at_every_reward() -> None:
    slow = [(0.0, 0.0), (0.3, 0.03), (0.6, 0.10), (0.9, 0.2)]
    fast = [(reward, 3 * drift) for reward, drift in slow[:3]]
    found = match(slow, fast, count=6)
    assert found is not None
    assert found.levels == pytest.approx((0.1, 0.2, 0.3, 0.4, 0.5, 0.6))  # up to the lower peak
    assert found.ratios == pytest.approx((1 / 3,) * 6)
    assert found.values[2] == pytest.approx(0.03)
    assert found.others[2] == pytest.approx(0.09)


def test_levels_start_above_the_better_start() -> None:
    found = match([(0.2, 0.0), (0.6, 0.4)], [(0.4, 0.1), (0.6, 0.2)], count=2)
    assert found is not None
    assert found.levels == pytest.approx((0.5, 0.6))
    assert found.ratios == pytest.approx((2.0, 2.0))


def test_the_lowest_ratio_and_that_at_the_top() -> None:
    found = Matched(levels=(0.1, 0.2, 0.3), values=(2, 1, 3), others=(4, 4, 4))
    assert (found.lowest, found.at_highest) == (0.25, 0.75)


def test_no_reward_in_common() -> None:
    flat, rising = [(0.1, 0.0), (0.1, 0.5)], [(0.1, 0.0), (0.5, 0.5)]
    assert match(flat, rising) is None
    assert match(rising, [(0.6, 0.1), (0.9, 0.2)]) is None


def test_levels_reached_without_drift_have_no_ratio() -> None:
    still = [(0.0, 0.0), (0.5, 0.0), (1.0, 0.5)]
    found = match([(0.0, 0.0), (1.0, 1.0)], still, count=4)
    assert found is not None
    assert found.levels == (0.75, 1.0)
    assert match(still, still[:2]) is None


def test_a_run_without_points_is_refused() -> None:
    with pytest.raises(ValueError, match="found none"):
        match([], [(0.1, 0.1)])


@given(st.floats(0.01, 1), st.integers(1, 30))
def test_the_lower_peak_is_always_a_level(peak: float, count: int) -> None:
    found = match([(0.0, 0.0), (peak, 0.1)], [(0.0, 0.0), (1.0, 0.2)], count)
    assert found is not None
    assert found.levels[-1] == peak
    assert len(found.levels) == count
