"""Fast-Slow Training, the algorithm (arXiv 2605.12484). Start reading here.

A run is a sequence of stages, each on one task or a mix of some; a stage is a sequence of cycles.
In a cycle a fast phase evolves the population of contexts against the policy on the problems of the
next T batches, then T slow steps train the policy on those batches under that population. Plain RL
is the same loop without the fast phases, contexts-only the same loop without the updates.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastslow.data import BatchOrder
from fastslow.evaluation import evaluate
from fastslow.fast.leaks import Leaks
from fastslow.fast.protocol import ContextOptimizer, FastPhase, Pair
from fastslow.measure.rows import (
    count_tokens,
    evolution_measures,
    reward_measures,
    task_measures,
    verdict_measures,
)
from fastslow.rollouts import (
    Ask,
    group_by_problem,
    left_out,
    plan_rollouts,
)
from fastslow.run.state import LoopState
from fastslow.session import Session
from fastslow.slow.advantages import with_truncation
from fastslow.slow.anomalies import AnomalyError, refuse_non_finite, stop_if_lost
from fastslow.slow.base import SlowLearner
from fastslow.types import Problem, Rollout


@dataclass(frozen=True)
class Stage:
    """A stretch of the run on some tasks, named: the slow steps from ``start`` to ``stop``."""

    tasks: tuple[str, ...]
    order: BatchOrder
    start: int
    stop: int


@dataclass
class FastSlowLoop:
    """One run. It owns no state but its position, ``LoopState``: the weights are the policy's.

    Whenever it tells a state, a policy loaded from what the present one saves then would go on in
    the same way, bit for bit: ``Policy.publish`` comes before.

    Attributes:
        session: the policy, the tasks, and who is told.
        stages: in order, without gaps.
        optimizer: the fast learner; None for plain RL.
        learner: the slow learner; None where contexts alone learn.
        checkpoint: saves the state that the observer was told last, with the policy's weights.
    """

    session: Session
    stages: Sequence[Stage]
    optimizer: ContextOptimizer | None
    learner: SlowLearner | None
    checkpoint: Callable[[], None]

    def __post_init__(self) -> None:
        self.config = self.session.config
        self.policy = self.session.policy

    @property
    def _reuses_rollouts(self) -> bool:
        """Whether rollouts of a fast phase are trained on."""
        learns = self.learner is not None and self.learner.samples_contexts
        return learns and self.config.fast.reuse

    def run(self, state: LoopState) -> LoopState:
        """Go on from ``state`` to the end of the last stage."""
        self.session.observer.on_state(state)
        for stage in self.stages:
            while state.step < stage.stop:
                self._evaluate_if_due(state, stage)
                state = self._next(state, stage)
                self.session.observer.on_state(state)
                if self._checkpoint_due(state, stage):
                    self.checkpoint()
        self._evaluate(state, self.stages)
        return state

    def _next(self, state: LoopState, stage: Stage) -> LoopState:
        """One slow step, after a fast phase if it is the first of its cycle."""
        every = self.config.fast.every
        done = (state.step - stage.start) % every
        steps = min(every - done, stage.stop - state.step)
        batches = stage.order.lookahead(state.step - stage.start, steps)
        if done == 0 and self.optimizer is not None:
            state = self._fast_phase(state, stage, batches)
        if self.learner is not None:
            state = self._slow_step(state, self.learner, batches[0])
        else:
            self.policy.publish()
            state = replace(state, step=state.step + steps)
        if self._between_cycles(state, stage):
            state = replace(state, cycle=state.cycle + 1, rollouts={})
        return state

    def _fast_phase(
        self, state: LoopState, stage: Stage, batches: Sequence[Sequence[Problem]]
    ) -> LoopState:
        """Evolve the population on the problems of the coming batches, theta standing still."""
        assert self.optimizer is not None
        session = self.session
        started, before = time.perf_counter(), state.population.contexts
        anchors = {p.id: p for batch in batches for p in batch}
        leaks = Leaks(list(anchors.values()), stage.order.pool)
        given_away = {name for context in before for name in leaks.given_away_by(context)}
        fair = [problem for name, problem in anchors.items() if name not in given_away]
        if not fair:
            return state
        total, sampled = self.optimizer.most_calls(len(fair)), list[Rollout]()

        def score(pairs: Sequence[Pair]) -> list[Rollout]:
            asks = [
                Ask(
                    problem,
                    context,
                    session.seed("fast", state.cycle, problem.id, context.digest),
                )
                for problem, context in pairs
            ]
            sampled.extend(rollouts := session.sample("fast", asks, len(sampled), total))
            return rollouts

        evolution = self.optimizer.evolve(
            FastPhase(
                cycle=state.cycle,
                population=state.population,
                anchors=fair,
                pool=stage.order.pool,
                evaluate=score,
                demonstrate=session.curriculum.demonstrate,
                count_tokens=self.policy.count_tokens,
                seed=session.seed("evolve", state.cycle),
            )
        )
        session.tell_rollouts("fast", state, [*fair, *stage.order.pool], sampled)
        session.observer.on_evolution(state.step, state.cycle, evolution)
        seconds = time.perf_counter() - started
        measures = {
            **evolution_measures(evolution),
            **verdict_measures(sampled),
            "rollouts/sampled": len(sampled),
            "tokens/sampled": count_tokens(sampled),
        }
        session.tell("fast", state, {**measures, "seconds/fast": seconds})
        reusable = evolution.rollouts if self._reuses_rollouts else {}
        kept = set(evolution.population.digests)
        rollouts = {
            (problem, context): rollout
            for (problem, context), rollout in reusable.items()
            if problem in anchors and context in kept and rollout.is_sampled and rollout.is_graded
        }
        own = dict.fromkeys(stage.tasks, evolution.population.best.context)
        return replace(
            state,
            population=evolution.population,
            own={**state.own, **own},
            rollouts=rollouts,
        )

    def _slow_step(
        self, state: LoopState, learner: SlowLearner, batch: Sequence[Problem]
    ) -> LoopState:
        """G rollouts of every problem over the population, one advantage each, one update."""
        session, started = self.session, time.perf_counter()
        contexts = state.population.contexts
        reused, asks = plan_rollouts(
            batch,
            contexts if learner.samples_contexts else (session.seed_context,),
            self.config.slow.group,
            state.rollouts,
            lambda *place: session.seed("slow", state.step, *place),
        )
        sampled = session.sample("slow", asks)
        missing = left_out(sampled)
        whole = [problem for problem in batch if problem.id not in missing]
        truncated = self.config.slow.truncated
        groups = [
            with_truncation(group, truncated)
            for group in group_by_problem(whole, [*reused, *sampled])
        ]
        rolled_out = time.perf_counter()
        anomaly: AnomalyError | None = None
        try:
            refuse_non_finite([*reused, *sampled])
            data = learner.data(groups, contexts, self.policy)
            measures: Mapping[str, Any] = {}
            if data:
                measures = self.policy.update(data, learner.loss, top=learner.top)
        except AnomalyError as found:
            measures, anomaly = {"skipped": str(found)}, found
        self.policy.publish()
        updated = time.perf_counter()

        # A batch without signal makes no update either way: it neither adds to them nor ends them.
        skipped = state.skipped + 1 if anomaly else 0 if measures else state.skipped
        done = replace(state, step=state.step + 1, skipped=skipped)
        session.tell_rollouts("slow", done, batch, [*reused, *sampled])
        session.tell(
            "slow",
            done,
            {
                **reward_measures(groups),
                **task_measures(groups, session.curriculum),
                **({"problems/left_out": len(missing)} if missing else {}),
                **verdict_measures(sampled),
                "rollouts/reused": len(reused),
                "rollouts/sampled": len(sampled),
                "tokens/sampled": count_tokens(sampled),
                "tokens/reused": count_tokens(reused),
                "seconds/rollout": rolled_out - started,
                "seconds/update": updated - rolled_out,
                **measures,
            },
        )
        if anomaly is not None:
            by_id = {problem.id: problem for problem in batch}
            session.observer.on_anomaly(done.step, done.cycle, by_id, [*reused, *sampled], anomaly)
            stop_if_lost(anomaly, done.step, done.skipped, self.config.slow.max_skipped)
        return done

    def _evaluate_if_due(self, state: LoopState, stage: Stage) -> None:
        done = state.step - stage.start
        if done % (self.config.eval.every or self.config.fast.every) == 0:
            self._evaluate(state, [other for other in self.stages if other.start <= state.step])

    def _evaluate(self, state: LoopState, stages: Sequence[Stage]) -> None:
        evaluate(self.session, state, [task for stage in stages for task in stage.tasks])

    def _checkpoint_due(self, state: LoopState, stage: Stage) -> bool:
        every = self.config.log.checkpoint_every
        due = state.step % every == 0 if every else self._between_cycles(state, stage)
        return due or state.step == self.stages[-1].stop

    def _between_cycles(self, state: LoopState, stage: Stage) -> bool:
        done = state.step - stage.start
        return done % self.config.fast.every == 0 or state.step == stage.stop
