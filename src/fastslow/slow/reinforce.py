"""REINFORCE with a leave-one-out baseline (RLOO, arXiv 2402.14740, Sec. 4.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastslow.slow.advantages import Estimator
from fastslow.slow.aggregation import Aggregation
from fastslow.slow.base import LossInputs, PolicyGradient, PolicyGradientOptions
from fastslow.slow.registry import slow_learner

if TYPE_CHECKING:
    from torch import Tensor


class ReinforceOptions(PolicyGradientOptions):
    """``[slow.reinforce]``"""

    advantage: Estimator = "leave_one_out"
    """What a reward is compared with: by default the mean of the other rewards of its group."""
    aggregation: Aggregation = "sequence_sum"
    """Whose losses weigh the same: by default all completions, each the sum of its tokens."""


@slow_learner("reinforce")
class Reinforce(PolicyGradient):
    """-rho * A, whose gradient is that of the expected reward on samples of any policy.

    On samples of the current policy rho is 1 and the gradient -A * grad log pi_theta. Nothing is
    clipped, so rollouts had better be recent.
    """

    Options = ReinforceOptions

    def loss(self, inputs: LossInputs) -> Tensor:
        return -inputs.ratio * inputs.advantages
