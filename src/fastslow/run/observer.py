"""What the loop tells the world. The run folder, the console and tests listen through this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from fastslow.fast.base import Evolution
from fastslow.run.state import LoopState
from fastslow.slow.anomalies import Anomaly
from fastslow.types import Rollout

Phase = Literal["fast", "slow", "eval"]


class Observer:
    """Listens to a run. The loop calls these in the order in which things happen.

    What an observer does not override, it does not listen to.
    """

    def on_progress(self, phase: Phase, done: int, total: int) -> None:
        """``done`` of at most ``total`` rollouts of the phase under way have been sampled."""

    def on_rollouts(
        self,
        phase: Phase,
        step: int,
        cycle: int,
        rollouts: Sequence[Rollout],
    ) -> None:
        """The rollouts of one fast phase, one slow step or one evaluation."""

    def on_evolution(self, step: int, cycle: int, evolution: Evolution) -> None:
        """A fast phase ended: every context it scored, and the population that it kept."""

    def on_metrics(self, row: Mapping[str, Any]) -> None:
        """One row of metrics, with ``step``, ``cycle``, ``phase`` and the measures by name."""

    def on_anomaly(
        self,
        step: int,
        cycle: int,
        rollouts: Sequence[Rollout],
        anomaly: Anomaly,
    ) -> None:
        """A slow step had to do without an update; the rollouts are all of its batch."""

    def on_state(self, state: LoopState) -> None:
        """All that was told so far belongs to ``state``: a run resumed from it tells the rest."""
