"""Slow learners by the name that ``[slow] algorithm`` gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from fastslow.config import SlowConfig, validate
from fastslow.plugins import Registry

if TYPE_CHECKING:
    from fastslow.slow.base import SlowLearner

Learner = TypeVar("Learner", bound="type[SlowLearner]")

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
)


def slow_learner(name: str) -> Callable[[Learner], Learner]:
    """Make a class available as ``[slow] algorithm``; its options stand in ``[slow.name]``."""

    def decorate(learner: Learner) -> Learner:
        learner.name = name
        LEARNERS.add(name, learner)
        return learner

    return decorate


def create(config: SlowConfig, max_tokens: int, source: str) -> SlowLearner:
    """The learner that ``[slow]`` names, with its own options.

    Raises:
        InputError: it is not known, or an option is wrong.
    """
    for name in config.tables:
        LEARNERS.find(name, f"{source}: [slow.{name}]")
    learner = LEARNERS.find(config.algorithm, source)
    table = config.tables.get(config.algorithm, {})
    options = validate(learner.Options, table, source, prefix=f"slow.{config.algorithm}")
    return learner(options, config, max_tokens)
