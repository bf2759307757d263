from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import curve_fit

from fastslow.measure.scaling import SigmoidFit, Unidentified, fit

Array = NDArray[np.float64]


def sigmoid(c: Array, r0: float, a: float, midpoint: float, exponent: float) -> Array:
    with np.errstate(divide="ignore"):
        return r0 + (a - r0) / (1 + (midpoint / c) ** exponent)


def curve(
    *truth: float, points: int = 25, last: float = 1e4, noise: float = 0.0, seed: int = 0
) -> tuple[Array, Array]:
    """A learning curve with R0, A, C_mid and B as given, evaluated ``points`` times after 0."""
    c = np.linspace(0, last, points + 1)
    rewards = sigmoid(c, *truth) + np.random.default_rng(seed).normal(0, noise, points + 1)
    return c, np.clip(rewards, 0, 1)


def identified(*arguments: Any, **options: Any) -> SigmoidFit:
    found = fit(*arguments, **options)
    assert isinstance(found, SigmoidFit), found
    return found


def refusal(*arguments: Any, **options: Any) -> str:
    found = fit(*arguments, **options)
    assert isinstance(found, Unidentified), found
    return found.reason


@pytest.mark.parametrize(
    "truth", [(0.05, 0.6, 1500, 2.0), (0.2, 0.45, 3000, 4.0), (0.0, 0.95, 800, 1.3)]
)
def test_known_parameters_come_back_without_noise(truth: tuple[float, ...]) -> None:
    c, rewards = curve(*truth)
    found = identified(c, rewards)
    assert found.r0 == truth[0]
    assert found.asymptote.value == pytest.approx(truth[1], abs=1e-3)
    assert found.midpoint == pytest.approx(truth[2], rel=0.01)
    assert found.exponent == pytest.approx(truth[3], rel=0.01)
    assert found.residual < 1e-4
    assert found.predict(c) == pytest.approx(rewards, abs=1e-3)
    assert found.predict(0) == truth[0]


def test_the_interval_covers_the_asymptote_over_seeds() -> None:
    truth = (0.05, 0.6, 1500, 2.0)
    fits = [fit(*curve(*truth, noise=0.02, seed=n), seed=n, resamples=200) for n in range(60)]
    found = [f.asymptote for f in fits if isinstance(f, SigmoidFit)]
    assert len(found) >= 58
    assert sum(a.low <= 0.6 <= a.high for a in found) / len(found) >= 0.85
    assert np.median([a.value for a in found]) == pytest.approx(0.6, abs=0.02)
    assert np.median([a.high - a.low for a in found]) < 0.2


def test_it_finds_the_minimum_that_the_published_procedure_looks_for() -> None:
    c, rewards = curve(0.1, 0.55, 2500, 1.8, noise=0.02, seed=3)
    x, y, r0 = c[c > 1000], rewards[c > 1000], rewards[0]
    errors = {}
    for a in np.linspace(0.45, 0.65, 11):
        for midpoint in np.linspace(1500, 4000, 11):

            def shape(x: Array, b: float, a: float = a, midpoint: float = midpoint) -> Array:
                return sigmoid(x, r0, a, midpoint, b)

            (b,), _ = curve_fit(shape, x, y, p0=[1.0], bounds=(0.25, 16))
            errors[a, midpoint] = np.sum((shape(x, b) - y) ** 2)
    best = min(errors, key=errors.__getitem__)
    found = identified(c, rewards)
    assert np.sum((found.predict(x) - y) ** 2) <= errors[best]
    assert found.asymptote.value == pytest.approx(best[0], abs=0.02)
    assert found.midpoint == pytest.approx(best[1], abs=250)


def test_the_units_of_samples_do_not_matter() -> None:
    c, rewards = curve(0.05, 0.6, 1500, 2.0, noise=0.02)
    small, large = identified(c, rewards), identified(1e5 * c, rewards)
    assert large.asymptote.value == pytest.approx(small.asymptote.value, abs=1e-4)
    assert large.asymptote.high == pytest.approx(small.asymptote.high, abs=1e-4)
    assert large.midpoint == pytest.approx(1e5 * small.midpoint, rel=1e-3)


def test_the_first_part_of_the_run_is_left_out() -> None:
    c, rewards = curve(0.05, 0.6, 1500, 2.0)
    rewards[1:5] = 0.9  # up to 16 % of the samples
    assert identified(c, rewards, skip=0.16).asymptote.value == pytest.approx(0.6, abs=1e-3)
    spoilt = fit(c, rewards, skip=0.0)
    assert isinstance(spoilt, Unidentified) or spoilt.residual > 0.1
    assert identified(c, rewards, skip=0.16).asymptote.n == 21


def test_the_reward_before_training_may_be_given() -> None:
    c, rewards = curve(0.05, 0.6, 1500, 2.0)
    found = identified(c[1:], rewards[1:], r0=0.05)
    assert found.r0 == 0.05
    assert found.asymptote.value == pytest.approx(0.6, abs=1e-3)
    first = identified(c[1:], rewards[1:], skip=0.0)
    assert (first.r0, first.asymptote.n) == (rewards[1], 24)


