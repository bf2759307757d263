"""CISPO, the paper's slow learner (MiniMax-M1, arXiv 2506.13585, Eq. 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from fastslow.slow.base import LossInputs, PolicyGradient, PolicyGradientOptions
from fastslow.slow.registry import slow_learner

if TYPE_CHECKING:
    from torch import Tensor


class CispoOptions(PolicyGradientOptions):
    """``[slow.cispo]``"""

    cap: Annotated[float, Field(gt=0, le=1e6)] = 4.0
    """tau, the absolute upper bound of the importance ratio."""


@slow_learner("cispo")
class Cispo(PolicyGradient):
    """-sg(min(rho, tau)) * A * log pi_theta, averaged over problems (paper, Eq. 4).

    The cap is absolute (TRL's convention, not verl's 1 + eps), there is no lower bound, and no
    token loses its gradient: the ratio is a constant, the gradient flows through log pi_theta.
    """

    Options = CispoOptions
    options: CispoOptions

    def loss(self, inputs: LossInputs) -> Tensor:
        ratio = inputs.ratio.clamp(max=self.options.cap).detach()
        return -ratio * inputs.advantages * inputs.logprobs
