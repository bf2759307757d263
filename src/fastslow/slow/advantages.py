"""From groups of graded rollouts to the weighted data of one update (paper, slow phase, Eq. 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from fastslow.types import Datum, Group, Rollout, Verdict, same_reward

Baseline = Literal["problem", "context"]
"""Which rollouts an advantage is formed over: a problem's, or a problem's under one context."""

Truncated = Literal["keep", "mask", "zero"]
"""What becomes of a completion that the token limit cut off: it is trained on like any other, it
counts in the baseline of its group but no gradient is taken on it, or its reward is 0."""


def group_advantages(rewards: Sequence[float], eps: float = 1e-6) -> list[float]:
    """A_i = (r_i - mean) / (std + eps) over all G rollouts of ONE problem, whatever their context.

    The standard deviation is the sample one (G - 1 in the denominator), as in TRL and verl; the
    paper does not say. ``eps`` keeps the quotient finite. Rewards that differ by rounding alone
    (``same_reward``) give 0, exactly.
    """
    r = np.asarray(rewards, dtype=np.float64)
    if not differ(rewards):
        return [0.0] * r.size
    return list(map(float, (r - r.mean()) / (r.std(ddof=1) + eps)))


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
    if rollout.completion.finished:
        return rollout
    return replace(rollout, verdict=Verdict(0.0, rollout.feedback))


def split_by_context(groups: Sequence[Group]) -> list[Group]:
    """Each group's rollouts under each context as a group of their own, in the order in which
    contexts come first: for the ablation of one baseline per (problem, context)."""
    parts: list[Group] = []
    for group in groups:
        members: dict[str, list[Rollout]] = {}
        for rollout in group.rollouts:
            members.setdefault(rollout.context, []).append(rollout)
        parts += [Group(group.problem, tuple(some)) for some in members.values()]
    return parts


def training_data(
    groups: Sequence[Group], baseline: Baseline = "problem", truncated: Truncated = "keep"
) -> list[Datum]:
    """The data of one update: groups without variance are dropped and not refilled.

    Weights make the batch's loss a mean over problems of the mean over that problem's tokens
    (Eq. 4), so that every kept problem weighs the same however long its completions are: the
    weights of all tokens of the batch sum to 1. With a baseline per context the same holds of what
    is kept of each problem.

    With ``truncated`` "mask", as TRL's ``mask_truncated_completions`` and DAPO's overlong filtering
    (arXiv 2503.14476), completions that were cut off count in the baseline and are no data: tokens
    and problems are counted without them. "zero" is the matter of ``with_truncation``.
    """
    parts = groups if baseline == "problem" else split_by_context(groups)
    kept = [
        (group, trained)
        for group in parts
        if has_signal(group) and (trained := _trained(group, truncated))
    ]
    tokens: dict[str, int] = {}
    for group, trained in kept:
        count = sum(len(rollout.completion.token_ids) for rollout, _ in trained)
        tokens[group.problem.id] = tokens.get(group.problem.id, 0) + count
    data = []
    for group, trained in kept:
        weight = 1.0 / (tokens[group.problem.id] * len(tokens))
        for rollout, advantage in trained:
            completion = rollout.completion
            data.append(
                Datum(
                    prompt_ids=completion.prompt_ids,
                    token_ids=completion.token_ids,
                    logprobs=completion.logprobs,
                    advantage=advantage,
                    weight=weight,
                    policy_version=completion.policy_version,
                    source=rollout.label,
                )
            )
    return data


def _trained(group: Group, truncated: Truncated) -> list[tuple[Rollout, float]]:
    """The rollouts that a gradient is taken on, each with its advantage over the whole group."""
    advantages = zip(group.rollouts, group_advantages(group.rewards), strict=True)
    return [pair for pair in advantages if pair[0].completion.finished or truncated != "mask"]
