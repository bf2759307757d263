"""FST-distill: the policy learns to say without a context what it says with one (paper, Sec. 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from fastslow.config import Positive, Section
from fastslow.slow.aggregation import token_weights
from fastslow.slow.base import LossInputs, Reader, SlowLearner
from fastslow.slow.data import datum, sampled_kl, towards_teacher
from fastslow.slow.registry import slow_learner
from fastslow.spread import spread
from fastslow.types import Context, Datum, Group

if TYPE_CHECKING:
    from torch import Tensor


class DistillOptions(Section):
    """``[slow.distill]``"""

    top: Positive | None = None
    """Tokens that the divergence tells apart, the likeliest of the policy; all others count as
    one. None: the whole vocabulary."""


@slow_learner("distill")
class Distill(SlowLearner):
    """KL(pi_theta(. | x) || sg pi_theta(. | x, phi)) at every token that was sampled without phi.

    Rollouts are sampled under the seed context. The contexts in force take turns as teachers, as
    far as the model's window holds them. Rewards play no part: every problem weighs the same.
    Where the backend gives no distributions, the divergence is estimated from sampled tokens.
    """

    Options = DistillOptions
    options: DistillOptions
    samples_contexts = False

    @property
    def top(self) -> int | None:  # type: ignore[override]
        return self.options.top

    def data(
        self, groups: Sequence[Group], contexts: Sequence[Context], policy: Reader
    ) -> list[Datum]:
        room = policy.window - policy.max_tokens
        taught: list[tuple[Group, list[tuple[int, ...]]]] = []
        for turn, group in enumerate(groups):
            prompts = {c: policy.encode(c, group.problem.question) for c in contexts}
            able = [context for context in contexts if len(prompts[context]) <= room]
            teachers = spread(group.problem, able, len(group.rollouts), turn)
            if teachers:
                taught.append((group, [prompts[context] for context in teachers]))
        lengths = [[len(r.sampled) for r in group.rollouts] for group, _ in taught]
        weights = token_weights(lengths, "problem", self.max_tokens)
        data = [
            datum(rollout, advantage=0.0, weight=weight, teacher_prompt=prompt)
            for (group, prompts_of), own in zip(taught, weights, strict=True)
            for rollout, prompt, weight in zip(group.rollouts, prompts_of, own, strict=True)
        ]
        return data if policy.gives_distributions else _sampled(data, policy)

    def measures(self, data: Sequence[Datum]) -> dict[str, float]:
        return {} if data[0].teacher_prompt is not None else sampled_kl(data)

    def loss(self, inputs: LossInputs) -> Tensor:
        if inputs.divergences is not None:
            return inputs.divergences
        return -inputs.ratio * inputs.advantages


def _sampled(data: Sequence[Datum], policy: Reader) -> list[Datum]:
    """The same estimated from the sampled tokens, for a backend that gives no distributions."""
    scores = policy.logprobs([datum.teacher_sequence for datum in data])
    return [
        replace(towards_teacher(datum, own), teacher_prompt=None)
        for datum, own in zip(data, scores, strict=True)
    ]
