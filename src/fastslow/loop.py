"""Fast-Slow Training, the algorithm (arXiv 2605.12484). Start reading here.

A run is a sequence of stages, each on one task or a mix of some; a stage is a sequence of cycles.
In a cycle a fast phase evolves the population of contexts against the policy on the problems of the
next T batches, then T slow steps train the policy on those batches under that population. Plain RL
is the same loop without the fast phases, contexts-only the same loop without the updates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from fastslow.collect import Collector, group_by_problem, spread_over
from fastslow.config import RunConfig
from fastslow.curriculum import Curriculum
from fastslow.evaluation import Evaluator
from fastslow.fast.base import FastLearner, FastPhase
from fastslow.fast.leaks import Leaks
from fastslow.policy.base import Sampler, StepResult, Trainer
from fastslow.record import Record
from fastslow.run.state import LoopState
from fastslow.schedule import Schedule, Step
from fastslow.seeding import derive_seed
from fastslow.slow.advantages import with_truncation
from fastslow.slow.anomalies import anomaly_at_sampling, stop_if_lost
from fastslow.slow.base import SlowLearner
from fastslow.types import Context, Pair, Rollout


@dataclass(frozen=True)
class FastSlowLoop:
    """One run. It owns no state but its position, ``LoopState``: the weights are the trainer's.

    Whenever it records a state, a trainer that loads what the present one saves then would go on in
    the same way, bit for bit.

    Attributes:
        config: of the run.
        schedule: the steps, and what is due around them.
        curriculum: all tasks.
        seed_context: the context that the run begins with.
        trainer: holds the weights.
        fast: the fast learner; None for plain RL.
        slow: the slow learner; None where contexts alone learn.
        collector: the way to rollouts.
        evaluate: measures the policy.
        record: is told of everything.
        checkpoint: saves the state that was recorded last, with the trainer's weights.
    """

    config: RunConfig
    schedule: Schedule
    curriculum: Curriculum
    seed_context: Context
    trainer: Trainer
    fast: FastLearner | None
    slow: SlowLearner | None
    collector: Collector
    evaluate: Evaluator
    record: Record
    checkpoint: Callable[[], None]

    def run(self, state: LoopState) -> LoopState:
        """Go on from ``state`` to the end of the last stage."""
        self.record.state(state)
        sampler = self.trainer.sampler()
        for step in self.schedule.steps(state.step):
            if step.evaluation_due:
                self.evaluate(sampler, state, step.seen)
            if step.cycle and self.fast is not None:
                state = self._fast_phase(state, step, self.fast, sampler)
            if self.slow is not None:
                state = self._slow_step(state, step, self.slow, sampler)
            state = replace(state, step=step.number + 1)
            if step.ends_cycle:
                state = replace(state, cycle=state.cycle + 1, rollouts={})
            sampler = self.trainer.sampler()
            self.record.state(state)
            if step.checkpoint_due:
                self.checkpoint()
        self.evaluate(sampler, state, self.schedule.tasks)
        return state

    def _fast_phase(
        self, state: LoopState, step: Step, fast: FastLearner, sampler: Sampler
    ) -> LoopState:
        """Evolve the population on the problems of the coming batches, theta standing still."""
        self.record.begin()
        problems = {problem.id: problem for batch in step.cycle for problem in batch}
        pool = step.stage.order.pool
        leaks = Leaks(list(problems.values()), pool)
        given_away = {p for c in state.population.contexts for p in leaks.given_away_by(c)}
        anchors = [problem for name, problem in problems.items() if name not in given_away]
        if not anchors:
            return state
        collect = self.collector.begin("fast", sampler, fast.max_calls(len(anchors)))

        def evaluate(pairs: Sequence[Pair]) -> list[Rollout]:
            return collect(pairs, lambda p, c, _: self._seed("fast", state.cycle, p, c))

        evolution = fast.evolve(
            FastPhase(
                cycle=state.cycle,
                population=state.population,
                anchors=anchors,
                pool=pool,
                evaluate=evaluate,
                demonstrate=self.curriculum.demonstrate,
                count_tokens=sampler.count_tokens,
                seed=self._seed("evolve", state.cycle),
            )
        )
        self.record.fast_phase(state, evolution, collect)
        best, kept = evolution.population.best.context, evolution.population.digests
        reusable = {
            key: rollout
            for key, rollout in evolution.rollouts.items()
            if key[0] in problems and key[1] in kept and rollout.is_sampled and rollout.is_graded
        }
        reuses = self.config.fast.reuse and self.slow is not None and self.slow.samples_contexts
        return replace(
            state,
            population=evolution.population,
            own={**state.own, **dict.fromkeys(step.stage.tasks, best)},
            rollouts=reusable if reuses else {},
        )

    def _slow_step(
        self, state: LoopState, step: Step, slow: SlowLearner, sampler: Sampler
    ) -> LoopState:
        """G rollouts of every problem over the population, one advantage each, one update."""
        self.record.begin()
        contexts = state.population.contexts
        read = contexts if slow.samples_contexts else (self.seed_context,)
        collect = self.collector.begin("slow", sampler)
        rollouts = collect(
            spread_over(step.batch, read, self.config.slow.group),
            lambda *place: self._seed("slow", state.step, *place),
            state.rollouts,
        )
        truncated = self.config.slow.truncated
        groups = [with_truncation(g, truncated) for g in group_by_problem(step.batch, rollouts)]
        self.record.lap("rollout")
        if anomaly := anomaly_at_sampling(rollouts):
            result = StepResult(refused=anomaly)
        else:
            result = self.trainer.step(slow.data(groups, contexts, sampler), slow)
        self.record.lap("update")
        # A batch without signal makes no update either: it leaves the count as it is.
        skipped = state.skipped + 1 if result.refused else 0 if result.updated else state.skipped
        state = replace(state, step=state.step + 1, skipped=skipped)
        self.record.slow_step(state, groups, collect, result)
        if result.refused:
            stop_if_lost(result.refused, state.step, skipped, self.config.slow.max_skipped)
        return state

    def _seed(self, *place: int | str) -> int:
        """The seed of a place in the run, unlike that of any other."""
        return derive_seed(self.config.seed, *place)
