"""GSPO: importance ratios of whole sequences (arXiv 2507.18071, Eq. 5 and 7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from fastslow.slow.aggregation import Aggregation
from fastslow.slow.base import LossInputs, PolicyGradient, PolicyGradientOptions
from fastslow.slow.clipping import clipped_surrogate
from fastslow.slow.registry import slow_learner

if TYPE_CHECKING:
    from torch import Tensor


class GspoOptions(PolicyGradientOptions):
    """``[slow.gspo]``"""

    aggregation: Aggregation = "sequence"
    """Whose losses weigh the same. GSPO: all completions."""
    clip_low: Annotated[float, Field(gt=0, le=1e6)] = 3e-4
    """Distance of a sequence's importance ratio below 1 beyond which it earns no more."""
    clip_high: Annotated[float, Field(gt=0, le=1e6)] = 4e-4
    """Distance of a sequence's importance ratio above 1 beyond which it earns no more."""


@slow_learner("gspo")
class Gspo(PolicyGradient):
    """The clipped surrogate of s = exp(mean over tokens of log rho), one ratio a completion."""

    Options = GspoOptions
    options: GspoOptions

    def loss(self, inputs: LossInputs) -> Tensor:
        ratio = inputs.sequence_mean(inputs.logprobs - inputs.behaviour).exp()
        low, high = self.options.clip_low, self.options.clip_high
        return clipped_surrogate(ratio, inputs.advantages, low, high)
