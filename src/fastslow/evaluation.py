"""Evaluations: problems that are never trained on, under contexts of the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastslow.collect import Collector, group_by_problem, spread_over
from fastslow.config import RunConfig
from fastslow.curriculum import Curriculum
from fastslow.policy.base import Sampler
from fastslow.record import Record
from fastslow.run.state import LoopState
from fastslow.seeding import derive_seed
from fastslow.types import Context, Problem


@dataclass(frozen=True)
class Evaluator:
    """Accuracy (mean@k) on tasks under each context that ``[eval]`` names, and what else the
    completions tell of the policy."""

    config: RunConfig
    curriculum: Curriculum
    seed_context: Context
    collector: Collector
    record: Record

    def __call__(self, sampler: Sampler, state: LoopState, tasks: Sequence[str]) -> None:
        """Evaluate the sampler on some tasks."""
        settings = self.config.eval
        for task in dict.fromkeys(tasks):
            choices = self._contexts(state, task)
            problems = self.curriculum.problems(task, settings.split)[: settings.problems]
            for name in settings.contexts:
                if name in choices:
                    where = {"task": task, "split": settings.split, "context": name}
                    self._evaluate(sampler, state, problems, choices[name], where)

    def _contexts(self, state: LoopState, task: str) -> dict[str, tuple[Context, ...]]:
        """What ``eval.contexts`` may name by now for a task."""
        choices: dict[str, tuple[Context, ...]] = {"seed": (self.seed_context,)}
        if self.config.uses_fast and state.step > 0:
            contexts = state.population.contexts
            choices |= {"best": contexts[:1], "population": contexts}
            if task in state.own:
                choices["own"] = (state.own[task],)
        return choices

    def _evaluate(
        self,
        sampler: Sampler,
        state: LoopState,
        problems: Sequence[Problem],
        contexts: Sequence[Context],
        where: dict[str, str],
    ) -> None:
        pairs = spread_over(problems, contexts, self.config.eval.samples)
        if not pairs:
            return
        collect = self.collector.begin("eval", sampler)
        rollouts = collect(pairs, lambda *place: derive_seed(self.config.seed, "eval", *place))
        groups = [group for group in group_by_problem(problems, rollouts) if group.rollouts]
        drifts = []
        if self.config.eval.drift and groups:
            drifts = sampler.drift([r.sequence for group in groups for r in group.rollouts])
        self.record.evaluation(state, where, groups, rollouts, drifts)
