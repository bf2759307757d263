"""Numbers that no update may be made of."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from fastslow.errors import RunError
from fastslow.types import Rollout

NOT_FINITE = "a {} is not finite"
"""What is said of one; filled in with its name."""

AT_SAMPLING = "log-probability at sampling"


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


def refuse_non_finite(rollouts: Sequence[Rollout]) -> None:
    """Raises: AnomalyError if the sampler had a log-probability that is not finite. Such a policy
    may well earn the same reward with every rollout, and then no update would come upon it."""
    if blamed := not_finite((r.label, r.completion.logprobs) for r in rollouts):
        raise AnomalyError(NOT_FINITE.format(AT_SAMPLING), blamed)


def stop_if_not_finite(rollouts: Sequence[Rollout]) -> None:
    """The same where there is no update that could be skipped: in fast phases and evaluations.

    Raises: RunError.
    """
    if blamed := not_finite((r.label, r.completion.logprobs) for r in rollouts):
        raise RunError(
            f"{NOT_FINITE.format(AT_SAMPLING)} in {len(blamed)} of {len(rollouts)} rollouts, the "
            f"first of {blamed[0]}: the model computes no numbers from its weights. Checkpoints "
            "saved before are intact. In a run that has just begun the model's files may be "
            "damaged, or its activations too large for policy.dtype: try float32"
        )


def not_finite(named: Iterable[tuple[str, Sequence[float]]]) -> list[str]:
    """The names under which some number is not finite."""
    return [name for name, numbers in named if not all(map(math.isfinite, numbers))]


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
