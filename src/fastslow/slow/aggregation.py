"""Whose losses weigh the same: the weight of a token's loss in a batch's sum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Aggregation = Literal["problem", "sequence", "token", "constant", "sequence_sum"]
"""problem: the mean over problems of the mean over a problem's tokens (the paper's Eq. 4).
sequence: the mean over completions of the mean over a completion's tokens (GRPO).
token: the mean over all tokens (DAPO).
constant: the sum over a completion's tokens over ``max_tokens``, mean over completions (Dr. GRPO).
sequence_sum: the sum over a completion's tokens, mean over completions (REINFORCE)."""


def token_weights(
    lengths: Sequence[Sequence[int]], aggregation: Aggregation, max_tokens: int
) -> list[list[float]]:
    """The weight of each token of a completion.

    Args:
        lengths: for each problem, tokens of each of its completions; none is empty.
        aggregation: see ``Aggregation``.
        max_tokens: of one completion, at most.

    Returns:
        For each problem the weight of each of its completions' tokens, in the shape of ``lengths``.
        In the first three cases the weights of all tokens sum to 1.
    """
    completions = sum(map(len, lengths))
    tokens = sum(map(sum, lengths))
    if aggregation == "problem":
        return [[1 / (sum(own) * len(lengths))] * len(own) for own in lengths]
    if aggregation == "sequence":
        return [[1 / (length * completions) for length in own] for own in lengths]
    divisor = {
        "token": tokens,
        "constant": completions * max_tokens,
        "sequence_sum": completions,
    }[aggregation]
    return [[1 / divisor] * len(own) for own in lengths]
