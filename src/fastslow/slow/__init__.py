"""The learners of weights: each a file with a hook, a loss and its own options."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastslow.lazy import lazy_names

if TYPE_CHECKING:
    from fastslow.slow.base import (
        LossInputs,
        PolicyGradient,
        PolicyGradientOptions,
        Reader,
        SlowLearner,
    )
    from fastslow.slow.registry import slow_learner
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "fastslow.slow.base": [
                "LossInputs",
                "PolicyGradient",
                "PolicyGradientOptions",
                "Reader",
                "SlowLearner",
            ],
            "fastslow.slow.registry": ["slow_learner"],
        },
    )

__all__ = [
    "LossInputs",
    "PolicyGradient",
    "PolicyGradientOptions",
    "Reader",
    "SlowLearner",
    "slow_learner",
]
