"""From groups of graded rollouts to the weighted data of one update (paper, slow phase, Eq. 4)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from fastslow.types import Group, Rollout, Verdict, same_reward

Baseline = Literal["problem", "context"]
"""Which rollouts an advantage is formed over: a problem's, or a problem's under one context."""

Estimator = Literal["group", "centred", "leave_one_out", "batch"]
"""group: (r - mean) / std over the rollouts of a problem (GRPO, CISPO). centred: without the
division. leave_one_out: against the mean of the others. batch: (r - mean) / std over the whole
batch (REINFORCE++, arXiv 2501.03262, without its KL term)."""

Truncated = Literal["keep", "mask", "zero"]
"""What becomes of a completion that the token limit cut off: it is trained on like any other, it
counts in the baseline of its group but no gradient is taken on it, or its reward is 0."""


def group_advantages(rewards: Sequence[float], eps: float = 1e-6) -> list[float]:
    """A_i = (r_i - mean) / (std + eps) over all G rollouts of ONE problem, whatever their context.

    The standard deviation is the sample one (G - 1 in the denominator), as in TRL and verl; the
    paper does not say. ``eps`` keeps the quotient finite. Rewards that differ by rounding alone
    (``same_reward``) give 0, exactly.
    """
    distances = centred(rewards)
    if not any(distances):
        return distances
    deviation = math.sqrt(math.fsum(d * d for d in distances) / (len(distances) - 1))
    return [distance / (deviation + eps) for distance in distances]


def centred(rewards: Sequence[float]) -> list[float]:
    """A_i = r_i - mean (Dr. GRPO, arXiv 2503.20783); 0 where rewards differ by rounding alone."""
    if not differ(rewards):
        return [0.0] * len(rewards)
    mean = math.fsum(rewards) / len(rewards)
    return [reward - mean for reward in rewards]


def leave_one_out(rewards: Sequence[float]) -> list[float]:
    """A_i = r_i - mean of the others (RLOO, arXiv 2402.14740), which is G / (G - 1) times the
    centred one; 0 where rewards differ by rounding alone."""
    count = len(rewards)
    return [a * count / (count - 1) for a in centred(rewards)] if count > 1 else [0.0] * count


def differ(rewards: Sequence[float]) -> bool:
    """Whether some rewards differ by more than rounding."""
    return len(rewards) > 1 and not same_reward(min(rewards), max(rewards))


def has_signal(group: Group) -> bool:
    """Whether the group's rewards differ: without variance every advantage is zero."""
    return differ(group.rewards)


def with_truncation(group: Group, truncated: Truncated) -> Group:
    """The group as it is rewarded: with "zero" a completion that was cut off has the reward 0."""
    if truncated != "zero":
        return group
    return replace(group, rollouts=tuple(map(_zero_if_truncated, group.rollouts)))


def _zero_if_truncated(rollout: Rollout) -> Rollout:
    if rollout.finished:
        return rollout
    return replace(rollout, verdict=Verdict(0.0, rollout.feedback))


def advantages(
    groups: Sequence[Group],
    rewards: Sequence[Sequence[float]],
    estimator: Estimator,
    baseline: Baseline,
) -> list[list[tuple[float, bool]]]:
    """The advantage of every rollout, and whether the rollouts it is compared with differ.

    Args:
        groups: of the batch.
        rewards: of their rollouts, in the same shape, which is that of the result too.
        estimator: see ``Estimator``.
        baseline: over which rollouts of a problem advantages are formed.
    """
    if estimator == "batch":
        flat = [reward for own in rewards for reward in own]
        values = iter(zip(group_advantages(flat), [differ(flat)] * len(flat), strict=True))
        return [[next(values) for _ in own] for own in rewards]
    form = {"group": group_advantages, "centred": centred, "leave_one_out": leave_one_out}[
        estimator
    ]
    result = []
    for group, own in zip(groups, rewards, strict=True):
        found: dict[int, tuple[float, bool]] = {}
        for places in _compared(group, baseline):
            part = [own[place] for place in places]
            signal = [differ(part)] * len(part)
            found |= zip(places, zip(form(part), signal, strict=True), strict=True)
        result.append([found[place] for place in range(len(own))])
    return result


def _compared(group: Group, baseline: Baseline) -> list[list[int]]:
    """The places of rollouts that are compared with each other."""
    if baseline == "problem":
        return [list(range(len(group.rollouts)))]
    places: dict[str, list[int]] = {}
    for place, rollout in enumerate(group.rollouts):
        places.setdefault(rollout.context.digest, []).append(place)
    return list(places.values())
