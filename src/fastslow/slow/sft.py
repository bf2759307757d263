"""Supervised fine-tuning on the policy's own right answers (STaR, arXiv 2203.14465; RFT)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from fastslow.config import Section
from fastslow.slow.aggregation import Aggregation, token_weights
from fastslow.slow.base import LossInputs, Reader, SlowLearner
from fastslow.slow.data import datum
from fastslow.slow.registry import slow_learner
from fastslow.types import Context, Datum, Group

if TYPE_CHECKING:
    from torch import Tensor


class SftOptions(Section):
    """``[slow.sft]``"""

    under_context: bool = True
    """Whether an answer is learnt under the context that it was given under, or under none: then
    the weights learn what the context taught."""
    threshold: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Least score of an answer that is learnt."""
    aggregation: Aggregation = "token"
    """Whose losses weigh the same: by default all tokens of a batch."""


@slow_learner("sft")
class Sft(SlowLearner):
    """-log pi_theta of every token of every answer that was right."""

    Options = SftOptions
    options: SftOptions

    def data(
        self, groups: Sequence[Group], contexts: Sequence[Context], policy: Reader
    ) -> list[Datum]:
        right = [
            (group, [r for r in group.rollouts if r.reward >= self.options.threshold])
            for group in groups
        ]
        right = [(group, rollouts) for group, rollouts in right if rollouts]
        lengths = [[len(r.completion.token_ids) for r in rollouts] for _, rollouts in right]
        weights = token_weights(lengths, self.options.aggregation, self.max_tokens)
        data = []
        for (group, rollouts), own in zip(right, weights, strict=True):
            prompt = None
            if not self.options.under_context:
                prompt = policy.encode(Context(), group.problem.question)
            data += [
                datum(rollout, advantage=1.0, weight=weight, prompt=prompt)
                for rollout, weight in zip(rollouts, own, strict=True)
            ]
        return data

    def loss(self, inputs: LossInputs) -> Tensor:
        return -inputs.logprobs
