"""Dr. GRPO: GRPO without its two biases (arXiv 2503.20783, Sec. 3.2)."""

from __future__ import annotations

from fastslow.slow.advantages import Estimator
from fastslow.slow.aggregation import Aggregation
from fastslow.slow.grpo import Grpo, GrpoOptions
from fastslow.slow.registry import slow_learner


class DrGrpoOptions(GrpoOptions):
    """``[slow.dr_grpo]``"""

    advantage: Estimator = "centred"
    """What a reward is compared with. Dr. GRPO: the mean of its group, not divided by a
    deviation."""
    aggregation: Aggregation = "constant"
    """Whose losses weigh the same. Dr. GRPO: all tokens, divided by a constant length."""


@slow_learner("dr_grpo")
class DrGrpo(Grpo):
    """GRPO's surrogate with A = r - mean and every token divided by the same constant.

    Dividing by the standard deviation favours problems that are too easy or too hard, and dividing
    by a completion's own length favours long wrong ones: neither is done.
    """

    Options = DrGrpoOptions
