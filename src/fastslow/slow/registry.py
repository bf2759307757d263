"""Slow learners by the name that ``[slow] algorithm`` gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastslow.config import SlowConfig
from fastslow.plugins import Registry

if TYPE_CHECKING:
    from fastslow.slow.base import SlowLearner

LEARNERS: Registry[SlowLearner] = Registry(
    "slow.algorithm",
    group="fastslow.slow",
    built_in={
        name: f"fastslow.slow.{name}"
        for name in (
            *("cispo", "grpo", "dapo", "dr_grpo", "gspo", "reinforce"),
            *("sft", "distill", "opd"),
        )
    },
    attribute="name",
)

slow_learner = LEARNERS.register
"""``@slow_learner("NAME")`` makes a class available as ``[slow] algorithm``."""


def create(config: SlowConfig, max_tokens: int, source: str) -> SlowLearner:
    """The slow learner that ``[slow]`` names. Raises: InputError, as ``SlowConfig.find``."""
    learner, options = config.find(LEARNERS, source)
    return learner(options, config, max_tokens)
