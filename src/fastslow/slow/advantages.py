"""From groups of graded rollouts to the weighted data of one update (paper, slow phase, Eq. 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from fastslow.types import Datum, Group, Rollout

Baseline = Literal["problem", "context"]
"""Which rollouts an advantage is formed over: a problem's, or a problem's under one context."""


def group_advantages(rewards: Sequence[float], eps: float = 1e-6) -> list[float]:
    """A_i = (r_i - mean) / (std + eps) over all G rollouts of ONE problem, whatever their context.

    The standard deviation is the sample one (G - 1 in the denominator), as in TRL and verl; the
    paper does not say. ``eps`` keeps the quotient finite.
    """
    r = np.asarray(rewards, dtype=np.float64)
    if r.size < 2:
        return [0.0] * r.size
    return list(map(float, (r - r.mean()) / (r.std(ddof=1) + eps)))


def has_signal(group: Group) -> bool:
    """Whether the group's rewards differ: without variance every advantage is zero."""
    return len(set(group.rewards)) > 1


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


def training_data(groups: Sequence[Group], baseline: Baseline = "problem") -> list[Datum]:
    """The data of one update: groups without variance are dropped and not refilled.

    Weights make the batch's loss a mean over problems of the mean over that problem's tokens
    (Eq. 4), so that every kept problem weighs the same however long its completions are: the
    weights of all tokens of the batch sum to 1. With a baseline per context the same holds of what
    is kept of each problem.
    """
    parts = groups if baseline == "problem" else split_by_context(groups)
    kept = [group for group in parts if has_signal(group)]
    tokens: dict[str, int] = {}
    for group in kept:
        tokens[group.problem.id] = tokens.get(group.problem.id, 0) + _tokens(group)
    data = []
    for group in kept:
        weight = 1.0 / (tokens[group.problem.id] * len(tokens))
        for rollout, advantage in zip(group.rollouts, group_advantages(group.rewards), strict=True):
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


def _tokens(group: Group) -> int:
    return sum(len(rollout.completion.token_ids) for rollout in group.rollouts)
