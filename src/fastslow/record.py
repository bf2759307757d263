"""The record of a run: the one place that times, counts, and tells observers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from fastslow.collect import Collection
from fastslow.curriculum import Curriculum
from fastslow.fast.base import Evolution
from fastslow.measure.drift import drift_measures
from fastslow.measure.rows import (
    count_tokens,
    evaluation_measures,
    evolution_measures,
    reward_measures,
    task_measures,
    verdict_measures,
)
from fastslow.policy.base import Drift, StepResult
from fastslow.run.observer import Observer, Phase
from fastslow.run.state import LoopState
from fastslow.types import Group, Rollout


class Record:
    """Turns what happens into rows of metrics.

    Args:
        observer: is told.
        curriculum: knows the task of each problem.
    """

    def __init__(self, observer: Observer, curriculum: Curriculum) -> None:
        self._observer = observer
        self._curriculum = curriculum
        self._laps: dict[str, float] = {}
        self._since = time.perf_counter()

    def begin(self) -> None:
        """Start the clock of a phase."""
        self._laps = {}
        self._since = time.perf_counter()

    def lap(self, name: str) -> None:
        """End a part of the phase: its row has ``seconds/NAME``."""
        now = time.perf_counter()
        self._laps[f"seconds/{name}"] = now - self._since
        self._since = now

    def state(self, state: LoopState) -> None:
        """All that was told so far belongs to ``state``."""
        self._observer.on_state(state)

    def fast_phase(self, state: LoopState, evolution: Evolution, collected: Collection) -> None:
        """A fast phase ended."""
        self._tell_rollouts("fast", state, collected.sampled)
        self._observer.on_evolution(state.step, state.cycle, evolution)
        self.lap("fast")
        measures = {
            **evolution_measures(evolution),
            **verdict_measures(collected.sampled),
            "rollouts/sampled": len(collected.sampled),
            "tokens/sampled": count_tokens(collected.sampled),
        }
        self._tell("fast", state, measures)

    def slow_step(
        self, state: LoopState, groups: Sequence[Group], collected: Collection, result: StepResult
    ) -> None:
        """A slow step ended, with an update or without."""
        rollouts = [*collected.reused, *collected.sampled]
        unsampled = {r.problem.id for r in collected.sampled if not r.is_sampled}
        self._tell_rollouts("slow", state, rollouts)
        measures = {
            **reward_measures(groups),
            **task_measures(groups, self._curriculum),
            **({"problems/left_out": len(unsampled)} if unsampled else {}),
            **verdict_measures(collected.sampled),
            "rollouts/reused": len(collected.reused),
            "rollouts/sampled": len(collected.sampled),
            "tokens/sampled": count_tokens(collected.sampled),
            "tokens/reused": count_tokens(collected.reused),
            **result.measures,
        }
        if result.refused is not None:
            measures["skipped"] = result.refused.cause
        self._tell("slow", state, measures)
        if result.refused is not None:
            self._observer.on_anomaly(state.step, state.cycle, rollouts, result.refused)

    def evaluation(
        self,
        state: LoopState,
        where: dict[str, str],
        groups: Sequence[Group],
        rollouts: Sequence[Rollout],
        drifts: Sequence[Drift],
    ) -> None:
        """An evaluation under one context ended; no row where no problem has a verdict."""
        self._tell_rollouts("eval", state, rollouts)
        if groups:
            measures = {**evaluation_measures(groups), **verdict_measures(rollouts)}
            self._tell("eval", state, {**where, **measures, **drift_measures(drifts)})

    def progress(self, phase: Phase, done: int, total: int) -> None:
        """``done`` of at most ``total`` rollouts of a phase have been sampled."""
        self._observer.on_progress(phase, done, total)

    def _tell_rollouts(self, phase: Phase, state: LoopState, rollouts: Sequence[Rollout]) -> None:
        self._observer.on_rollouts(phase, state.step, state.cycle, rollouts)

    def _tell(self, phase: Phase, state: LoopState, measures: dict[str, Any]) -> None:
        place = {"step": state.step, "cycle": state.cycle, "phase": phase}
        timed = self._laps if phase != "eval" else {}
        self._observer.on_metrics({**place, **measures, **timed})
