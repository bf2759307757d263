"""The learners of weights: each a file with a hook, a loss and its own options."""

from fastslow.slow.base import (
    LossInputs,
    PolicyGradient,
    PolicyGradientOptions,
    Reader,
    SlowLearner,
)
from fastslow.slow.registry import slow_learner

__all__ = [
    "LossInputs",
    "PolicyGradient",
    "PolicyGradientOptions",
    "Reader",
    "SlowLearner",
    "slow_learner",
]
