"""Fast learners by the name that ``[fast] algorithm`` gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastslow.config import FastConfig
from fastslow.plugins import Registry

if TYPE_CHECKING:
    from fastslow.fast.base import FastLearner, Tools

LEARNERS: Registry[FastLearner] = Registry(
    "fast.algorithm",
    group="fastslow.fast",
    built_in={
        name: f"fastslow.fast.{name}"
        for name in ("gepa", "bootstrap", "opro", "playbook", "frozen")
    },
    attribute="name",
)

fast_learner = LEARNERS.register
"""``@fast_learner("NAME")`` makes a class available as ``[fast] algorithm``."""


def create(config: FastConfig, tools: Tools, source: str = "config") -> FastLearner:
    """The fast learner that ``[fast]`` names. Raises: InputError, as ``FastConfig.find``."""
    learner, options = config.find(LEARNERS, source)
    return learner.build(options, tools)