def test_a_rise_that_was_over_at_once_still_has_an_asymptote() -> None:
    c, rewards = curve(0.2, 0.5, 10, 8.0, noise=0.02)
    found = identified(c, rewards)
    assert found.asymptote.low <= 0.5 <= found.asymptote.high
    assert found.asymptote.high - found.asymptote.low < 0.03  # a mean of 23 such rewards
    assert found.midpoint < c[1]


def test_more_noise_makes_a_wider_interval() -> None:
    widths = []
    for noise in (0.005, 0.02):
        a = identified(*curve(0.05, 0.6, 1500, 2.0, noise=noise, seed=1)).asymptote
        widths.append(a.high - a.low)
    assert widths[1] > 2 * widths[0] > 0


def test_equal_seeds_give_equal_fits() -> None:
    data = curve(0.05, 0.6, 1500, 2.0, noise=0.02)
    assert fit(*data) == fit(*data)
    assert fit(*data) != fit(*data, seed=1)


def test_a_fit_of_many_points_is_fast() -> None:
    data = curve(0.05, 0.6, 1500, 2.0, points=200, noise=0.05)
    started = time.process_time()
    fit(*data)
    assert time.process_time() - started < 5  # measured: less than 0.2


def test_few_points_are_refused() -> None:
    assert "5 rewards after the first 10%" in refusal(*curve(0.0, 0.6, 1e3, 2.0, points=5))
    assert "0 rewards" in refusal([], [])


def test_a_flat_curve_is_refused() -> None:
    curves = [curve(0.3, 0.3, 1e3, 1.0, noise=0.03, seed=n) for n in range(30)]
    fits = [fit(*some, seed=n, resamples=100) for n, some in enumerate(curves)]
    reasons = [found.reason for found in fits if isinstance(found, Unidentified)]
    assert len(reasons) >= 28
    assert sum("do not rise" in reason for reason in reasons) >= 22


def test_flat_falling_and_dead_curves_do_not_rise() -> None:
    c = np.linspace(0, 1e4, 20)
    assert "do not rise" in refusal(c, np.full(20, 0.3))
    assert "do not rise" in refusal(c, np.zeros(20))  # RL without a single success
    assert "do not rise: from 0.500" in refusal(c, 0.5 - c / 3e4)


def test_samples_that_were_not_counted_are_refused() -> None:
    c, rewards = curve(0.05, 0.6, 1500, 2.0)
    for unknown in (np.nan, np.inf):
        assert "not counted" in refusal([*c[:-1], unknown], rewards)


@pytest.mark.parametrize("place", [0, 7, -1])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_rewards_that_are_not_finite_are_refused(place: int, value: float) -> None:
    c, rewards = curve(0.05, 0.6, 1500, 2.0)
    rewards[place] = value
    assert "not finite: 1 of 26" in refusal(c, rewards)


def test_a_curve_that_starts_at_the_top_is_refused() -> None:
    assert "1.000, is the highest possible" in refusal(np.arange(20), np.ones(20))


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.03])
def test_a_curve_that_has_not_bent_is_refused(noise: float) -> None:
    refusal(*curve(0.0, 0.8, 3e4, 2.0, noise=noise))


def test_the_reason_says_how_far_the_curve_came() -> None:
    reason = refusal(*curve(0.0, 0.8, 3e4, 2.0))
    assert "has not bent yet" in reason
    assert "3e+04 samples, and it ends after 1e+04" in reason
    assert "1.5e+04 samples, and it ends" in refusal(*curve(0.0, 0.8, 1.5e4, 2.0))


def test_a_straight_line_has_not_bent() -> None:
    c = np.linspace(0, 1e4, 26)
    assert "a straight line explains it as well" in refusal(c, 0.05 + 0.55 * c / 1e4)


def test_a_noisy_straight_line_seldom_seems_to_bend() -> None:
    c = np.linspace(0, 1e4, 26)
    noise = np.random.default_rng(0).normal(0, 0.03, (40, 26))
    fits = [fit(c, 0.05 + 0.55 * c / 1e4 + some, resamples=100) for some in noise]
    reasons = [found.reason for found in fits if isinstance(found, Unidentified)]
    assert len(reasons) >= 35
    assert sum("a straight line explains it as well" in reason for reason in reasons) >= 25


def test_growth_without_a_bound_is_bounded_by_the_highest_reward_alone() -> None:
    c = np.linspace(0, 1e4, 26)
    assert "only the highest possible reward" in refusal(c, 0.05 + 0.22 * np.log1p(c / 300))


def test_a_task_that_is_solved_is_no_matter_of_doubt() -> None:
    found = identified(*curve(0.1, 1.0, 800, 3.0, noise=0.01))
    assert found.asymptote.value == pytest.approx(1.0, abs=0.02)


def test_an_interval_wider_than_the_rise_is_refused() -> None:
    fits = [fit(*curve(0.5, 0.75, 5e3, 2.0, noise=0.02, seed=n), seed=n) for n in range(8)]
    reasons = [found.reason for found in fits if isinstance(found, Unidentified)]
    assert any("may lie anywhere from" in reason for reason in reasons)


@pytest.mark.parametrize(
    ("samples", "rewards"), [([1, 2], [0.1]), ([2, 1], [0.1, 0.2]), ([[1, 2]], [[0.1, 0.2]])]
)
def test_what_is_no_curve_is_refused(samples: Any, rewards: Any) -> None:
    with pytest.raises(ValueError, match="samples that rise"):
        fit(samples, rewards)
