"""What the rows of metrics.jsonl say of rollouts and contexts."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from fastslow.curriculum import Curriculum
from fastslow.fast.protocol import Evolution
from fastslow.slow.advantages import has_signal
from fastslow.types import Group, Rollout


def reward_measures(groups: Sequence[Group]) -> dict[str, Any]:
    """Rewards over all rollouts of a batch, and how many groups had the variance to train on."""
    rewards = [reward for group in groups for reward in group.rewards]
    kept = sum(map(has_signal, groups))
    measures: dict[str, Any] = {"groups/kept": kept, "groups/dropped": len(groups) - kept}
    if rewards:
        measures["reward/mean"] = statistics.fmean(rewards)
        measures["reward/std"] = statistics.pstdev(rewards)
    return measures


def task_measures(groups: Sequence[Group], curriculum: Curriculum) -> dict[str, float]:
    """Mean reward of each task in a batch, in a run that has several tasks."""
    if len(curriculum.names) == 1:
        return {}
    rewards: dict[str, list[float]] = {}
    for group in groups:
        rewards.setdefault(curriculum.task_of(group.problem), []).extend(group.rewards)
    return {f"reward/mean/{task}": statistics.fmean(some) for task, some in rewards.items() if some}


def evolution_measures(evolution: Evolution) -> dict[str, Any]:
    """What a fast phase cost and came to."""
    return {
        "metric_calls": evolution.metric_calls,
        "proposals": evolution.proposals,
        "proposals/failed": evolution.failed_proposals,
        "population/size": len(evolution.population.candidates),
        "score/best": evolution.population.best.mean,
    }


def count_tokens(rollouts: Sequence[Rollout]) -> int:
    """Completion tokens of some rollouts."""
    return sum(len(rollout.completion.token_ids) for rollout in rollouts)
