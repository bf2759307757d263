from __future__ import annotations

import pytest

from fastslow.errors import RunError
from fastslow.slow.anomalies import AnomalyError, MismatchError, stop_if_lost


def test_some_steps_may_go_without_an_update() -> None:
    anomaly = AnomalyError("a loss is not finite", ["problem p under context c"])
    stop_if_lost(anomaly, step=7, skipped=2, limit=3)
    with pytest.raises(
        RunError, match=r"^step 7: a loss is not finite, .* 3 steps in a row"
    ) as caught:
        stop_if_lost(anomaly, step=7, skipped=3, limit=3)
    assert "The last checkpoint is intact" in str(caught.value)
    assert "slow.max_skipped" in str(caught.value)


def test_a_mismatch_ends_the_run_at_once() -> None:
    with pytest.raises(RunError, match=r"^step 7: .* differ\. The last checkpoint"):
        stop_if_lost(MismatchError("log-probabilities differ"), step=7, skipped=1, limit=3)


def test_a_rollout_is_named_once() -> None:
    assert AnomalyError("", ["b", "a", "b"]).rollouts == ("b", "a")
