"""From groups of graded rollouts to the weighted data of one update (paper, slow phase, Eq. 4)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastslow.types import Datum, Group


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


def training_data(groups: Sequence[Group]) -> list[Datum]:
    """The data of one update: groups without variance are dropped and not refilled.

    Weights make the batch's loss a mean over problems of the mean over that problem's tokens
    (Eq. 4), so that every kept problem weighs the same however long its completions are: the
    weights of all tokens of the batch sum to 1.
    """
    kept = [group for group in groups if has_signal(group)]
    data = []
    for group in kept:
        tokens = sum(len(rollout.completion.token_ids) for rollout in group.rollouts)
        for rollout, advantage in zip(group.rollouts, group_advantages(group.rewards), strict=True):
            completion = rollout.completion
            data.append(
                Datum(
                    prompt_ids=completion.prompt_ids,
                    token_ids=completion.token_ids,
                    logprobs=completion.logprobs,
                    advantage=advantage,
                    weight=1.0 / (tokens * len(kept)),
                    policy_version=completion.policy_version,
                )
            )
    return data
