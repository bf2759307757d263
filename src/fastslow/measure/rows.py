"""What the rows of metrics.jsonl say of rollouts and contexts."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from fastslow.curriculum import Curriculum
from fastslow.fast.base import Evolution
from fastslow.measure.accuracy import mean_at_k, pass_at_k
from fastslow.measure.diversity import distinct, distinct_correct
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
    return measures | truncation_measures(groups)


def task_measures(groups: Sequence[Group], curriculum: Curriculum) -> dict[str, float]:
    """Mean reward of each task in a batch, in a run that has several tasks."""
    if len(curriculum.names) == 1:
        return {}
    rewards: dict[str, list[float]] = {}
    for group in groups:
        rewards.setdefault(curriculum.task_of(group.problem), []).extend(group.rewards)
    return {f"reward/mean/{task}": statistics.fmean(some) for task, some in rewards.items() if some}


def verdict_measures(rollouts: Sequence[Rollout]) -> dict[str, int]:
    """How many rollouts the verifier failed on, where it did."""
    failed = sum(not rollout.is_graded for rollout in rollouts)
    return {"verdicts/failed": failed} if failed else {}


def truncation_measures(groups: Sequence[Group]) -> dict[str, float]:
    """Which share of the completions the token limit cut off."""
    finished = [rollout.finished for group in groups for rollout in group.rollouts]
    return {"truncated/fraction": finished.count(False) / len(finished)} if finished else {}


def evolution_measures(evolution: Evolution) -> dict[str, Any]:
    """What a fast phase cost and came to."""
    return {
        "metric_calls": evolution.metric_calls,
        "proposals": evolution.proposals,
        "proposals/failed": evolution.failed_proposals,
        "population/size": len(evolution.population.candidates),
        "score/best": evolution.population.best.mean,
    }


def evaluation_measures(groups: Sequence[Group]) -> dict[str, Any]:
    """Accuracy (mean@k) with its interval over problems, pass@k, and how diverse completions are.

    pass@k is given for powers of two up to the smallest number of rollouts of a problem.
    """
    scores = [group.rewards for group in groups]
    texts = [[rollout.text for rollout in group.rollouts] for group in groups]
    accuracy = mean_at_k(scores)
    measures: dict[str, Any] = {
        "accuracy": accuracy.value,
        "problems": len(scores),
        "n": sum(map(len, scores)),
    }
    if len(scores) > 1:  # a single problem says nothing of others
        measures |= {"accuracy/low": accuracy.low, "accuracy/high": accuracy.high}
    k = 2
    while k <= min(map(len, scores)):
        measures[f"pass@{k}"] = pass_at_k(scores, k).value
        k *= 2
    if max(map(len, scores)) > 1:
        measures["distinct/completions"] = distinct(texts)
        measures["distinct/correct"] = distinct_correct(texts, scores)
    return measures | truncation_measures(groups)


def count_tokens(rollouts: Sequence[Rollout]) -> int:
    """Completion tokens of some rollouts."""
    return sum(len(rollout.sampled) for rollout in rollouts)
