"""Several observers as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastslow.fast.base import Evolution
from fastslow.run.observer import Observer, Phase
from fastslow.run.state import LoopState
from fastslow.slow.anomalies import Anomaly
from fastslow.types import Rollout


class Fanout(Observer):
    """Tells everything to each of ``observers``, in the order given."""

    def __init__(self, *observers: Observer) -> None:
        self.observers = observers

    def on_progress(self, phase: Phase, done: int, total: int) -> None:
        for observer in self.observers:
            observer.on_progress(phase, done, total)

    def on_rollouts(
        self,
        phase: Phase,
        step: int,
        cycle: int,
        rollouts: Sequence[Rollout],
    ) -> None:
        for observer in self.observers:
            observer.on_rollouts(phase, step, cycle, rollouts)

    def on_evolution(self, step: int, cycle: int, evolution: Evolution) -> None:
        for observer in self.observers:
            observer.on_evolution(step, cycle, evolution)

    def on_metrics(self, row: Mapping[str, Any]) -> None:
        for observer in self.observers:
            observer.on_metrics(row)

    def on_anomaly(
        self,
        step: int,
        cycle: int,
        rollouts: Sequence[Rollout],
        anomaly: Anomaly,
    ) -> None:
        for observer in self.observers:
            observer.on_anomaly(step, cycle, rollouts, anomaly)

    def on_state(self, state: LoopState) -> None:
        for observer in self.observers:
            observer.on_state(state)
