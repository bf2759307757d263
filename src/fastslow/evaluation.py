"""Evaluations: problems that are never trained on, under contexts of the run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastslow.measure.drift import drift_measures
from fastslow.measure.rows import evaluation_measures, verdict_measures
from fastslow.rollouts import group_by_problem, left_out, plan_rollouts
from fastslow.run.state import LoopState
from fastslow.session import Session
from fastslow.types import Context, Problem, Rollout


def evaluate(session: Session, state: LoopState, tasks: Sequence[str]) -> None:
    """Accuracy (mean@k) on some tasks, under each context that ``[eval]`` names, and what else the
    completions tell of the policy."""
    settings = session.config.eval
    for task in dict.fromkeys(tasks):
        choices = _contexts(session, state, task)
        problems = session.curriculum.problems(task, settings.split)[: settings.problems]
        for name in settings.contexts:
            if name not in choices:
                continue
            rollouts = _asked(session, state, problems, choices[name])
            if measures := _measures(session, problems, rollouts):
                where = {"task": task, "split": settings.split, "context": name}
                session.tell("eval", state, {**where, **measures})


def _contexts(session: Session, state: LoopState, task: str) -> dict[str, tuple[Context, ...]]:
    """What ``eval.contexts`` may name by now for a task."""
    choices: dict[str, tuple[Context, ...]] = {"seed": (session.seed_context,)}
    if session.config.uses_fast and state.step > 0:
        contexts = state.population.contexts
        choices |= {"best": contexts[:1], "population": contexts}
        if task in state.own:
            choices["own"] = (state.own[task],)
    return choices


def _asked(
    session: Session, state: LoopState, problems: Sequence[Problem], contexts: Sequence[Context]
) -> list[Rollout]:
    """Rollouts of each problem that may be asked."""
    count = session.config.eval.samples
    asks = plan_rollouts(
        problems, contexts, count, {}, lambda *place: session.seed("eval", *place)
    )[1]
    if not asks:
        return []
    rollouts = session.sample("eval", asks)
    session.tell_rollouts("eval", state, problems, rollouts)
    return rollouts


def _measures(
    session: Session, problems: Sequence[Problem], rollouts: Sequence[Rollout]
) -> dict[str, Any]:
    """What the rollouts say; nothing where no problem has all of its own and one with a verdict."""
    missing = left_out(rollouts)
    whole = [problem for problem in problems if problem.id not in missing]
    groups = [group for group in group_by_problem(whole, rollouts) if group.rollouts]
    if not groups:
        return {}
    measures = {**evaluation_measures(groups), **verdict_measures(rollouts)}
    if session.config.eval.drift:
        told = [rollout.completion for group in groups for rollout in group.rollouts]
        measures |= drift_measures(session.policy.drift(told))
    return measures
