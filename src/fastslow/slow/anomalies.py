"""Numbers that no update may be made of."""

from __future__ import annotations

from collections.abc import Iterable

from fastslow.errors import RunError


class AnomalyError(Exception):
    """An update that was not made, for something is wrong with its numbers. The weights and the
    state of the optimiser are as they were before.

    Attributes:
        rollouts: those that it was found in, by ``Datum.source``; empty where they cannot be told.
    """

    def __init__(self, cause: str, rollouts: Iterable[str] = ()) -> None:
        super().__init__(cause)
        self.rollouts = tuple(dict.fromkeys(rollouts))


class MismatchError(AnomalyError):
    """The learner does not find the log-probabilities that the sampler stored under the same
    weights: one of them computes wrongly, and every ratio with it."""


def stop_if_lost(anomaly: AnomalyError, step: int, skipped: int, limit: int) -> None:
    """Raises: RunError if it is of no use to go on after ``skipped`` steps in a row without an
    update, or if the anomaly is no passing one."""
    saved = "The last checkpoint is intact; anomalies/ in the run's folder holds the batch"
    if isinstance(anomaly, MismatchError):
        raise RunError(f"step {step}: {anomaly}. {saved}") from anomaly
    if skipped >= limit:
        raise RunError(
            f"step {step}: {anomaly}, and so the updates of {skipped} steps in a row were skipped "
            f"(slow.max_skipped). {saved}. A lower slow.lr, or policy.dtype float32, may help"
        ) from anomaly
