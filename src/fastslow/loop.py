"""Fast-Slow Training, the algorithm (arXiv 2605.12484). Start reading here.

A run is a sequence of stages, each on one task or a mix of some; a stage is a sequence of cycles.
In a cycle a fast phase evolves the population of contexts against the policy on the problems of the
next T batches, then T slow steps train the policy on those batches under that population. Plain RL
is the same loop without the fast phases, contexts-only the same loop without the updates.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastslow.config import RunConfig
from fastslow.curriculum import Curriculum
from fastslow.data import BatchOrder
from fastslow.fast.protocol import ContextOptimizer, FastPhase, Pair
from fastslow.measures import count_tokens, evolution_measures, reward_measures, task_measures
from fastslow.policy.protocol import Policy
from fastslow.rollouts import Ask, group_by_problem, left_out, plan_rollouts, sample_rollouts
from fastslow.run.observer import Observer, Phase
from fastslow.run.state import LoopState
from fastslow.seeding import derive_seed
from fastslow.slow.advantages import training_data
from fastslow.types import Context, Problem, Rollout


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

    Attributes:
        curriculum: all tasks of the run.
        stages: in order, without gaps.
        optimizer: the fast learner; None for plain RL.
        checkpoint: saves the state that the observer was told last, with the policy's weights.
        interruption: called where nothing is half done; raises if somebody asked the run to stop.
    """

    config: RunConfig
    curriculum: Curriculum
    stages: Sequence[Stage]
    policy: Policy
    optimizer: ContextOptimizer | None
    seed_context: Context
    observer: Observer
    checkpoint: Callable[[], None]
    interruption: Callable[[], None]

    def run(self, state: LoopState) -> LoopState:
        """Go on from ``state`` to the end of the last stage."""
        self.observer.on_state(state)
        for stage in self.stages:
            while state.step < stage.stop:
                self._evaluate_if_due(state, stage)
                state = self._next(state, stage)
                self.observer.on_state(state)
                if self._checkpoint_due(state, stage):
                    self.checkpoint()
        self.evaluate(state, self.stages)
        return state

    def _next(self, state: LoopState, stage: Stage) -> LoopState:
        """One slow step, after a fast phase if it is the first of its cycle."""
        every = self.config.fast.every
        done = (state.step - stage.start) % every
        steps = min(every - done, stage.stop - state.step)
        batches = stage.order.lookahead(state.step - stage.start, steps)
        if done == 0 and self.optimizer is not None:
            state = self._fast_phase(state, stage, batches)
        if self.config.uses_slow:
            self._slow_step(state, batches[0])
            steps = 1
        state = replace(state, step=state.step + steps)
        if self._between_cycles(state, stage):
            state = replace(state, cycle=state.cycle + 1, rollouts={})
        return state

    def _fast_phase(
        self, state: LoopState, stage: Stage, batches: Sequence[Sequence[Problem]]
    ) -> LoopState:
        """Evolve the population on the problems of the coming batches, theta standing still."""
        assert self.optimizer is not None
        started, before = time.perf_counter(), state.population.contexts
        anchors = {p.id: p for batch in batches for p in batch}
        fair = [p for p in anchors.values() if not any(c.shows(p) for c in before)]
        if not fair:
            return state
        total, sampled = self.optimizer.most_calls(len(fair)), list[Rollout]()

        def evaluate(pairs: Sequence[Pair]) -> list[Rollout]:
            asks = [
                Ask(problem, context, self._seed("fast", state.cycle, problem.id, context.digest))
                for problem, context in pairs
            ]
            sampled.extend(rollouts := self._sample("fast", asks, len(sampled), total))
            return rollouts

        evolution = self.optimizer.evolve(
            FastPhase(
                cycle=state.cycle,
                population=state.population,
                anchors=fair,
                pool=stage.order.pool,
                evaluate=evaluate,
                demonstrate=self.curriculum.demonstrate,
                count_tokens=self.policy.count_tokens,
                seed=self._seed("evolve", state.cycle),
            )
        )
        self._tell_rollouts("fast", state, [*fair, *stage.order.pool], sampled)
        self.observer.on_evolution(state.step, state.cycle, evolution)
        seconds = time.perf_counter() - started
        measures = {**evolution_measures(evolution), "tokens/sampled": count_tokens(sampled)}
        self._tell("fast", state, {**measures, "seconds/fast": seconds})
        reusable = evolution.rollouts if self.config.fast.reuse and self.config.uses_slow else {}
        kept = set(evolution.population.digests)
        rollouts = {
            (problem, context): rollout
            for (problem, context), rollout in reusable.items()
            if problem in anchors and context in kept and rollout.is_sampled
        }
        return replace(state, population=evolution.population, rollouts=rollouts)

    def _slow_step(self, state: LoopState, batch: Sequence[Problem]) -> None:
        """G rollouts of every problem over the population, one advantage each, one update."""
        started = time.perf_counter()
        reused, asks = plan_rollouts(
            batch,
            state.population.contexts,
            self.config.slow.group,
            state.rollouts,
            lambda *place: self._seed("slow", state.step, *place),
        )
        sampled = self._sample("slow", asks, 0, len(asks))
        missing = left_out(sampled)
        whole = [problem for problem in batch if problem.id not in missing]
        groups = group_by_problem(whole, [*reused, *sampled])
        data = training_data(groups)
        rolled_out = time.perf_counter()
        measures = self.policy.update(data, self.config.slow.algorithm) if data else {}
        self.policy.publish()
        updated = time.perf_counter()

        done = replace(state, step=state.step + 1)
        self._tell_rollouts("slow", done, batch, [*reused, *sampled])
        self._tell(
            "slow",
            done,
            {
                **reward_measures(groups),
                **task_measures(groups, self.curriculum),
                **({"problems/left_out": len(missing)} if missing else {}),
                "rollouts/reused": len(reused),
                "tokens/sampled": count_tokens(sampled),
                "seconds/rollout": rolled_out - started,
                "seconds/update": updated - rolled_out,
                **measures,
            },
        )

    def _evaluate_if_due(self, state: LoopState, stage: Stage) -> None:
        done = state.step - stage.start
        if done % (self.config.eval.every or self.config.fast.every) == 0:
            self.evaluate(state, [other for other in self.stages if other.start <= state.step])

    def evaluate(self, state: LoopState, stages: Sequence[Stage]) -> None:
        """Accuracy (mean@k) on the stages' tasks, under each context that ``[eval]`` names."""
        settings, population = self.config.eval, state.population
        choices: dict[str, tuple[Context, ...]] = {"seed": (self.seed_context,)}
        if self.config.uses_fast and state.step > 0:
            choices |= {"best": population.contexts[:1], "population": population.contexts}
        names = [name for name in settings.contexts if name in choices]
        for task in dict.fromkeys(task for stage in stages for task in stage.tasks):
            problems = self.curriculum.problems(task, settings.split)[: settings.problems]
            for name in names:
                contexts, count = choices[name], settings.samples
                asks = plan_rollouts(
                    problems, contexts, count, {}, lambda *place: self._seed("eval", *place)
                )[1]
                if not asks:
                    continue
                rollouts = self._sample("eval", asks, 0, len(asks))
                self._tell_rollouts("eval", state, problems, rollouts)
                missing = left_out(rollouts)
                rollouts = [r for r in rollouts if r.problem_id not in missing]
                if not rollouts:
                    continue
                where = {"task": task, "split": settings.split, "context": name}
                accuracy = statistics.fmean(rollout.reward for rollout in rollouts)
                self._tell("eval", state, {**where, "accuracy": accuracy, "n": len(rollouts)})

    def _sample(self, phase: Phase, asks: Sequence[Ask], done: int, total: int) -> list[Rollout]:
        """Sample and grade, reporting progress and listening for interruptions."""

        def on_finished(count: int) -> None:
            nonlocal done
            done += count
            self.interruption()
            self.observer.on_progress(phase, done, total)

        self.interruption()
        return sample_rollouts(self.policy, self.curriculum.grade, asks, on_finished)

    def _checkpoint_due(self, state: LoopState, stage: Stage) -> bool:
        every = self.config.log.checkpoint_every
        due = state.step % every == 0 if every else self._between_cycles(state, stage)
        return due or state.step == self.stages[-1].stop

    def _between_cycles(self, state: LoopState, stage: Stage) -> bool:
        done = state.step - stage.start
        return done % self.config.fast.every == 0 or state.step == stage.stop

    def _tell_rollouts(
        self,
        phase: Phase,
        state: LoopState,
        problems: Sequence[Problem],
        rollouts: Sequence[Rollout],
    ) -> None:
        by_id = {problem.id: problem for problem in problems}
        self.observer.on_rollouts(phase, state.step, state.cycle, by_id, rollouts)

    def _tell(self, phase: Phase, state: LoopState, measures: dict[str, Any]) -> None:
        self.observer.on_metrics(
            {"step": state.step, "cycle": state.cycle, "phase": phase, **measures}
        )

    def _seed(self, *place: int | str) -> int:
        return derive_seed(self.config.seed, *place)
