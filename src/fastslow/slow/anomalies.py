"""Numbers that no update may be made of."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from fastslow.errors import RunError
from fastslow.types import Rollout

Kind = Literal["numbers", "mismatch"]

MISMATCH: Kind = "mismatch"

NOT_FINITE = "a {} is not finite"
"""The cause of an anomaly, with the name of the number filled in."""

AT_SAMPLING = "log-probability at sampling"


@dataclass(frozen=True)
class Anomaly:
    """Why an update was not made. Weights and optimiser are as they were before.

    Attributes:
        cause: what is wrong.
        rollouts: those that it was found in, by ``Datum.source``; empty where that is unknown.
        kind: "mismatch" if the trainer does not find the log-probabilities that the sampler stored
            under the same weights: one of them computes wrongly, and every ratio with it.
    """

    cause: str
    rollouts: tuple[str, ...] = ()
    kind: Kind = "numbers"


class AnomalyError(Exception):
    """Ends an update on its way; carries the ``Anomaly``."""

    def __init__(self, cause: str, rollouts: Iterable[str] = (), kind: Kind = "numbers") -> None:
        super().__init__(cause)
        self.anomaly = Anomaly(cause, tuple(dict.fromkeys(rollouts)), kind)


def anomaly_at_sampling(rollouts: Sequence[Rollout]) -> Anomaly | None:
    """The anomaly of a sampler that had a log-probability that is not finite. Such a policy may
    well earn the same reward with every rollout, and then no update would come upon it."""
    blamed = not_finite((r.label, r.logprobs) for r in rollouts)
    if not blamed:
        return None
    return Anomaly(NOT_FINITE.format(AT_SAMPLING), tuple(dict.fromkeys(blamed)))


def stop_if_not_finite(rollouts: Sequence[Rollout]) -> None:
    """The same where there is no update that could be skipped: in fast phases and evaluations.

    Raises: RunError.
    """
    if blamed := not_finite((r.label, r.logprobs) for r in rollouts):
        raise RunError(
            f"{NOT_FINITE.format(AT_SAMPLING)} in {len(blamed)} of {len(rollouts)} rollouts, the "
            f"first of {blamed[0]}: the model computes no numbers from its weights. Checkpoints "
            "saved before are intact. In a run that has just begun the model's files may be "
            "damaged, or its activations too large for policy.dtype: try float32"
        )


def not_finite(named: Iterable[tuple[str, Sequence[float]]]) -> list[str]:
    """The names under which some number is not finite."""
    return [name for name, numbers in named if not all(map(math.isfinite, numbers))]


def stop_if_lost(anomaly: Anomaly, step: int, skipped: int, limit: int) -> None:
    """Raises: RunError if it is of no use to go on after ``skipped`` steps in a row without an
    update, or if the anomaly will not pass."""
    saved = "The last checkpoint is intact; anomalies/ in the run's folder holds the batch"
    if anomaly.kind == MISMATCH:
        raise RunError(f"step {step}: {anomaly.cause}. {saved}")
    if skipped >= limit:
        raise RunError(
            f"step {step}: {anomaly.cause}, and so the updates of {skipped} steps in a row were "
            f"skipped (slow.max_skipped). {saved}. A lower slow.lr, or policy.dtype float32, may "
            "help"
        )
