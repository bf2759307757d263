"""From groups of rollouts to data, for learners from rewards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from fastslow.slow.advantages import Baseline, Estimator, Truncated, advantages
from fastslow.slow.aggregation import Aggregation, token_weights
from fastslow.types import Datum, Group, Rollout


def policy_gradient_data(
    groups: Sequence[Group],
    *,
    estimator: Estimator = "group",
    aggregation: Aggregation = "problem",
    baseline: Baseline = "problem",
    truncated: Truncated = "keep",
    max_tokens: int = 0,
    reward: Callable[[Rollout], float] = lambda rollout: rollout.reward,
) -> list[Datum]:
    """The data of one update: problems whose advantages are all zero are dropped, not refilled.

    With ``truncated`` "mask", as TRL's ``mask_truncated_completions`` and DAPO's overlong filtering
    (arXiv 2503.14476), completions that were cut off count in the baseline and are no data: tokens,
    completions and problems are counted without them.

    Args:
        groups: graded rollouts of each problem.
        estimator: see ``slow.advantages``.
        aggregation: see ``slow.aggregation``.
        baseline: over which rollouts of a problem advantages are formed.
        truncated: "zero" is the matter of ``advantages.with_truncation``.
        max_tokens: of one completion, at most; read by the aggregation "constant" alone.
        reward: of a rollout.
    """
    rewards = [[reward(rollout) for rollout in group.rollouts] for group in groups]
    kept: list[list[tuple[Rollout, float]]] = []
    for group, own in zip(groups, advantages(groups, rewards, estimator, baseline), strict=True):
        pairs = [
            (rollout, advantage)
            for rollout, (advantage, has_signal) in zip(group.rollouts, own, strict=True)
            if has_signal and (rollout.finished or truncated != "mask")
        ]
        if pairs:
            kept.append(pairs)
    lengths = [[len(rollout.sampled) for rollout, _ in pairs] for pairs in kept]
    weights = token_weights(lengths, aggregation, max_tokens)
    return [
        datum(rollout, advantage=advantage, weight=weight)
        for pairs, own_weights in zip(kept, weights, strict=True)
        for (rollout, advantage), weight in zip(pairs, own_weights, strict=True)
    ]


def datum(
    rollout: Rollout,
    *,
    advantage: float,
    weight: float,
    prompt: Sequence[int] | None = None,
    teacher_prompt: Sequence[int] | None = None,
) -> Datum:
    """A rollout as data, with one advantage and one weight for all tokens that were sampled.

    Args:
        rollout: with at least one sampled token.
        advantage: A_i.
        weight: of each token's loss.
        prompt: what is read before the first sampled token instead of the rollout's own prompt.
        teacher_prompt: see ``Datum``.
    """
    first = rollout.prompt if prompt is None else tuple(prompt)
    tokens: list[int] = []
    mask: list[bool] = []
    logprobs: list[float] = []
    for number, turn in enumerate(rollout.turns):
        read = turn.read if number else first
        tokens += [*read, *turn.sampled]
        mask += [*[False] * len(read), *[True] * len(turn.sampled)]
        logprobs += [*[0.0] * len(read), *turn.logprobs]
    return Datum(
        tokens=tokens,
        mask=mask,
        logprobs=logprobs,
        advantages=[advantage if sampled else 0.0 for sampled in mask],
        weights=[weight if sampled else 0.0 for sampled in mask],
        # Under another prompt nobody has sampled it: there is nothing to find again.
        policy_version=rollout.policy_version if prompt is None else None,
        source=rollout.label,
        teacher_prompt=None if teacher_prompt is None else tuple(teacher_prompt),
    )


def towards_teacher(datum: Datum, scores: Sequence[float]) -> Datum:
    """The datum with A_t = log pi_teacher - log pi_behaviour of each sampled token.

    With the loss -rho * A this descends KL(pi_theta || pi_teacher), estimated from sampled tokens.

    Args:
        datum: what was sampled.
        scores: log pi_teacher of its sampled tokens, in nats.
    """
    advantages = [0.0] * len(datum.tokens)
    for position, score in zip(datum.sequence.scored, scores, strict=True):
        advantages[position] = score - datum.logprobs[position]
    return replace(datum, advantages=advantages)


def sampled_kl(data: Sequence[Datum]) -> dict[str, float]:
    """``kl/teacher/sampled``: the mean of log pi_behaviour - log pi_teacher over the sampled tokens
    of data made by ``towards_teacher``, in nats."""
    gaps = [-a for d in data for a, sampled in zip(d.advantages, d.mask, strict=True) if sampled]
    return {"kl/teacher/sampled": sum(gaps) / len(gaps)} if gaps else {}
