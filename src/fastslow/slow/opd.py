"""On-policy distillation to a teacher model (GKD, arXiv 2306.13649, Sec. 3, with reverse KL)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from fastslow.config import Section
from fastslow.errors import InputError
from fastslow.slow.aggregation import Aggregation, token_weights
from fastslow.slow.base import LossInputs, Reader, SlowLearner
from fastslow.slow.data import datum
from fastslow.slow.registry import slow_learner
from fastslow.types import Context, Datum, Group

if TYPE_CHECKING:
    from torch import Tensor


class OpdOptions(Section):
    """``[slow.opd]``"""

    teacher: str
    """The teacher: a model name as ``model`` takes it, with the same tokenizer."""
    aggregation: Aggregation = "token"
    """Whose losses weigh the same: by default all tokens of a batch."""


@slow_learner("opd")
class Opd(SlowLearner):
    """-rho * A per token with A = log pi_teacher - log pi_behaviour.

    On the policy's own samples that is the gradient of KL(pi_theta || pi_teacher), one token at a
    time. The teacher reads the same prompt, context included. Rewards play no part.
    """

    Options = OpdOptions
    options: OpdOptions

    @property
    def teacher_model(self) -> str:  # type: ignore[override]
        return self.options.teacher

    def data(
        self, groups: Sequence[Group], contexts: Sequence[Context], policy: Reader
    ) -> list[Datum]:
        assert self.teacher is not None
        groups = [group for group in groups if group.rollouts]
        rollouts = [rollout for group in groups for rollout in group.rollouts]
        completions = [rollout.completion for rollout in rollouts]
        prompts = [completion.prompt_ids for completion in completions]
        taught = self.teacher.logprobs(prompts, [c.token_ids for c in completions])
        lengths = [[len(r.completion.token_ids) for r in group.rollouts] for group in groups]
        weights = token_weights(lengths, self.options.aggregation, self.max_tokens)
        flat = [weight for own in weights for weight in own]
        data = []
        for rollout, scores, weight in zip(rollouts, taught, flat, strict=True):
            own = datum(rollout, advantage=0.0, weight=weight)
            read = len(own.tokens) - len(scores)
            gaps = (t - b for t, b in zip(scores, rollout.completion.logprobs, strict=True))
            data.append(replace(own, advantages=(*[0.0] * read, *gaps)))
        return data

    def loss(self, inputs: LossInputs) -> Tensor:
        return -inputs.ratio * inputs.advantages


def check_teacher(teacher: Reader, policy: Reader) -> None:
    """Raises: InputError, if the teacher does not read texts as the same tokens."""
    probe = Context("Answer in one word."), "Which is larger, 7 or 12?"
    if teacher.encode(*probe) != policy.encode(*probe):
        raise InputError(
            "slow.opd.teacher: the teacher's tokenizer or chat template is not the model's, so it "
            "cannot score the model's tokens: name a model of the same family"
        )
