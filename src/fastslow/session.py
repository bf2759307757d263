"""What the parts of a run share: the policy, the tasks, and whoever is told of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fastslow.config import RunConfig
from fastslow.curriculum import Curriculum
from fastslow.policy.protocol import Policy
from fastslow.rollouts import Ask, sample_rollouts, stop_if_ungraded
from fastslow.run.observer import Observer, Phase
from fastslow.run.state import LoopState
from fastslow.seeding import derive_seed
from fastslow.slow.anomalies import stop_if_not_finite
from fastslow.types import Context, Problem, Rollout


@dataclass
class Session:
    """Samples for a run, and tells of it.

    Attributes:
        curriculum: all tasks of the run.
        seed_context: what it begins with.
        interruption: called where nothing is half done; raises if somebody asked the run to stop.
    """

    config: RunConfig
    curriculum: Curriculum
    policy: Policy
    seed_context: Context
    observer: Observer
    interruption: Callable[[], None]

    def sample(
        self, phase: Phase, asks: Sequence[Ask], done: int = 0, total: int | None = None
    ) -> list[Rollout]:
        """Sample and grade, reporting progress and listening for interruptions.

        ``done`` of ``total`` rollouts of the phase were sampled before.

        Raises:
            RunError: in a phase without an update, a log-probability is not finite; or the verifier
                failed on every rollout of the phase so far.
        """
        total = len(asks) if total is None else total
        is_first = done == 0  # of the calls of a phase: where that is graded, the verifier works

        def on_finished(count: int) -> None:
            nonlocal done
            done += count
            self.interruption()
            self.observer.on_progress(phase, done, total)

        self.interruption()
        rollouts = sample_rollouts(self.policy, self.curriculum.grade, asks, on_finished)
        if phase != "slow":
            stop_if_not_finite(rollouts)
        if is_first:
            stop_if_ungraded(asks, rollouts, self.curriculum.task_of)
        return rollouts

    def tell_rollouts(
        self,
        phase: Phase,
        state: LoopState,
        problems: Sequence[Problem],
        rollouts: Sequence[Rollout],
    ) -> None:
        by_id = {problem.id: problem for problem in problems}
        self.observer.on_rollouts(phase, state.step, state.cycle, by_id, rollouts)

    def tell(self, phase: Phase, state: LoopState, measures: dict[str, Any]) -> None:
        self.observer.on_metrics(
            {"step": state.step, "cycle": state.cycle, "phase": phase, **measures}
        )

    def seed(self, *place: int | str) -> int:
        """The seed of a place in the run, unlike that of any other."""
        return derive_seed(self.config.seed, *place)
