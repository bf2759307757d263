"""GRPO (DeepSeekMath, arXiv 2402.03300, Eq. 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from fastslow.slow.aggregation import Aggregation
from fastslow.slow.base import LossInputs, PolicyGradient, PolicyGradientOptions
from fastslow.slow.clipping import clipped_surrogate
from fastslow.slow.registry import slow_learner

if TYPE_CHECKING:
    from torch import Tensor


class GrpoOptions(PolicyGradientOptions):
    """``[slow.grpo]``"""

    aggregation: Aggregation = "sequence"
    """Whose losses weigh the same. GRPO: all completions, whatever their length."""
    clip: Annotated[float, Field(gt=0, le=1e6)] = 0.2
    """Distance of the importance ratio from 1 beyond which a token earns no more."""


@slow_learner("grpo")
class Grpo(PolicyGradient):
    """PPO's clipped surrogate per token, averaged over each completion, then over completions."""

    Options = GrpoOptions
    options: GrpoOptions

    def loss(self, inputs: LossInputs) -> Tensor:
        clip = self.options.clip
        return clipped_surrogate(inputs.ratio, inputs.advantages, clip, clip)
