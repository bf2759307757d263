from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from fastslow.measure.intervals import Estimate, bootstrap, over_seeds


@pytest.mark.parametrize("statistic", [np.mean, np.std])
@pytest.mark.parametrize("level", [0.5, 0.95])
def test_it_is_the_percentile_interval_of_scipy(statistic: object, level: float) -> None:
    scores = np.random.default_rng(1).beta(0.5, 0.8, size=60)
    theirs = scipy.stats.bootstrap(
        (scores,), statistic, confidence_level=level, method="percentile", n_resamples=20_000, rng=2
    ).confidence_interval
    ours = bootstrap(scores, statistic, level=level, resamples=20_000)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.004)
    assert ours.value == statistic(scores)  # type: ignore[operator]


def test_it_covers_the_truth_as_often_as_it_says() -> None:
    draw = np.random.default_rng(0)
    covered = 0
    for number in range(400):
        found = bootstrap(draw.binomial(4, 0.3, size=64) / 4, resamples=500, seed=number)
        covered += found.low <= 0.3 <= found.high
    assert 0.92 <= covered / 400 <= 0.98


def test_it_depends_on_its_seed_alone() -> None:
    scores = np.random.default_rng(1).random(20)
    assert bootstrap(scores) == bootstrap(list(scores))
    assert bootstrap(scores) != bootstrap(scores, seed=1)


def test_one_problem_has_no_interval() -> None:
    found = bootstrap([0.5])
    assert (found.value, found.n) == (0.5, 1)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_equal_problems_have_an_interval_of_no_width() -> None:
    assert bootstrap([0.25] * 8) == Estimate(0.25, 0.25, 0.25, 8)


@pytest.mark.parametrize("samples", [[], [[0.0, 1.0]]])
def test_what_is_not_one_number_a_problem_is_refused(samples: list[float]) -> None:
    with pytest.raises(ValueError, match="one number a problem"):
        bootstrap(samples)


def test_three_seeds_are_worth_little() -> None:
    found = over_seeds([3.0, 1.0, 2.0])
    assert found.values == (3.0, 1.0, 2.0)
    assert found.estimate == Estimate(2.0, 1.0, 3.0, 3)  # the range: it cannot be wider
    assert found.confidence == 0.75
    assert over_seeds([1.0] * 5).confidence < 0.95
    assert over_seeds([1.0] * 6).confidence == 0.95


def test_the_confidence_over_seeds_is_not_overstated() -> None:
    seeds = np.random.default_rng(0).normal(size=(300, 3))
    estimates = [over_seeds(list(row)).estimate for row in seeds]
    covered = sum(e is not None and e.low <= 0 <= e.high for e in estimates)
    assert covered / 300 == pytest.approx(0.75, abs=0.06)


def test_a_statistic_over_seeds_may_be_chosen() -> None:
    found = over_seeds([1.0, 2.0, 9.0], np.median).estimate
    assert found is not None
    assert found.value == 2.0


def test_a_seed_without_a_value_is_not_averaged_away() -> None:
    found = over_seeds([3.0, None, 2.0])
    assert found.estimate is None
    assert found.values == (3.0, None, 2.0)


def test_one_seed_decides_nothing() -> None:
    found = over_seeds([3.0])
    assert found.confidence == 0
    assert found.estimate is not None
    assert math.isnan(found.estimate.low)
