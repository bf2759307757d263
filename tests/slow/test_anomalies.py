from __future__ import annotations

import math

import pytest

from fastslow import testing
from fastslow.errors import RunError
from fastslow.slow.anomalies import (
    MISMATCH,
    Anomaly,
    AnomalyError,
    anomaly_at_sampling,
    stop_if_lost,
    stop_if_not_finite,
)
from fastslow.testing import turn
from fastslow.types import Rollout


def test_some_steps_may_go_without_an_update() -> None:
    anomaly = Anomaly("a loss is not finite", ("problem p under context c",))
    stop_if_lost(anomaly, step=7, skipped=2, limit=3)
    with pytest.raises(
        RunError, match=r"^step 7: a loss is not finite, .* 3 steps in a row"
    ) as caught:
        stop_if_lost(anomaly, step=7, skipped=3, limit=3)
    assert "The last checkpoint is intact" in str(caught.value)
    assert "slow.max_skipped" in str(caught.value)


def test_a_mismatch_ends_the_run_at_once() -> None:
    with pytest.raises(RunError, match=r"^step 7: .* differ\. The last checkpoint"):
        stop_if_lost(Anomaly("log-probabilities differ", kind=MISMATCH), 7, skipped=1, limit=3)


def test_a_rollout_is_named_once() -> None:
    assert AnomalyError("", ["b", "a", "b"]).anomaly.rollouts == ("b", "a")


def rollout(problem: str, logprob: float) -> Rollout:
    return testing.rollout(problem, "c", 0.0, turn(sampled=(3, 4), logprobs=(-1.0, logprob)))


@pytest.mark.parametrize("logprob", [math.nan, math.inf, -math.inf])
def test_rollouts_of_a_policy_that_computes_no_numbers_are_refused(logprob: float) -> None:
    """Though all of them earned the same, so that no update would have been made of them."""
    sound, broken = [rollout("p", -0.5)] * 3, rollout("q", logprob)
    assert anomaly_at_sampling(sound) is None
    stop_if_not_finite(sound)
    found = anomaly_at_sampling([*sound, broken, broken])
    assert found is not None
    assert found.cause == "a log-probability at sampling is not finite"
    assert found.rollouts == ("problem q under context c",)
    with pytest.raises(RunError, match=r"in 1 of 4 rollouts, the first of problem q under"):
        stop_if_not_finite([*sound, broken])
