from __future__ import annotations

from itertools import combinations
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastslow.measure.accuracy import mean_at_k, pass_at_k, running_max
from fastslow.measure.intervals import bootstrap

SCORES = st.lists(
    st.lists(st.sampled_from([0.0, 0.5, 0.99, 1.0]), min_size=3, max_size=7),
    min_size=1,
    max_size=4,
)


@given(SCORES, st.integers(1, 3))
def test_pass_at_k_is_the_share_of_subsets_with_a_correct_one(
    scores: list[list[float]], k: int
) -> None:
    shares = [fmean(1.0 in subset for subset in combinations(some, k)) for some in scores]
    assert pass_at_k(scores, k).value == pytest.approx(fmean(shares))


@given(SCORES)
def test_mean_at_k_weighs_every_problem_the_same(scores: list[list[float]]) -> None:
    found = mean_at_k(scores)
    assert found.value == pytest.approx(fmean(map(fmean, scores)))
    assert found.n == len(scores)


def test_intervals_are_over_problems_not_completions() -> None:
    scores = [[1.0, 1.0, 0.0, 0.0], [0.0] * 4, [1.0, 0.0, 0.0, 0.0]]
    assert mean_at_k(scores) == bootstrap([0.5, 0.0, 0.25])
    assert pass_at_k(scores, 4) == bootstrap([1.0, 0.0, 1.0])


def test_partial_credit_is_not_correct() -> None:
    assert pass_at_k([[0.99, 0.5]], 2).value == 0
    assert mean_at_k([[0.99, 0.5]]).value == pytest.approx(0.745)


@pytest.mark.parametrize("k", [0, 3])
def test_k_beyond_the_completions_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match=rf"pass@{k} cannot be told.* least sampled has 2"):
        pass_at_k([[0.0, 1.0, 1.0], [0.0, 1.0]], k)


def test_nothing_to_measure_is_refused() -> None:
    for scores in ([], [[1.0], []]):
        with pytest.raises(ValueError):  # noqa: PT011
            mean_at_k(scores)
    with pytest.raises(ValueError, match="one number a problem"):
        pass_at_k([], 1)


def test_running_max() -> None:
    assert running_max([0.1, 0.3, 0.2, 0.4]) == [0.1, 0.3, 0.3, 0.4]
    assert running_max([]) == []
