"""DAPO (arXiv 2503.14476, Eq. 8 and 13)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from fastslow.slow.aggregation import Aggregation
from fastslow.slow.base import LossInputs, PolicyGradient, PolicyGradientOptions
from fastslow.slow.clipping import clipped_surrogate
from fastslow.slow.registry import slow_learner
from fastslow.types import Rollout

if TYPE_CHECKING:
    from torch import Tensor


class DapoOptions(PolicyGradientOptions):
    """``[slow.dapo]``"""

    aggregation: Aggregation = "token"
    """Whose losses weigh the same. DAPO: all tokens of a batch."""
    clip_low: Annotated[float, Field(gt=0, le=1e6)] = 0.2
    """Distance of the importance ratio below 1 beyond which a token earns no more."""
    clip_high: Annotated[float, Field(gt=0, le=1e6)] = 0.28
    """Distance of the importance ratio above 1 beyond which a token earns no more."""
    overlong: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Last part of ``policy.max_tokens`` over which a completion's reward falls linearly by 1. The
    paper: 4,096 of 20,480 tokens. 0: no penalty."""


@slow_learner("dapo")
class Dapo(PolicyGradient):
    """GRPO with unequal clips, a mean over all tokens, and a penalty for overlong completions."""

    Options = DapoOptions
    options: DapoOptions

    def reward(self, rollout: Rollout) -> float:
        """The verdict, less up to 1 for the last part of the length that is allowed (Eq. 13)."""
        buffer = self.options.overlong * self.max_tokens
        over = len(rollout.sampled) - (self.max_tokens - buffer)
        return rollout.reward - (over / buffer if over > 0 else 0.0)

    def loss(self, inputs: LossInputs) -> Tensor:
        low, high = self.options.clip_low, self.options.clip_high
        return clipped_surrogate(inputs.ratio, inputs.advantages, low, high)
